"""How deep in its network a tensor lies, from its name: what a gradient over layers is evaluated at."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["LayerDepths"]

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_BEFORE = ("embed", "wte", "wpe", "patch")


class LayerDepths:
    """Depths of the tensors of one model: 0 for its first layer, 1 for its last.

    A layer number is the first number in a name (``layers.3.experts.7``: 3), where these count 0, 1, ..., L-1 and L is the
    largest such count of the model.  Embeddings have depth 0; the final norm, the head and all else outside the layers have depth 1.
    """

    def __init__(self, names: Iterable[str]) -> None:
        counts: dict[str, set[int]] = {}
        for name in names:
            if match := _NUMBER.search(name):
                counts.setdefault(name[: match.start()], set()).add(int(match.group()))
        full = {prefix: len(found) for prefix, found in counts.items() if found == set(range(len(found)))}
        self.layers = max(full.values(), default=0)
        self.prefixes = tuple(sorted(prefix for prefix, count in full.items() if count == self.layers))

    def __call__(self, name: str) -> float:
        for prefix in self.prefixes:
            if name.startswith(prefix) and (match := _NUMBER.match(name, len(prefix))):
                return int(match.group()) / (self.layers - 1) if self.layers > 1 else 1.0
        return 0.0 if any(part in name for part in _BEFORE) else 1.0
