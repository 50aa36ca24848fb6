"""What the catalog answers with: a model beside another one, and how records and matches look as table rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zoo_index.compat import Compatibility, Level, Reason, compare
from zoo_index.fingerprint import Sketch, ancestry, likeness
from zoo_index.metadata import ModelRecord

__all__ = ["MATCH_COLUMNS", "RECORD_COLUMNS", "Match", "match_models", "ranking"]


@dataclass(frozen=True)
class Match:
    """A model beside the one that was asked about.

    likeness: cosine of sampled weights, None when shapes differ or nothing could be sampled.
    """

    record: ModelRecord
    compatibility: Compatibility
    likeness: float | None

    @property
    def level(self) -> Level:
        return self.compatibility.level

    @property
    def same_ancestor(self) -> str | None:
        """``likely``, ``unclear`` or ``unlikely``, inferred from the weights alone; None when unknown."""
        return None if self.likeness is None else ancestry(self.likeness)

    def to_json(self) -> dict[str, Any]:
        """The match as plain JSON values."""
        return {
            "reference": self.record.reference,
            "level": self.level.value,
            "meaning": self.level.meaning,
            "likeness": self.likeness,
            "same_ancestor": self.same_ancestor,
            "reasons": [
                {"field": r.field, "left": r.left, "right": r.right, "severity": r.severity, "sentence": r.sentence}
                for r in self.compatibility.reasons
            ],
        }


def match_models(mine: ModelRecord, my_sketch: Sketch | None, other: ModelRecord, its_sketch: Sketch | None) -> Match:
    """`other` beside `mine`: `compare`, and a warning when the weights show no common ancestor."""
    compatibility, alike = compare(mine, other), likeness(my_sketch, its_sketch)
    if alike is not None and compatibility.level is not Level.incompatible and ancestry(alike) == "unlikely":
        sentence = "their weights show no common ancestor: an average of such models is seldom useful"
        found = Reason("ancestor", None, None, "warn", sentence)
        compatibility = Compatibility(compatibility.level, (*compatibility.reasons, found))
    return Match(other, compatibility, alike)


def ranking(match: Match) -> tuple[int, int, float, str]:
    """Sorts the best match first: level, then fewer warnings, then likeness of the weights, then the reference."""
    alike = match.likeness if match.likeness is not None else 0.0
    return match.level.rank, match.compatibility.warnings, -alike, match.record.reference


RECORD_COLUMNS: Mapping[str, Callable[[ModelRecord], object]] = {
    "reference": lambda record: record.reference,
    "kind": lambda record: record.kind,
    "model_type": lambda record: record.model_type,
    "parameters": lambda record: record.parameters,
    "licence": lambda record: record.licence,
    "refusals": lambda record: "; ".join(record.refusals),
}
MATCH_COLUMNS: Mapping[str, Callable[[Match], object]] = {
    "reference": lambda match: match.record.reference,
    "level": lambda match: match.level.value,
    "same_ancestor": lambda match: match.same_ancestor,
    "likeness": lambda match: match.likeness,
    "warnings": lambda match: "; ".join(r.sentence for r in match.compatibility.reasons if r.severity == "warn"),
}
