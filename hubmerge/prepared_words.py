"""Coefficients that were found before a merge, in words: their range for each parent, and the table of layers."""

from __future__ import annotations

from dataclasses import dataclass

from hubmerge.prepared_record import PreparedRecord
from hubmerge.sensitivity.coefficients import layers_of

__all__ = ["LayerRow", "layer_rows", "prepared_lines"]

_SHADES = "·░▒▓█"
"""Of the largest coefficient of a merge nothing, a quarter, a half, three quarters, all."""


@dataclass(frozen=True)
class LayerRow:
    """A block, or a module outside the blocks.  coefficients: of every parent, the mean over what was found for parts of it; shades: of each
    one character, the fuller the larger it is beside the merge's largest.
    """

    layer: str
    coefficients: tuple[float, ...]
    shades: tuple[str, ...]


def layer_rows(record: PreparedRecord) -> tuple[LayerRow, ...]:
    """One row for each block and module outside; a record with a coefficient for every tensor is brought to that."""
    parts: dict[str, list[tuple[float, ...]]] = {}
    inside = layers_of(f"{name}.weight" for name in record.layers)
    are_tensors = any(layer != name for name, layer in zip(record.layers, inside.values(), strict=True))
    layer_of = layers_of(record.layers) if are_tensors else {name: name for name in record.layers}
    for name, row in record.layers.items():
        parts.setdefault(layer_of[name], []).append(row)
    means = {
        layer: tuple(sum(column) / len(rows) for column in zip(*rows, strict=True)) for layer, rows in parts.items()
    }
    largest = max((abs(value) for row in means.values() for value in row), default=0.0)
    return tuple(LayerRow(layer, row, tuple(_shade(value, largest) for value in row)) for layer, row in means.items())


def _shade(value: float, largest: float) -> str:
    return _SHADES[round(4 * abs(value) / largest)] if largest > 0 else _SHADES[0]


def prepared_lines(record: PreparedRecord) -> tuple[str, ...]:
    """A sentence for each parent: the smallest and the largest of its coefficients, and in which layers; then what else there is to tell."""
    found = []
    for place, name in enumerate(record.parents):
        own = {layer: row[place] for layer, row in record.layers.items()}
        low, high = min(own, key=own.__getitem__), max(own, key=own.__getitem__)
        if own[low] == own[high]:
            found.append(f"{name}: coefficient {own[low]:.3f} everywhere")
            continue
        mean = sum(own.values()) / len(own)
        found.append(
            f"{name}: coefficients from {own[low]:.3f} ({low}) to {own[high]:.3f} ({high}), {mean:.3f} on average"
        )
    return (*found, *_entropy_lines(record))


def _entropy_lines(record: PreparedRecord) -> tuple[str, ...]:
    """How sure the merge is of its answers on each parent's data, where that was looked at, and a warning where it became less sure."""
    before, after = (record.state.get(key, ()) for key in ("entropies_before", "entropies"))
    rows = list(zip(record.parents, before, after, strict=False))
    if not rows:
        return ()
    told = ", ".join(f"{old:.3f} to {new:.3f} on data of {name}" for name, old, new in rows)
    worse = [name for name, old, new in rows if new > old]
    warned = f"warning: the merge became less sure of its answers on data of {', '.join(worse)}: measure it there"
    return (f"mean entropy of the answers {told}", *([warned] if worse else []))
