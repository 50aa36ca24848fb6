"""What the catalog answers with: a model beside another one, and how records and matches look as table rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zoo_index.alignment import how_to_align
from zoo_index.compat import Compatibility, Level, Reason, compare
from zoo_index.fingerprint import Sketch, ancestry, likeness
from zoo_index.lineage import same_name
from zoo_index.lineage_answers import CommonAncestor
from zoo_index.lineage_graph import LineageGraph
from zoo_index.metadata import ModelRecord
from zoo_index.ways import ways_of

__all__ = ["MATCH_COLUMNS", "RECORD_COLUMNS", "Match", "match_models", "ranking"]


@dataclass(frozen=True)
class Match:
    """A model beside the one that was asked about.

    likeness: cosine of sampled weights, None when shapes differ or nothing could be sampled.  common_ancestor: the nearest
    one that their files declare, None when they declare none.
    """

    record: ModelRecord
    compatibility: Compatibility
    likeness: float | None
    common_ancestor: CommonAncestor | None = None

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
            "common_ancestor": self.common_ancestor.to_json() if self.common_ancestor else None,
            "reasons": [
                {"field": r.field, "left": r.left, "right": r.right, "severity": r.severity, "sentence": r.sentence}
                for r in self.compatibility.reasons
            ],
        }


def match_models(
    mine: ModelRecord, my_sketch: Sketch | None, other: ModelRecord, its_sketch: Sketch | None, graph: LineageGraph
) -> Match:
    """`other` beside `mine`: `compare`, and what lineage (in `graph`) and weights say of a common ancestor."""
    compatibility = compare(_with_names_of_today(mine, graph), _with_names_of_today(other, graph))
    alike = likeness(my_sketch, its_sketch)
    declared = graph.common_ancestor([graph.resolve(mine.reference), graph.resolve(other.reference)])
    found = _ancestor_reason(alike, declared) if compatibility.level is not Level.incompatible else None
    if found is not None:
        compatibility = Compatibility(compatibility.level, (*compatibility.reasons, found))
    if found is not None and found.severity == "warn" and _only_labels_differ(compatibility):
        compatibility = _aligned(mine, other, compatibility)
    return Match(other, compatibility, alike, declared)


def _only_labels_differ(compatibility: Compatibility) -> bool:
    """Whether two models are alike but for their ancestor and perhaps their classes."""
    blocks = {reason.field for reason in compatibility.reasons if reason.severity == "block"}
    return compatibility.level is Level.identical or (
        compatibility.level is Level.vocabulary and "num_labels" in blocks and "vocab_size" not in blocks
    )


def _aligned(mine: ModelRecord, other: ModelRecord, compatibility: Compatibility) -> Compatibility:
    """Models of the same shapes without a common ancestor: to be aligned, where there is a table of their units."""
    ways = ways_of(mine, other)
    level = Level.alignment if ways.match_units else compatibility.level
    others = tuple(reason for reason in compatibility.reasons if reason.field != "alignment")
    how = how_to_align(mine, other, ways) if ways.match_units else ways.why_not
    return Compatibility(level, (*others, Reason("alignment", None, None, "info", how)) if how else others)


def _ancestor_reason(alike: float | None, declared: CommonAncestor | None) -> Reason | None:
    if alike is not None and ancestry(alike) == "unlikely":
        but = f", although both are said to descend from {declared.reference}" if declared else ""
        sentence = f"their weights show no common ancestor{but}: an average of such models is seldom useful"
        return Reason("ancestor", None, None, "warn", sentence)
    if declared is None:
        return None
    sentence = f"common ancestor {declared.reference}: {declared.reason}"
    return Reason("ancestor", declared.reference, declared.reference, "info", sentence)


def _with_names_of_today(record: ModelRecord, graph: LineageGraph) -> ModelRecord:
    """The record with parents under the names that the catalog has them by, where those are others."""

    def today(name: str) -> str:
        resolved = graph.resolve(name, record.reference)
        return name if same_name(resolved, name) else resolved

    edges = tuple(edge.model_copy(update={"parent": today(edge.parent)}) for edge in record.base_models)
    adapter = record.adapter
    if adapter is not None and adapter.base is not None:
        adapter = adapter.model_copy(update={"base": today(adapter.base)})
    return record.model_copy(update={"base_models": edges, "adapter": adapter})


def ranking(match: Match) -> tuple[int, int, float, str]:
    """Sorts the best match first: level, then fewer warnings, then likeness of the weights, then the reference.

    Where no weights were compared, a declared common ancestor goes before none.
    """
    alike = match.likeness if match.likeness is not None else 0.5 if match.common_ancestor else 0.0
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
    "common_ancestor": lambda match: match.common_ancestor.reference if match.common_ancestor else None,
    "warnings": lambda match: "; ".join(r.sentence for r in match.compatibility.reasons if r.severity == "warn"),
}
