"""`Decision`: what became of one layer of one donor, as a record that can be written down, read again and applied again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from hubmerge.errors import PlanError, shown

__all__ = ["Decision", "decisions_from_json", "decisions_to_json"]


@dataclass(frozen=True)
class Decision:
    """A layer of a donor, tried on a layer of the base.

    round: from 1.  donor: its number, from 0.  layer: the base's, by name; position: its place among the base's layers, from 0.
    donor_layer: None where none goes with it.  cka, similarity, gain: see `hubmerge.heterogeneous.block_pairs.Pair`.
    factor: the donor's share, 0 where it was refused.  drift, loss: at this factor, and where it was refused at the smallest that was
    tried; None where nothing was measured.  why: why it was refused, empty where it was accepted.
    """

    round: int
    donor: int
    layer: str
    position: int
    donor_layer: str | None
    cka: float
    similarity: float
    gain: float
    factor: float
    drift: float | None
    loss: float | None
    accepted: bool
    why: str = ""

    @property
    def key(self) -> tuple[int, int, str]:
        """What tells decisions of one assembly apart."""
        return self.round, self.donor, self.layer


def decisions_to_json(decisions: Iterable[Decision]) -> str:
    """A JSON list of objects, one for each; `decisions_from_json` gives the same back."""
    return json.dumps([asdict(decision) for decision in decisions], indent=1)


def decisions_from_json(text: str) -> tuple[Decision, ...]:
    """Raises `PlanError` for a text that `decisions_to_json` did not write."""
    try:
        return tuple(_decision(row) for row in json.loads(text))
    except (ValueError, TypeError) as error:
        raise PlanError(
            f"this is no list of decisions ({error})", where="decisions", hint="give back what decisions_to_json wrote"
        ) from error


def _decision(row: Mapping[str, Any]) -> Decision:
    known = [field.name for field in fields(Decision)]
    if set(row) != set(known):
        odd = sorted(set(row) ^ set(known))
        raise ValueError(f"{shown(odd[0])} is {'unknown' if odd[0] in row else 'missing'}")
    return Decision(**row)
