"""A model's files -> `ModelRecord`: everything that can be known without reading its weights.

A model that cannot be merged gets a record too, with the reasons in `refusals`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from zoo_index.architecture import Architecture, read_architecture
from zoo_index.documents import CARD_TEXT, Kind, Reading, fault_sentence, read_files
from zoo_index.errors import CheckpointError
from zoo_index.fingerprint import core_signature, is_vocabulary_tensor, tokenizer_signature
from zoo_index.hub import ModelSource
from zoo_index.hub_listing import HubFacts
from zoo_index.lineage import Edge, find_edges
from zoo_index.plain import Json, one_line
from zoo_index.tensors import TensorTable

__all__ = [
    "AdapterFacts",
    "ModelRecord",
    "build_record",
    "catalog_name",
    "read_adapter_record",
    "read_record",
]

_MAX_TAGS = 100


class AdapterFacts(BaseModel):
    """What adapter_config.json says.  `base`: the model it was trained on, as written there; alpha / r is its scale."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    peft_type: str
    base: str | None = None
    base_commit: str | None = None
    r: int | None = None
    alpha: float | None = None
    target_modules: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    dora: bool = False
    rslora: bool = False
    patterns: bool = False
    task_type: str | None = None


class ModelRecord(BaseModel):
    """One model or adapter at one state of its files.

    reference: ``org/name`` (``org/name@revision`` off its main branch) or the folder's absolute path.
    signature, core_signature: of the shapes, the second without embeddings and heads, which `vocabulary` lists by
    name.  dtypes: torch name -> elements stored in it.  refusals: why it cannot be merged at all; empty when it can.
    base_models: declared lineage.  hub: what the Hub tells beside the files, None for a model that was read from disk.
    Fields that the files do not state are None or empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str
    commit: str | None = None
    kind: Kind
    model_type: str | None = None
    architectures: tuple[str, ...] = ()
    architecture: Architecture = Architecture()
    adapter: AdapterFacts | None = None
    parameters: int | None = None
    tensors: int | None = None
    bytes: int | None = None
    dtypes: Mapping[str, int] = {}
    signature: str | None = None
    core_signature: str | None = None
    vocabulary: Mapping[str, tuple[int, ...]] = {}
    tokenizer_signature: str | None = None
    licence: str | None = None
    licence_name: str | None = None
    base_models: tuple[Edge, ...] = ()
    pipeline_tag: str | None = None
    library: str | None = None
    tags: tuple[str, ...] = ()
    hub: HubFacts | None = None
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return self.model_dump(mode="json")


def read_record(source: ModelSource) -> ModelRecord:
    """The record of a model or adapter; reads small files and headers, never weights.

    Raises `CheckpointError` when the source holds neither config.json nor adapter_config.json.
    """
    return build_record(source, read_files(source))


def read_adapter_record(source: ModelSource) -> ModelRecord:
    """`read_record` of what must be an adapter; `CheckpointError` when it is a model."""
    record = read_record(source)
    if record.kind != "adapter":
        raise CheckpointError(
            "a model, not an adapter", where=str(source.pinned), hint="name a folder with adapter_config.json"
        )
    return record


def catalog_name(source: ModelSource) -> str:
    """The name a source is recorded under: the absolute path of a folder, the Hub name otherwise."""
    reference = source.pinned.reference.model
    return str(reference.path.resolve()) if reference.is_local else str(reference)


def build_record(
    source: ModelSource,
    reading: Reading,
    *,
    hub: HubFacts | None = None,
    tokenizer_of: Callable[[ModelSource], str | None] = tokenizer_signature,
) -> ModelRecord:
    """The record behind one reading; of the source itself only the tokenizer is still read, by `tokenizer_of`."""
    documents, table = reading.documents, reading.table
    config, card = documents.get("config.json", {}), documents.get("README.md", {})
    reference = catalog_name(source)
    architecture = read_architecture(config)
    warnings = list(reading.warnings)
    try:
        tokenizer = tokenizer_of(source)
    except CheckpointError as fault:
        tokenizer = None
        warnings.append(fault_sentence(fault))
    adapter = _adapter_facts(documents["adapter_config.json"]) if "adapter_config.json" in documents else None
    edges = find_edges(
        reference,
        manifest=documents.get("hubmerge.json"),
        adapter_config=documents.get("adapter_config.json") if reading.kind == "adapter" else None,
        card=card,
        config=config,
        mergekit=documents.get("mergekit_config.yml"),
        card_text=documents.get(CARD_TEXT),
        hub_tags=hub.tags if hub else (),
    )
    return ModelRecord(
        reference=reference,
        commit=source.pinned.commit,
        kind=reading.kind,
        model_type=one_line(config.get("model_type")),
        architectures=_lines(config.get("architectures")),
        architecture=architecture,
        adapter=adapter if reading.kind == "adapter" else None,
        tokenizer_signature=tokenizer,
        licence=_licence(card.get("license")),
        licence_name=one_line(card.get("license_name")),
        base_models=edges,
        pipeline_tag=one_line(card.get("pipeline_tag")) or (hub.pipeline_tag if hub else None),
        library=one_line(card.get("library_name")) or (hub.library if hub else None),
        tags=(hub.tags if hub else _lines(card.get("tags")))[:_MAX_TAGS],
        hub=hub,
        refusals=reading.refusals,
        warnings=tuple(warnings),
        **({} if table is None else _weight_facts(table)),
    )


def _weight_facts(table: TensorTable) -> dict[str, Any]:
    return {
        "parameters": table.parameters,
        "tensors": len(table),
        "bytes": table.nbytes,
        "dtypes": {dtype.torch_name: count for dtype, count in table.dtypes.items()},
        "signature": table.signature(),
        "core_signature": core_signature(table),
        "vocabulary": {name: meta.shape for name, meta in table.items() if is_vocabulary_tensor(name)},
    }


def _adapter_facts(config: Mapping[str, Json]) -> AdapterFacts:
    return AdapterFacts(
        peft_type=(one_line(config.get("peft_type")) or "unknown").upper(),
        base=one_line(config.get("base_model_name_or_path")),
        base_commit=one_line(config.get("revision")),
        r=_count(config.get("r")),
        alpha=_number(config.get("lora_alpha")),
        target_modules=tuple(sorted(_lines(config.get("target_modules")))),
        modules_to_save=tuple(sorted(_lines(config.get("modules_to_save")))),
        dora=config.get("use_dora") is True,
        rslora=config.get("use_rslora") is True,
        patterns=bool(config.get("rank_pattern") or config.get("alpha_pattern")),
        task_type=one_line(config.get("task_type")),
    )


def _licence(value: Json) -> str | None:
    names = _lines(value)
    return ", ".join(names).casefold() or None


def _lines(value: Json) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(line for line in map(one_line, items) if line)


def _count(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def _number(value: Json) -> float | None:
    return (
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12 else None
    )
