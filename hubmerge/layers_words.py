"""What was merged into a base layer by layer, in sentences: for the terminal and for the model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hubmerge.layers_record import DecisionRecord, LayersRecord

__all__ = ["DonorRow", "changed_layers", "donor_rows", "layers_told", "losses_text"]


@dataclass(frozen=True)
class DonorRow:
    """One donor: of how many layers of the base there is one of its own, in how many it was merged, at which shares and largest drift.

    name: as in the record.  tried, merged: layers.  shares: the smallest and the largest, None where nothing was merged.
    """

    name: str
    tried: int
    merged: int
    shares: tuple[float, float] | None
    drift: float | None

    @property
    def shares_text(self) -> str:
        """``0.1``, ``0.1 to 0.3``, or a dash."""
        return " to ".join(dict.fromkeys(f"{share:g}" for share in self.shares or ())) or "–"


def donor_rows(record: LayersRecord) -> tuple[DonorRow, ...]:
    """A row for every donor, over all rounds."""
    return tuple(
        _row(name, [each for each in record.decisions if each.donor == place])
        for place, name in enumerate(record.order[1:], 1)
    )


def _row(name: str, decisions: Sequence[DecisionRecord]) -> DonorRow:
    accepted = [each for each in decisions if each.accepted]
    factors = [each.factor for each in accepted]
    return DonorRow(
        name,
        len({each.layer for each in decisions if each.donor_layer is not None}),
        len({each.layer for each in accepted}),
        (min(factors), max(factors)) if factors else None,
        max((each.drift for each in accepted if each.drift is not None), default=None),
    )


def changed_layers(record: LayersRecord) -> int:
    """In how many layers of the base there is something of a donor."""
    return len({each.layer for each in record.decisions if each.accepted})


def losses_text(record: LayersRecord) -> str:
    """The losses on the probe beside one another; without one, that they are not known."""
    if record.losses is None:
        return "no probe: whether it became better or worse than the base was not measured"
    own = record.losses
    return f"loss on the probe: base {own.base:.4g}, control {own.control:.4g}, merged {own.merged:.4g}"


def layers_told(record: LayersRecord) -> tuple[str, ...]:
    """How many layers of how many were merged, from which donor, at what share, and the losses; a sentence each."""
    count = sum(each.accepted for each in record.decisions)
    whole = f"{changed_layers(record)} of {record.layers} layers have something of a donor in them"
    lines = [f"{whole}; {count} of {len(record.decisions)} turns were accepted"]
    for row in donor_rows(record):
        told = f"{row.merged} of {row.tried} layers merged"
        if row.shares is not None:
            told += f", share {row.shares_text}, drift at most {row.drift:.3f}"
        lines.append(f"{row.name}: {told}")
    return (*lines, losses_text(record))
