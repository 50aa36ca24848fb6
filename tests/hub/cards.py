"""A model card's front matter, and what the Hub reads out of it: tags, parents, task.

Parents are read from the card only: that the Hub would also read them from adapter_config.json is not documented.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

__all__ = ["base_models", "base_relation", "card_tags", "front_matter", "read_card", "strings"]

_FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)\r?\n?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_QUANTISED = {"gguf", "gptq", "awq", "exl2", "bitsandbytes", "fp8", "mlx", "quantized"}


def front_matter(text: str) -> str | None:
    """The YAML between the two lines ``---`` at the start, or None when there is none."""
    match = _FRONT_MATTER.match(text)
    return match[1] if match else None


def read_card(text: str) -> dict[str, Any]:
    """The front matter as a mapping; empty when it is missing or cannot be read."""
    try:
        value = yaml.safe_load(front_matter(text) or "")
    except yaml.YAMLError:
        return {}
    return value if isinstance(value, dict) else {}


def strings(value: object) -> tuple[str, ...]:
    """A string or a list of strings, as cards write one or several of something."""
    items = value if isinstance(value, list) else [value]
    return tuple(item for item in items if isinstance(item, str) and item)


def base_models(card: Mapping[str, Any]) -> tuple[str, ...]:
    return strings(card.get("base_model"))


def base_relation(card: Mapping[str, Any], config: Mapping[str, Any], files: Sequence[str]) -> str | None:
    """adapter, merge, quantized or finetune: the card's word, else inferred; None without a parent.

    The order of the inference is the documentation's: adapters, merges (several parents or the tag), quantised
    models; everything else with a parent is a fine-tune.
    """
    parents = base_models(card)
    if not parents:
        return None
    tags = {tag.lower() for tag in strings(card.get("tags"))}
    stated = card.get("base_model_relation")
    if isinstance(stated, str):
        return stated
    if card.get("library_name") == "peft" or "lora" in tags or "adapter_config.json" in files:
        return "adapter"
    if len(parents) > 1 or "merge" in tags:
        return "merge"
    if tags & _QUANTISED or config.get("quantization_config") or any(name.endswith(".gguf") for name in files):
        return "quantized"
    return "finetune"


def card_tags(
    card: Mapping[str, Any],
    *,
    config: Mapping[str, Any],
    files: Sequence[str],
    pipeline_tag: str | None,
    relation: str | None,
) -> list[str]:
    """The tags by which the Hub lists and filters a model, each once, in the Hub's order."""
    tags = [*strings(card.get("library_name"))]
    for ending, tag in ((".safetensors", "safetensors"), (".gguf", "gguf")):
        tags += [tag] if any(name.endswith(ending) for name in files) else []
    tags += [*strings(config.get("model_type")), *strings(pipeline_tag), *strings(card.get("tags"))]
    tags += ["model-index"] if card.get("model-index") else []
    tags += strings(card.get("language"))
    tags += [f"dataset:{name}" for name in strings(card.get("datasets"))]
    tags += [f"base_model:{name}" for name in base_models(card)]
    tags += [f"base_model:{relation}:{name}" for name in base_models(card) if relation]
    tags += [f"license:{name}" for name in strings(card.get("license"))]
    return list(dict.fromkeys([*tags, "region:us"]))
