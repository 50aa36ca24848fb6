"""Which tensors are layers: stacks of equal parts counted from 0, found in the names, and what a config calls their number.

There is no list of architectures.  A stack is a prefix, like ``model.layers.``, whose next number runs from 0 without a
hole; a config counts it under one of a few keys, like ``num_hidden_layers``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["LayerStack", "comes_before", "count_keys", "counted_stacks", "layer_stacks"]

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_BEFORE = (
    "embed", "wte", "wpe", "shared.weight", "patch", "project_in", "feature_extractor", "feature_projection", "pre_layrnorm", "ln_pre", "conv1.",
    "conv2.",
)  # fmt: skip
_HEADS = ("embed_out",)
_SMALL = 4
"""A stack with less than a quarter of the tensors per layer that the largest has is none: a head with numbered parts."""
_COUNTS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "num_encoder_layers", "decoder_layers",
    "num_decoder_layers", "depth",
)  # fmt: skip


@dataclass(frozen=True)
class LayerStack:
    """Layers 0 to `count` - 1 of a model: names that begin with `prefix`, a number and a dot."""

    prefix: str
    count: int

    def split(self, name: str) -> tuple[int, str] | None:
        """The layer that `name` is in and the rest of it; None for a tensor outside."""
        match = _NUMBER.match(name, len(self.prefix)) if name.startswith(self.prefix) else None
        return (int(match.group()), name[match.end() + 1 :]) if match else None

    def name(self, layer: int, rest: str) -> str:
        """The name of a tensor in another layer."""
        return f"{self.prefix}{layer}.{rest}"


def comes_before(name: str) -> bool:
    """Whether a tensor outside the layers is an embedding or the like, and so comes before them; all others come after."""
    return any(part in name for part in _BEFORE) and not any(part in name for part in _HEADS)


def layer_stacks(names: Iterable[str]) -> tuple[LayerStack, ...]:
    """The stacks of one model, in alphabetical order.

    Counted is the first number in a name (``layers.3.experts.7``: 3), from 0 without a hole.
    """
    found: dict[str, list[int]] = {}
    for name in names:
        if match := _NUMBER.search(name):
            found.setdefault(name[: match.start()], []).append(int(match.group()))
    full = {prefix: layers for prefix, layers in found.items() if set(layers) == set(range(len(set(layers))))}
    size = {prefix: len(layers) / len(set(layers)) for prefix, layers in full.items()}
    largest = max(size.values(), default=0)
    return tuple(LayerStack(p, len(set(full[p]))) for p in sorted(full) if _SMALL * size[p] >= largest)


def count_keys(config: Mapping[str, Any], count: int) -> tuple[tuple[str, ...], ...]:
    """Where a config says that there are `count` layers: paths of keys, ``("text_config", "num_hidden_layers")``."""
    own = [(key,) for key in _COUNTS if config.get(key) == count and not isinstance(config[key], bool)]
    nested = [
        (outer, *path)
        for outer, inner in config.items()
        if isinstance(inner, Mapping) and (outer.endswith("_config") or outer in {"encoder", "decoder"})
        for path in count_keys(inner, count)
    ]
    return (*own, *nested)


def counted_stacks(names: Iterable[str], config: Mapping[str, Any]) -> tuple[LayerStack, ...]:
    """The stacks whose number of layers the config knows; all of them when it knows none."""
    stacks = layer_stacks(names)
    return tuple(stack for stack in stacks if count_keys(config, stack.count)) or stacks
