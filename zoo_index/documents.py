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
from zoo_index.hub import ModelSource
from zoo_index.plain import Json, one_line, plain
from zoo_index.tensors import TensorTable

__all__ = ["Kind", "Reading", "fault_sentence", "read_files"]

Kind = Literal["model", "adapter"]

_CARD_BYTES = 262_144


@dataclass(frozen=True)
class Reading:
    """What was read of one model's small files and headers: the input of `build_record`.

    documents: file name -> its content as plain JSON (README.md: the front matter).  table: None when the weights
    could not be read, and then `refusals` says why.
    """

    kind: Kind
    documents: Mapping[str, dict[str, Json]]
    table: TensorTable | None
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]


def read_files(source: ModelSource) -> Reading:
    """A source's documents and headers; damaged weights or configs become refusals, other damage a warning."""
    files = source.files()
    where = str(source.pinned)
    if "config.json" not in files and "adapter_config.json" not in files:
        raise CheckpointError(
            "no config.json and no adapter_config.json, so this is neither a model nor an adapter",
            where=where,
            hint="name the folder that from_pretrained would take",
        )
    kind = _kind(files)
    documents: dict[str, dict[str, Json]] = {}
    refusals: list[str] = []
    warnings: list[str] = []
    own = "adapter_config.json" if kind == "adapter" else "config.json"
    for name in ("config.json", "adapter_config.json", "hubmerge.json"):
        try:
            document = read_json(source, name)
            if document is not None:
                documents[name] = _as_object(plain(document, where=where))
        except HubmergeError as fault:
            (refusals if name == own else warnings).append(fault_sentence(fault))
    card, complaint = _read_card(source)
    if card:
        documents["README.md"] = card
    if complaint:
        warnings.append(complaint)
    if kind == "model" and "config.json" in documents:
        refusals += _config_refusals(source, documents["config.json"])
    try:
        table = read_adapter_table(source) if kind == "adapter" else read_tensor_table(source)
    except HubmergeError as fault:
        table = None
        refusals.append(fault_sentence(fault))
    return Reading(kind, documents, table, tuple(refusals), tuple(warnings))


def fault_sentence(fault: HubmergeError) -> str:
    """What is wrong and what to do, without the place: the record's own reference is the place."""
    text = " · ".join(part for part in (fault.message, fault.hint) if part)
    return " ".join(str(plain(text)).split())  # it may quote a strange file name


def _kind(files: Mapping[str, int]) -> Kind:
    if "adapter_config.json" not in files:
        return "model"
    # adapters are often saved beside the config.json of their base
    weights = any(name.startswith("model") and name.endswith(".safetensors") for name in files)
    return "model" if "config.json" in files and weights and ADAPTER_WEIGHTS not in files else "adapter"


def _config_refusals(source: ModelSource, config: Mapping[str, Json]) -> list[str]:
    found: list[str] = []
    try:
        read_config(source)
    except HubmergeError as fault:
        found.append(fault_sentence(fault))
    auto_map = config.get("auto_map")
    if isinstance(auto_map, dict) and auto_map:
        code = one_line(next(iter(auto_map.values()))) or "auto_map"
        found.append(
            f"the model needs code of its own ({code}), which is never run · use an architecture of transformers"
        )
    return found


def _read_card(source: ModelSource) -> tuple[dict[str, Json], str | None]:
    """The front matter of README.md and, when there is one that cannot be read, a warning."""
    import yaml

    if "README.md" not in source.files():
        return {}, None
    try:
        text = source.read("README.md", 0, _CARD_BYTES).decode("utf-8", errors="replace").removeprefix("\ufeff")
        lines = text.splitlines()
        if not lines or lines[0].rstrip() != "---":
            return {}, None
        end = next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
        if end is None:
            return {}, "README.md: its front matter has no end (a line of ---)"
        value = yaml.safe_load("\n".join(lines[1:end]))
        if value is not None and not isinstance(value, dict):
            return {}, "README.md: its front matter is not a mapping"
        return _as_object(plain(value or {}, where="README.md")), None
    except HubmergeError as fault:
        return {}, f"README.md: {fault_sentence(fault)}"
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        # safe_load raises ValueError and TypeError for impossible dates and for keys that cannot be keys
        return {}, f"README.md: its front matter is not YAML ({one_line(str(error))})"


def _as_object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}
