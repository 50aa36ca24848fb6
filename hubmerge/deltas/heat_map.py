"""Kinship as a drawing: an SVG with a square for every two models, and a row for every layer; it needs nothing beside itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import combinations

import numpy as np

from hubmerge.deltas.kinship_record import Kinship
from hubmerge.short_names import short_names

__all__ = ["page_of", "svg_of"]

_CELL, _ROW, _GAP, _TOP = 64, 18, 40, 34
_LETTER = 6.6
"""Width of a letter at the size that is used, about."""
_TITLE = 250
"""Width of the longest title."""
_FAINT = 0.25
"""What colours go to at least: numbers near 0 are to look so."""
_LOW, _HIGH = (59, 110, 180), (214, 96, 40)


def svg_of(found: Kinship) -> str:
    """Panels for the cosine and for Pearson's correlation of whole deltas, and under them the cosine of every pair in every layer.

    Colours go from blue for negative numbers over white for 0 to orange, strongest for the largest magnitude of two different models in a
    panel, or for 0.25 where that is smaller.
    """
    names = short_names(found.models)
    wide = max(len(name) for name in names) * _LETTER + 14
    side = max(_CELL, wide)
    panel = wide + max(side * len(names), _TITLE) + _GAP
    parts: list[str] = []
    panels = [("cosine of the deltas", found.flat.cosine), ("Pearson correlation of the deltas", found.flat.pearson)]
    for place, (title, values) in enumerate(panels):
        parts += _grid((_GAP + wide + place * panel, _TOP), title, names, names, values, side, 30)
    bottom = _TOP + 30 * len(names) + 24 + _GAP
    pairs = list(combinations(range(len(names)), 2))
    labels = [f"{names[i]} · {names[j]}" for i, j in pairs]
    layers = np.array([[own.cosine[i, j] for i, j in pairs] for own in found.layers.values()])
    first = max(len(name) for name in found.layers) * _LETTER + 14
    across = max(_CELL, max(map(len, labels)) * _LETTER + 8)
    parts += _grid((_GAP + first, bottom), "cosine in every layer", list(found.layers), labels, layers, across, _ROW)
    width = max(_GAP + 2 * panel, _GAP + first + across * len(pairs) + _GAP)
    height = bottom + _ROW * len(found.layers) + 24 + _GAP
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def page_of(found: Kinship) -> str:
    """A page of HTML: the drawing, and the table of pairs."""
    title = f"Kinship of {len(found.models)} models"
    told = [] if found.base is None else [f"<p>Deltas from {escape(found.base)}</p>"]
    told += [f"<p>{escape(line)}</p>" for line in (*found.warnings, *found.notes)]
    style = "<style>body{font-family:sans-serif}table{border-collapse:collapse}td,th{padding:2px 8px;text-align:right}</style>"
    head = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>{style}</head><body>'
    table = found.pairs()._repr_html_()
    return "\n".join([head, f"<h1>{title}</h1>", *told, svg_of(found), table, "</body></html>"]) + "\n"


def _grid(
    place: tuple[float, float],
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: np.ndarray,
    across: float,
    down: float,
) -> list[str]:
    """A panel: its title over it, rows named to the left, columns above, every value in its cell."""
    x, y = place
    others = values[~np.eye(len(values), dtype=bool)] if list(rows) == list(columns) else values
    most = max(_FAINT, float(np.nanmax(np.abs(others)))) if np.isfinite(others).any() else 1.0
    parts = [f'<text x="{x:.1f}" y="{y - 18:.1f}" font-weight="bold">{escape(title)}</text>']
    for column, name in enumerate(columns):
        middle = x + (column + 0.5) * across
        parts.append(f'<text x="{middle:.1f}" y="{y - 4:.1f}" text-anchor="middle">{escape(name)}</text>')
    for row, name in enumerate(rows):
        top = y + row * down
        base = top + down / 2 + 4
        parts.append(f'<text x="{x - 6:.1f}" y="{base:.1f}" text-anchor="end">{escape(name)}</text>')
        for column, value in enumerate(values[row]):
            left = x + column * across
            told = f"{value:.3f}" if math.isfinite(value) else "-"
            parts.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{across - 1:.1f}" height="{down - 1:.1f}" fill="{_colour(value, most)}"/>'
            )
            parts.append(f'<text x="{left + across / 2:.1f}" y="{base:.1f}" text-anchor="middle">{told}</text>')
    return parts


def _colour(value: float, most: float) -> str:
    if not math.isfinite(value):
        return "#e8e8e8"
    share = min(1.0, abs(value) / most)
    end = _HIGH if value >= 0 else _LOW
    mixed = (round(255 + 0.8 * share * (part - 255)) for part in end)
    return "#" + "".join(f"{part:02x}" for part in mixed)
