"""Small configs of an architecture: two of different sizes, so that what a size depends on shows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hubmerge.symmetry.errors import SymmetryError

__all__ = ["LAYERS", "WIDTH_LISTS", "small_config", "small_model"]

LAYERS = re.compile(r"(^|_)(layers?|depth|num_blocks)$")
"""Fields that say how many layers there are."""

WIDTH_LISTS = re.compile(r"(sizes|dims|channels|widths|depths)$")
"""Fields that have a number for each stage."""

_WIDTHS = re.compile(r"(size|dim|width|channels|embd|inner|model|d_ff|planes|features)s?$")
_NO_WIDTHS = re.compile(
    r"vocab|image|patch|window|kernel|position|^num_|stride|chunk|type|cache|group|bucket|pool_size"
)
_HEADS = re.compile(r"(^|_)heads?$")
_HEAD_SIZES = re.compile(r"^(head_dim|d_kv|head_size|kv_channels|attention_head_size)$")
_POSITIONS = re.compile(r"(max_\w*positions?(_embeddings)?|n_positions|n_ctx)$")
_UNIT = (32, 96)
_LAYER_COUNTS = (2, 3)
_HEAD_COUNTS = (4, 12)
_GROUPED_HEADS = (2, 4)
_HEAD_SIZE = (16, 24)
_PLACES = (40, 44)
_LABELS = (5, 7)
_GIVEN = {"num_channels": (3, 4), "type_vocab_size": (3, 4), "vocab_size": (48, 56)}


def small_config(config: Mapping[str, Any], which: int) -> dict[str, Any]:
    """`config` with few and narrow layers.  which: 0 or 1, for the sizes of the first or the second small model.

    Equal widths stay equal and wider ones stay wider; a field that is not known for a size stays as it is.
    """
    widths = sorted(set(_widths(config)))
    places = {width: _UNIT[which] * multiple for width, multiple in zip(widths, _multiples(which), strict=False)}
    small = _shrunk(config, places, which)
    small["id2label"] = {str(label): f"label {label}" for label in range(_LABELS[which])}
    small["label2id"] = {name: int(label) for label, name in small["id2label"].items()}
    return {**{name: value for name, value in small.items() if name not in _BACKBONE}, "use_cache": False}


_BACKBONE = frozenset({"out_features", "out_indices", "stage_names"})
"""Fields that name layers, which the small models have fewer of; they concern what others read of a backbone."""


def _multiples(which: int) -> Iterator[int]:
    """Numbers without small divisors in common, so that few widths are the quotient or the difference of others by chance."""
    yield from (2, 3, 5, 7, 11, 13)[which:]
    yield from itertools.count(17, 4)


def _is_width(name: str) -> bool:
    return bool(_WIDTHS.search(name)) and not _NO_WIDTHS.search(name) and not _HEAD_SIZES.match(name)


def _widths(config: Mapping[str, Any]) -> Iterator[int]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _widths(value) if name.endswith("_config") else ()
        elif _is_width(name):
            numbers = value if isinstance(value, list | tuple) else [value]
            yield from (number for number in numbers if _counts(number) and number >= _LEAST)


_LEAST = 8
"""Narrower fields are colours and the like, which pictures decide."""


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _layer_counts(config: Mapping[str, Any]) -> list[int]:
    """The different numbers of layers, in ascending order: more of them stay more."""
    return sorted({value for name, value in config.items() if LAYERS.search(name) and _counts(value) and value > 0})


def _shrunk(config: Mapping[str, Any], places: Mapping[int, int], which: int) -> dict[str, Any]:
    return {name: _field(name, value, config, places, which) for name, value in config.items()}


def _field(name: str, value: Any, config: Mapping[str, Any], places: Mapping[int, int], which: int) -> Any:
    if isinstance(value, Mapping):
        return _shrunk(value, places, which) if name.endswith("_config") else value
    if isinstance(value, list | tuple):
        return _listed(name, value, places, which, _layer_counts(config))
    if not _counts(value):
        return value
    if name in _GIVEN and value > 1:
        return _GIVEN[name][which]
    rule = next((small for pattern, small in _RULES if pattern.search(name)), None)
    if rule is not None:
        return rule(value, config, which)
    return places.get(value, value) if _is_width(name) else value


def _layer_count(value: int, config: Mapping[str, Any], which: int) -> int:
    return _LAYER_COUNTS[which] + _layer_counts(config).index(value) if value > 0 else value


def _head_count(value: int, config: Mapping[str, Any], which: int) -> int:
    most = max(number for key, number in config.items() if _HEADS.search(key) and _counts(number))
    return value if value <= 1 else (_HEAD_COUNTS if value == most else _GROUPED_HEADS)[which]


def _head_size(_value: int, _config: Mapping[str, Any], which: int) -> int:
    return _HEAD_SIZE[which]


def _position_count(_value: int, _config: Mapping[str, Any], which: int) -> int:
    return _PLACES[which]


def _token(value: int, _config: Mapping[str, Any], _which: int) -> int:
    """Special tokens stay below those of texts."""
    return min(value, 2)


def _image_size(_value: int, config: Mapping[str, Any], which: int) -> int:
    patch: Any = config.get("patch_size")
    size: int = patch if _counts(patch) and patch >= _LEAST else 16
    return size * (4, 6)[which]


_RULES: tuple[tuple[re.Pattern[str], Callable[[int, Mapping[str, Any], int], int]], ...] = (
    (LAYERS, _layer_count),
    (_HEADS, _head_count),
    (_HEAD_SIZES, _head_size),
    (_POSITIONS, _position_count),
    (re.compile(r"_token_id$"), _token),
    (re.compile(r"^image_size$"), _image_size),
)


def _listed(name: str, values: Any, places: Mapping[int, int], which: int, layers: Sequence[int]) -> Any:
    if name == "depths":
        return [value if value <= 1 else _LAYER_COUNTS[which] for value in values]
    if _is_width(name):
        return [places.get(value, value) for value in values]
    if len(values) in layers and not all(map(_counts, values)):  # a word for each layer
        return list(values)[: _LAYER_COUNTS[which] + layers.index(len(values))]
    return list(values)


def small_model(config: Mapping[str, Any], where: str) -> Any:
    """A random model of a small config, in evaluation mode, that multiplies its attention out in full.

    Raises `PlanError` for a config that names no class of transformers, and `SymmetryError` where none can be made of it.
    """
    import torch

    from hubmerge.model_config import model_class

    concrete = model_class(config, where)
    try:
        own: Any = concrete.config_class.from_dict(dict(config))
        own._attn_implementation = "eager"  # noqa: SLF001 - the way transformers has for a config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return concrete(own).eval()
    except Exception as error:  # whatever a config may refuse
        told = " ".join(str(error).split())
        raise SymmetryError(
            f"no small model of class {concrete.__name__} can be made ({type(error).__name__}: {told[:200]})",
            where=where,
            hint="write its table by hand, as zoo_index/families/family.py tells",
        ) from error
