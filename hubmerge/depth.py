"""How deep in its network a tensor lies, from its name: what a gradient over layers is evaluated at."""

from __future__ import annotations

from collections.abc import Iterable

from hubmerge.layers import comes_before, layer_stacks

__all__ = ["LayerDepths"]


class LayerDepths:
    """Depths of the tensors of one model: 0 for its first layer, 1 for its last.

    Every stack of layers (`hubmerge.layers`) counts by itself.  Embeddings have depth 0; the final norm, the head and all
    else outside the layers have depth 1.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.stacks = layer_stacks(names)

    def __call__(self, name: str) -> float:
        for stack in self.stacks:
            if (place := stack.split(name)) is not None:
                return place[0] / (stack.count - 1) if stack.count > 1 else 1.0
        return 0.0 if comes_before(name) else 1.0
