"""What the Hub demands of a card's metadata: errors refuse the commit, warnings do not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from hub.cards import front_matter

__all__ = ["LICENCES", "validate_card"]

_LICENCES = """apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
    cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0
    gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl
    apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib
    pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3
    llama4 grok2-community gemma unknown other"""
LICENCES = frozenset(_LICENCES.split())
RELATIONS = ("adapter", "merge", "quantized", "finetune")
_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}")
_LICENCE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z0-9]+)*|code|multilingual")


def validate_card(content: str) -> tuple[list[str], list[str]]:
    """Errors and warnings, as sentences, for a whole README.md."""
    text = front_matter(content)
    if text is None or not text.strip():
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        card = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        return [f"YAML Metadata Error: {error}"], []
    if card is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(card, dict):
        return ["metadata must be a mapping"], []
    return [*_scalar_errors(card), *_parent_errors(card), *_index_errors(card.get("model-index"))], []


class _StrictLoader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = [loader.construct_object(key) for key, _ in node.value]
    twice = next((key for at, key in enumerate(seen) if key in seen[:at]), None)
    if twice is not None:
        raise yaml.YAMLError(f"duplicated mapping key {twice!r}")
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _several(card: Mapping[str, Any], key: str) -> Iterator[tuple[str, object]]:
    value = card.get(key)
    if isinstance(value, list):
        yield from ((f"{key}[{at}]", item) for at, item in enumerate(value))
    elif value is not None:
        yield key, value


def _scalar_errors(card: Mapping[str, Any]) -> Iterator[str]:
    for place, value in _several(card, "license"):
        if value not in LICENCES:
            yield f'"{place}" must be one of [{", ".join(sorted(LICENCES))}]'
    name = card.get("license_name")
    if name is not None and not (isinstance(name, str) and _LICENCE_NAME.fullmatch(name)):
        yield '"license_name" must be a lower case id without spaces'
    for key in ("library_name", "pipeline_tag", "license_link", "thumbnail", "new_version", "license_name"):
        if card.get(key) is not None and not isinstance(card[key], str):
            yield f'"{key}" must be a string'
    for place, value in (*_several(card, "tags"), *_several(card, "metrics")):
        if not isinstance(value, str):
            yield f'"{place}" must be a string'
    for place, value in _several(card, "language"):
        if not (isinstance(value, str) and _LANGUAGE.fullmatch(value)):
            yield f'"{place}" must be an ISO 639 code, "code" or "multilingual"'


def _parent_errors(card: Mapping[str, Any]) -> Iterator[str]:
    for key, page in (("base_model", "models"), ("datasets", "datasets")):
        for place, value in _several(card, key):
            if not (isinstance(value, str) and _ID.fullmatch(value)):
                yield f'"{place}" with value "{value}" is not valid. Use a {page[:-1]} id from https://hf.co/{page}.'
    relation = card.get("base_model_relation")
    if relation is not None and relation not in RELATIONS:
        yield f'"base_model_relation" must be one of [{", ".join(RELATIONS)}]'


def _index_errors(index: object) -> Iterator[str]:
    if index is None:
        return
    if not isinstance(index, list):
        yield '"model-index" must be an array'
        return
    for at, model in enumerate(index):
        place = f"model-index[{at}]"
        if not isinstance(model, dict) or not isinstance(model.get("results"), list):
            yield f'"{place}.results" is required'
            continue
        if not isinstance(model.get("name"), str):
            yield f'"{place}.name" is required'
        for number, result in enumerate(model["results"]):
            yield from _result_errors(f"{place}.results[{number}]", result)


def _result_errors(place: str, result: object) -> Iterator[str]:
    if not isinstance(result, dict):
        yield f'"{place}" must be of type object'
        return
    for key, fields in (("task", ("type",)), ("dataset", ("type", "name"))):
        for field in fields:
            part = result.get(key)
            if not isinstance(part, dict) or not isinstance(part.get(field), str):
                yield f'"{place}.{key}.{field}" is required'
    metrics = result.get("metrics")
    if not isinstance(metrics, list):
        yield f'"{place}.metrics" is required'
        return
    for at, metric in enumerate(metrics):
        for field in ("type", "value"):
            if not isinstance(metric, dict) or metric.get(field) is None:
                yield f'"{place}.metrics[{at}].{field}" is required'
