"""Who descends from whom, as the files of one model declare it: each edge with its source and how far to trust it.

No source is taken for the truth: a card is typed by hand and can name a local path, the model itself, or the root of a
training run; so every source's edge is kept, most trusted first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from zoo_index.merge_recipes import recipe_parents
from zoo_index.plain import one_line
from zoo_index.reference import is_local_name

__all__ = ["SOURCES", "SOURCE_WORDS", "Confidence", "Edge", "EdgeSource", "Relation", "find_edges", "same_name"]

Relation = Literal["finetune", "adapter", "merge", "quantized", "unknown"]
EdgeSource = Literal[
    "manifest", "mergekit_config", "adapter_config", "card_recipe", "card", "hub_tag", "card_text", "config"
]
Confidence = Literal["high", "medium", "low"]

SOURCES: tuple[EdgeSource, ...] = get_args(EdgeSource)
"""Every source, most trusted first."""
SOURCE_WORDS: Mapping[EdgeSource, str] = {
    "manifest": "hubmerge.json",
    "mergekit_config": "mergekit_config.yml",
    "adapter_config": "adapter_config.json",
    "card_recipe": "the recipe in the card",
    "card": "the card",
    "hub_tag": "the Hub's tag",
    "card_text": "the card's text",
    "config": "config.json",
}
"""Every source as people know it."""

_RELATIONS: dict[str, Relation] = {name: name for name in ("finetune", "adapter", "merge", "quantized")}
_MERGE_TAGS = {"merge", "mergekit", "lazymergekit", "hubmerge"}
_MAX_PARENTS = 100


class Edge(BaseModel):
    """`child` was made from `parent`.

    parent: as its source writes it (a Hub name or a path, which may mean nothing on this machine).  source: manifest
    (hubmerge.json), mergekit_config (mergekit_config.yml), adapter_config, card_recipe (a merge recipe in the card's
    text), card (its metadata), hub_tag (``base_model:REL:ID``), card_text (a sentence), or config (``_name_or_path``).
    confidence: high for what a tool wrote, medium for what a person typed or the Hub derived from that, low for
    sentences and for paths of unknown origin.  commit: the parent's, where it is pinned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    child: str
    parent: str
    relation: Relation
    source: EdgeSource
    confidence: Confidence
    commit: str | None = None


def find_edges(
    child: str,
    *,
    manifest: Mapping[str, Any] | None = None,
    adapter_config: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    mergekit: Mapping[str, Any] | None = None,
    card_text: Mapping[str, Any] | None = None,
    hub_tags: Iterable[str] = (),
) -> tuple[Edge, ...]:
    """Every edge that the parsed files of `child` declare, most trusted source first, one per parent and source.

    mergekit: `merge_recipes.parse_recipe` of mergekit_config.yml; card_text: ``recipe`` and ``trained_from`` of the
    card's text.  An edge to the child itself is dropped.  A card with several base models and no relation is a merge.
    """
    said = card_text or {}
    quantised = bool((config or {}).get("quantization_config"))
    found = [
        *_from_manifest(child, manifest or {}),
        *_from_recipe(child, mergekit, "mergekit_config", "high"),
        *_from_adapter_config(child, adapter_config or {}),
        *_from_recipe(child, said.get("recipe"), "card_recipe", "medium"),
        *_from_card(child, card or {}, adapter=bool(adapter_config), quantised=quantised),
        *_from_hub_tags(child, hub_tags),
        *_from_sentence(child, said.get("trained_from") or (card or {}).get("finetuned_from")),
        *_from_config(child, config or {}),
    ]
    unique: dict[tuple[str, str], Edge] = {}
    for edge in found:
        if not _is_self(edge):
            unique.setdefault((edge.parent.casefold(), edge.source), edge)
    return tuple(unique.values())


def same_name(left: str, right: str) -> bool:
    """Whether two names can mean one model: equal but for case, or one is the other's last part or parts.

    ``gpt2`` is ``openai-community/gpt2``; ``./zoo/base`` is ``/data/zoo/base``; revisions are ignored.
    """
    a, b = _parts(left), _parts(right)
    length = min(len(a), len(b))
    if left.startswith("/") and right.startswith("/") and len(a) != len(b):
        return False
    return length > 0 and a[-length:] == b[-length:]


