"""config.json of stacked layers: their number, and every list in it that says something of each layer.

Lists with an entry per layer (``layer_types``) get the entries of the layers chosen, lists of layer numbers
(``mlp_only_layers``) the new numbers.  What makes a layer's kind depend on its number alone (``sliding_window_pattern``)
cannot be rewritten, and is refused where a layer would become another kind.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hubmerge.errors import PlanError, shown
from hubmerge.layers import LayerStack, count_keys
from zoo_index.errors import HubmergeError

__all__ = ["ChosenLayer", "kinds_are_stated", "stacked_config"]

_PER_LAYER = re.compile(r"layer|block|attn|attention|mlp|window|sliding|rope|types")
_NEVER = re.compile(r"token|label|arch|keys_to|indices\Z|indexes\Z|idxs\Z|suppress|size\Z")
_MANY = 8
"""A list as long as a model of this many layers is one of its layers, whatever it is called."""
_PERIODS = re.compile(r"(pattern|period|interval|freq|frequency|every_n_layers|sparse_step)\Z")
_THRESHOLDS = ("first_k_dense_replace", "num_dense_layers")
_KINDS = "layer_types"


@dataclass(frozen=True)
class ChosenLayer:
    """A layer of the output: layer `layer` of a model with this config; `model` is its name."""

    model: str
    config: Mapping[str, Any]
    layer: int


def stacked_config(
    config: Mapping[str, Any], stack: LayerStack, chosen: Sequence[ChosenLayer], where: str
) -> dict[str, Any]:
    """The config of a model whose layers are `chosen`, written into `config`, that of a model with the layers of `stack`.

    Raises `PlanError` when it is not known where a config counts these layers, or what a layer's number decides.
    """
    patched = copy.deepcopy(dict(config))
    keys = _keys_of(config, stack)
    if not keys and len(chosen) != stack.count:
        raise PlanError(
            f"the config does not say that there are {stack.count} layers {stack.prefix}, so {len(chosen)} cannot be written",
            where=where,
            hint="write num_hidden_layers into it if that is what the model's code reads",
        )
    faults: list[HubmergeError] = []
    for path in keys:
        _holder(patched, path[:-1])[path[-1]] = len(chosen)
    for place in dict.fromkeys([path[:-1] for path in keys] or [()]):
        faults += _patch_lists(patched, place, stack.count, chosen, where)
        faults += _numbers_that_decide(config, place, chosen, where)
    if faults:
        raise PlanError.of(faults)
    return patched


def kinds_are_stated(config: Mapping[str, Any], stack: LayerStack) -> bool:
    """Whether a config says, in a list or by a period, of which kind each layer is."""
    for place in dict.fromkeys([path[:-1] for path in _keys_of(config, stack)]):
        for key, value in _holder(config, place).items():
            listed = isinstance(value, list) and (len(value) == stack.count or _numbers(value, stack.count))
            if listed and value and _PER_LAYER.search(key) and not _NEVER.search(key):
                return True
            if _PERIODS.search(key) and isinstance(value, int) and value > 1:
                return True
    return False


def _keys_of(config: Mapping[str, Any], stack: LayerStack) -> list[tuple[str, ...]]:
    """Of the keys that hold the stack's number of layers those that mean it: not the decoder's for an encoder, and so on."""
    keys = count_keys(config, stack.count)
    words = [word for word in ("encoder", "decoder", "vision", "audio") if _says(stack.prefix, word)]
    own = [path for path in keys if any(_says(".".join(path), word) for word in words)]
    named = {word for path in keys for word in ("encoder", "decoder", "vision", "audio") if _says(".".join(path), word)}
    plain = [path for path in keys if not any(_says(".".join(path), word) for word in named)]
    outer = [path for path in plain if len(path) == 1]
    return [*own, *(outer or plain)] if not own or "encoder" in words else own


def _says(text: str, word: str) -> bool:
    return re.search(rf"(?<![a-z]){word}|_{word}", text) is not None


def _holder(config: Mapping[str, Any], place: Sequence[str]) -> Any:
    inner: Any = config
    for key in place:
        inner = inner.get(key, {}) if isinstance(inner, Mapping) else {}
    return inner


def _lists(holder: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    return ((key, value) for key, value in holder.items() if isinstance(value, list) and value)


def _numbers(value: Any, count: int) -> bool:
    """Whether a list holds layer numbers: whole, rising, all below `count`."""
    whole = isinstance(value, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in value)
    return whole and all(0 <= n < count for n in value) and all(a < b for a, b in pairwise(value))


def _patch_lists(
    patched: dict[str, Any], place: tuple[str, ...], count: int, chosen: Sequence[ChosenLayer], where: str
) -> Iterator[HubmergeError]:
    holder = _holder(patched, place)
    for key, value in list(_lists(holder)):
        name = ".".join((*place, key))
        own = [_holder(layer.config, place).get(key) for layer in chosen]
        if re.search(r"layer|idx|indices|indexes", key) and _numbers(value, count) and count > 1:
            holder[key] = [
                j for j, (layer, list_) in enumerate(zip(chosen, own, strict=True)) if layer.layer in (list_ or [])
            ]
        elif all(_is_repeat(item) for item in value) and sum(len(i[0]) * i[1] for i in value) == count:
            kinds = [[kind for item in list_ or [] for kind in item[0] * item[1]] for list_ in own]
            holder[key] = [[[kinds[j][layer.layer] for j, layer in enumerate(chosen)], 1]]
        elif len(value) == count and not _NEVER.search(key) and (_PER_LAYER.search(key) or count >= _MANY):
            short = next(
                (i for i, list_ in enumerate(own) if not isinstance(list_, list) or len(list_) <= chosen[i].layer), None
            )
            if short is not None:
                yield PlanError(
                    f"{name} says something of each layer, but nothing of layer {chosen[short].layer} of {chosen[short].model}",
                    where=where,
                    hint=f"write {name} into that model's config.json too",
                )
                continue
            holder[key] = [list_[layer.layer] for layer, list_ in zip(chosen, own, strict=True)]


def _is_repeat(item: Any) -> bool:
    """GPT-Neo's ``[["global", "local"], 6]``: kinds of layers, and how often they follow one another."""
    return isinstance(item, list) and len(item) == 2 and isinstance(item[0], list) and isinstance(item[1], int)


def _numbers_that_decide(
    config: Mapping[str, Any], place: tuple[str, ...], chosen: Sequence[ChosenLayer], where: str
) -> Iterator[HubmergeError]:
    """A fault for every key that gives a layer its kind by its number, where a chosen layer would become another kind."""
    holder = _holder(config, place)
    if isinstance(holder.get(_KINDS), list):
        return
    thresholds = (*_THRESHOLDS, *(("max_window_layers",) if holder.get("use_sliding_window") else ()))
    for key, value in holder.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            continue
        for j, layer in enumerate(chosen):
            by_turns = _PERIODS.search(key) is not None and j % value != layer.layer % value
            by_size = key in thresholds and (j < value) != (layer.layer < value)
            if by_turns or by_size:
                yield PlanError(
                    f"{'.'.join((*place, key))} {shown(value)} gives a layer its kind by its number, and layer {j} of the"
                    f" output is layer {layer.layer} of {layer.model}",
                    where=where,
                    hint="take layers so that each keeps its kind, or write layer_types into the models' config.json",
                )
                break
