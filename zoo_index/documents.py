"""The small files and headers of one model, read once and made safe: what a record is built from.

A model that cannot be merged (quantised, pickle, damaged) is read as far as it goes, with the reasons; a broken card is
only a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from zoo_index.checkpoint import ADAPTER_WEIGHTS, read_adapter_table, read_config, read_json, read_tensor_table
from zoo_index.errors import CheckpointError, HubmergeError
from zoo_index.float8 import float8_scheme, split_scales
from zoo_index.front_matter import front_matter
from zoo_index.hub import ModelSource
from zoo_index.merge_recipes import find_recipe, parse_recipe, trained_from
from zoo_index.plain import Json, one_line, plain
from zoo_index.quantised import packed_fault, quantisation_of
from zoo_index.tensors import TensorTable

__all__ = ["CARD_TEXT", "Kind", "Reading", "fault_sentence", "kind_of", "read_files"]

Kind = Literal["model", "adapter"]

CARD_TEXT = "README.md text"
"""The document of what a card says in its text: ``recipe`` (see `merge_recipes`), ``trained_from``."""

_TEXT_BYTES = 262_144


@dataclass(frozen=True)
class Reading:
    """What was read of one model's small files and headers: the input of `build_record`.

    documents: file name -> its content as plain JSON (README.md: the front matter; `CARD_TEXT`: what was found below
    it).  table: None when the weights could not be read, and then `refusals` says why.
    """

    kind: Kind
    documents: Mapping[str, dict[str, Json]]
    table: TensorTable | None
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]


def read_files(source: ModelSource) -> Reading:
    """A source's documents and headers; damaged weights or configs become refusals, other damage a warning.

    Raises `CheckpointError` when the source is neither model nor adapter, and `HubError` when the Hub hands a file not
    out: that is no fault of the model's.
    """
    files = source.files()
    where = str(source.pinned)
    if "config.json" not in files and "adapter_config.json" not in files:
        raise CheckpointError(
            "no config.json and no adapter_config.json, so this is neither a model nor an adapter",
            where=where,
            hint="name the folder that from_pretrained would take",
        )
    kind = kind_of(files)
    documents: dict[str, dict[str, Json]] = {}
    refusals: list[str] = []
    warnings: list[str] = []
    own = "adapter_config.json" if kind == "adapter" else "config.json"
    for name in ("config.json", "adapter_config.json", "hubmerge.json"):
        try:
            document = read_json(source, name)
            if document is not None:
                documents[name] = _as_object(plain(document, where=where))
        except CheckpointError as fault:
            (refusals if name == own else warnings).append(fault_sentence(fault))
    recipe = _read_recipe(source)
    if recipe:
        documents["mergekit_config.yml"] = recipe
    told, complaint = _read_card(source)
    documents |= told
    if complaint:
        warnings.append(complaint)
    if kind == "model" and "config.json" in documents:
        try:
            read_config(source)
        except CheckpointError as fault:
            refusals.append(fault_sentence(fault))
        warnings += _own_code(documents["config.json"])
    table, refusal = _read_table(source, kind, documents.get("config.json", {}))
    if refusal is not None and (table is None or not refusals):
        refusals.append(fault_sentence(refusal))
    return Reading(kind, documents, table, tuple(refusals), tuple(warnings))


def _read_table(
    source: ModelSource, kind: Kind, config: Mapping[str, Json]
) -> tuple[TensorTable | None, CheckpointError | None]:
    """The tensors (without the scales of float8 weights), and what keeps them from being merged."""
    try:
        if kind == "adapter":
            return read_adapter_table(source), None
        table = read_tensor_table(source)
        quantisation = quantisation_of(config)
        scheme = float8_scheme(quantisation) if quantisation is not None else None
        table, _ = split_scales(table, scheme, str(source.pinned))
    except CheckpointError as fault:
        return None, fault
    return table, packed_fault(table, config, source)


def fault_sentence(fault: HubmergeError) -> str:
    """What is wrong and what to do, without the place: the record's own reference is the place."""
    text = " · ".join(part for part in (fault.message, fault.hint) if part)
    return " ".join(str(plain(text)).split())  # it may quote a strange file name


def kind_of(files: Mapping[str, int]) -> Kind:
    """Whether files are those of a model or of an adapter; what is neither counts as a model."""
    if "adapter_config.json" not in files:
        return "model"
    # adapters are often saved beside the config.json of their base
    weights = any(name.startswith("model") and name.endswith(".safetensors") for name in files)
    return "model" if "config.json" in files and weights and ADAPTER_WEIGHTS not in files else "adapter"


def _own_code(config: Mapping[str, Json]) -> list[str]:
    """A warning for a model with its own code: its weights are merged without it, and it is not run unasked."""
    auto_map = config.get("auto_map")
    if not isinstance(auto_map, dict) or not auto_map:
        return []
    code = one_line(next(iter(auto_map.values()))) or "auto_map"
    return [f"the model brings its own code ({code}), which runs only with trust_remote_code=True"]


def _text(source: ModelSource, name: str) -> str:
    """The beginning of a text file; empty when the model has no such file."""
    return source.read(name, 0, _TEXT_BYTES).decode("utf-8", errors="replace") if name in source.files() else ""


def _read_recipe(source: ModelSource) -> dict[str, Json] | None:
    try:
        return parse_recipe(_text(source, "mergekit_config.yml"))
    except CheckpointError:
        return None


def _read_card(source: ModelSource) -> tuple[dict[str, dict[str, Json]], str | None]:
    """The documents in README.md and, when it or its front matter cannot be read, a warning."""
    try:
        text = _text(source, "README.md").removeprefix("\ufeff")
    except CheckpointError as fault:
        return {}, f"README.md: {fault_sentence(fault)}"
    metadata, complaint = front_matter(text)
    said: dict[str, Json] = {"recipe": find_recipe(text), "trained_from": trained_from(text)}
    said = {key: value for key, value in said.items() if value is not None}
    documents = {"README.md": metadata, CARD_TEXT: said}
    told = {name: content for name, content in documents.items() if content}
    return told, f"README.md: {complaint}" if complaint else None


def _as_object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}