def _parts(name: str) -> list[str]:
    plain = name if is_local_name(name) else name.split("@", 1)[0]
    return [part for part in plain.replace("\\", "/").casefold().split("/") if part not in ("", ".", "..", "~")]


def _is_self(edge: Edge) -> bool:
    return edge.parent.rstrip("/").casefold() in {edge.child.casefold(), edge.child.split("@", 1)[0].casefold()}


def _from_manifest(child: str, manifest: Mapping[str, Any]) -> Iterable[Edge]:
    for parent in _list(manifest.get("parents")):
        if not isinstance(parent, dict):
            continue
        for field, pin in (("reference", "commit"), ("adapter", "adapter_commit")):
            name = one_line(parent.get(field))
            if name:
                commit = one_line(parent.get(pin))
                yield Edge(
                    child=child, parent=name, relation="merge", source="manifest", confidence="high", commit=commit
                )


def _from_recipe(child: str, recipe: object, source: EdgeSource, confidence: Confidence) -> Iterable[Edge]:
    for name in recipe_parents(recipe) if isinstance(recipe, Mapping) else ():
        trust: Confidence = "low" if is_local_name(name) else confidence
        yield Edge(child=child, parent=name, relation="merge", source=source, confidence=trust)


def _from_adapter_config(child: str, adapter_config: Mapping[str, Any]) -> Iterable[Edge]:
    name = one_line(adapter_config.get("base_model_name_or_path"))
    if name:
        commit = one_line(adapter_config.get("revision"))
        trust: Confidence = "medium" if is_local_name(name) else "high"
        yield Edge(
            child=child, parent=name, relation="adapter", source="adapter_config", confidence=trust, commit=commit
        )


def _from_card(child: str, card: Mapping[str, Any], *, adapter: bool, quantised: bool) -> Iterable[Edge]:
    parents = [name for name in map(one_line, _list(card.get("base_model"))) if name]
    relation = _RELATIONS.get(str(card.get("base_model_relation")))
    if relation is None:
        tags = {str(tag).casefold() for tag in _list(card.get("tags"))}
        merged = len(set(parents)) > 1 or not _MERGE_TAGS.isdisjoint(tags)
        relation = "adapter" if adapter else "merge" if merged else "quantized" if quantised else "finetune"
    for name in parents:
        yield Edge(
            child=child,
            parent=name,
            relation=relation,
            source="card",
            confidence="low" if is_local_name(name) else "medium",
        )


def _from_hub_tags(child: str, tags: Iterable[str]) -> Iterable[Edge]:
    # base_model:ID and base_model:REL:ID come side by side; the Hub keeps names of today in them
    relations: dict[str, Relation] = {}
    for tag in tags:
        prefix, _, rest = tag.partition("base_model:")
        relation, colon, name = rest.partition(":")
        if prefix or not rest:
            continue
        if colon and relation in _RELATIONS:
            relations[name] = _RELATIONS[relation]
        elif not colon:
            relations.setdefault(rest, "unknown")
    for name, found in list(relations.items())[:_MAX_PARENTS]:
        yield Edge(
            child=child,
            parent=name,
            relation=found,
            source="hub_tag",
            confidence="low" if is_local_name(name) else "medium",
        )


def _from_sentence(child: str, value: object) -> Iterable[Edge]:
    name = one_line(value)
    if name:
        yield Edge(child=child, parent=name, relation="finetune", source="card_text", confidence="low")


def _from_config(child: str, config: Mapping[str, Any]) -> Iterable[Edge]:
    # the path the model was loaded from when it was saved: transformers 4 wrote it, 5 no longer does
    name = one_line(config.get("_name_or_path"))
    if name:
        yield Edge(child=child, parent=name, relation="unknown", source="config", confidence="low")


def _list(value: object) -> list[Any]:
    return (value if isinstance(value, list) else [] if value is None else [value])[:_MAX_PARENTS]
