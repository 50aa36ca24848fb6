"""Curves of layers and donors as a drawing: SVG, a panel for each donor, a line for each layer, early ones dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from hubmerge.heterogeneous.mal_laws import Law, Laws

__all__ = ["svg_of"]

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 260, 170, 60, 44, 60
_LEGEND = 15
"""Height of a line of the legend."""


@dataclass(frozen=True)
class _Panel:
    """A panel's place, and what its axes end at; both begin at 0."""

    x: float
    y: float
    most_x: float
    most_y: float

    def point(self, x: float, y: float) -> str:
        across = self.x + _WIDTH * x / self.most_x
        up = self.y + _HEIGHT * (1 - min(y, self.most_y) / self.most_y)
        return f"{across:.1f},{up:.1f}"


def svg_of(found: Laws, donors: Sequence[str], tau: float) -> str:
    """A row of panels of drift over the donor's share, with `tau` dashed, and with a probe a row of losses with the control's dashed.

    donors: their names.  The axes of a row are the same, from 0; infinite numbers are drawn at the top.
    """
    drifts = [[(p.factor, p.drift) for p in law.points] for law in found.curves]
    losses = [[(p.factor, p.loss) for p in law.points if p.loss is not None] for law in found.curves]
    rows = [("drift of the layer's output", drifts, tau)]
    if found.loss is not None:
        rows.append(("loss of the model", losses, found.loss))
    layers = list(dict.fromkeys(law.layer for law in found.curves))
    height = _TOP + len(rows) * (_HEIGHT + _GAP) + _LEGEND * len(layers)
    width = _LEFT + len(donors) * (_WIDTH + _GAP)
    parts = []
    for row, (title, lines, mark) in enumerate(rows):
        most_x = max((x for line in lines for x, _ in line), default=1.0) or 1.0
        most_y = max([mark, *(y for line in lines for _, y in line if math.isfinite(y))]) or 1.0
        for donor, name in enumerate(donors):
            place = _LEFT + donor * (_WIDTH + _GAP), _TOP + row * (_HEIGHT + _GAP)
            panel = _Panel(*place, most_x, most_y)
            own = [(law, line) for law, line in zip(found.curves, lines, strict=True) if law.donor == donor]
            parts += _panel(panel, f"{name}: {title}", own, mark, len(layers))
    top = height - _LEGEND * len(layers)
    for position, layer in enumerate(layers):
        y = top + _LEGEND * position
        parts.append(f'<path d="M{_LEFT} {y - 4}h24" stroke="{_colour(position, len(layers))}" stroke-width="2"/>')
        parts.append(f'<text x="{_LEFT + 32}" y="{y}">{escape(layer)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    style = 'font-family="sans-serif" font-size="11" fill="none">'
    background = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([f"{head} {style}", background, '<g fill="black">', *parts, "</g>", "</svg>"]) + "\n"


def _panel(
    panel: _Panel, title: str, lines: Sequence[tuple[Law, Sequence[tuple[float, float]]]], mark: float, layers: int
) -> list[str]:
    bottom = panel.y + _HEIGHT
    dashed = f"{panel.point(0, mark)} {panel.point(panel.most_x, mark)}"
    parts = [
        f'<text x="{panel.x}" y="{panel.y - 10}">{escape(title)}</text>',
        f'<path d="M{panel.x} {panel.y}V{bottom}h{_WIDTH}" stroke="black" fill="none"/>',
        f'<text x="{panel.x}" y="{bottom + 15}">0</text>',
        f'<text x="{panel.x + _WIDTH}" y="{bottom + 15}" text-anchor="end">{panel.most_x:g}</text>',
        f'<text x="{panel.x + _WIDTH / 2}" y="{bottom + 15}" text-anchor="middle">share of the donor</text>',
        f'<text x="{panel.x - 6}" y="{panel.y + 8}" text-anchor="end">{panel.most_y:.3g}</text>',
        f'<polyline points="{dashed}" stroke="grey" stroke-dasharray="4 3"/>',
    ]
    for law, line in lines:
        points = " ".join(panel.point(x, y if math.isfinite(y) else panel.most_y) for x, y in line)
        if points:
            colour = _colour(law.position, layers)
            parts.append(f'<polyline points="{points}" stroke="{colour}" stroke-width="1.5" fill="none"/>')
    return parts


def _colour(position: int, layers: int) -> str:
    """From dark blue for the first layer to light orange for the last."""
    share = position / max(1, layers - 1)
    first, last = (20, 40, 110), (250, 160, 60)
    mixed = (round(one + share * (other - one)) for one, other in zip(first, last, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)
