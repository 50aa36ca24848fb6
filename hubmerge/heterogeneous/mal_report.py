"""Curves of layers and donors for people and programs: a table, and CSV with a row for every point."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from hubmerge.heterogeneous.mal_laws import Law, Laws

__all__ = ["COLUMNS", "csv_of", "table_of"]

COLUMNS = ("donor", "layer", "position", "donor_layer", "cka", "similarity", "factor", "drift", "loss")
"""Of the CSV; drift and loss are empty where nothing was measured, factor too where no layer of the donor goes with the layer."""

_SHOWN = (0.1, 0.3, 0.5, 1.0)
"""Factors of the table, as far as they were measured."""


def csv_of(found: Laws, donors: Sequence[str]) -> str:
    """A line for every point of every curve, under `COLUMNS`; donors: their names.  Numbers are written in full."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for law in found.curves:
        own = (donors[law.donor], law.layer, law.position, law.donor_layer or "", law.cka, law.similarity)
        for point in law.points:
            rows.writerow((*own, point.factor, point.drift, "" if point.loss is None else point.loss))
        if not law.points:
            rows.writerow((*own, "", "", ""))
    return text.getvalue()


def table_of(
    found: Laws, donors: Sequence[str], tau: float
) -> tuple[tuple[str, ...], list[tuple[str | int | float | None, ...]]]:
    """Columns and rows: one for each donor and layer, by position.

    The largest factor that was measured with a drift of at most `tau`, drifts at a few factors, and with a probe the loss at them.
    """
    measured = {point.factor for law in found.curves for point in law.points}
    shown = [factor for factor in _SHOWN if factor in measured]
    columns = ["donor", "position", "layer", "goes with", "cka", "similarity", f"within {tau:g}"]
    columns += [f"drift {factor:g}" for factor in shown]
    if found.loss is not None:
        columns += [f"loss {factor:g}" for factor in shown]
    short = _Short(found.curves)
    rows = [_row(law, donors, tau, shown, short, has_loss=found.loss is not None) for law in found.curves]
    return tuple(columns), rows


class _Short:
    """Names of layers without the modules that all of them are in, but for the last: ``stages.0.layers.1``."""

    def __init__(self, curves: Sequence[Law]) -> None:
        names = [name.split(".") for law in curves for name in (law.layer, law.donor_layer) if name]
        same = 0
        while names and all(len(parts) > same + 1 and parts[same] == names[0][same] for parts in names):
            same += 1
        self._left_out = max(0, same - 1)

    def __call__(self, name: str) -> str:
        return ".".join(name.split(".")[self._left_out :])


def _row(
    law: Law, donors: Sequence[str], tau: float, shown: Sequence[float], short: _Short, *, has_loss: bool
) -> tuple[str | int | float | None, ...]:
    points = {point.factor: point for point in law.points}
    theirs = short(law.donor_layer) if law.donor_layer else law.why
    facts: list[str | int | float | None] = [donors[law.donor], law.position, short(law.layer), theirs]
    if not points:
        return (*facts, *(None for _ in range(3 + len(shown) * (2 if has_loss else 1))))
    facts += [law.cka, law.similarity, law.largest_within(tau)]
    facts += [points[factor].drift for factor in shown]
    return (*facts, *(points[factor].loss for factor in shown if has_loss))
