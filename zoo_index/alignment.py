"""Whether two models can be put together by matching their units on data, as far as their records tell: the same family and depth."""

from __future__ import annotations

from zoo_index.families import FAMILIES
from zoo_index.metadata import ModelRecord

__all__ = ["ALIGNED_SIZES", "how_to_align", "why_not_aligned"]

ALIGNED_SIZES = frozenset({"embedding_size", "hidden_sizes", "intermediate_size"})
"""Config fields in which models may differ and be aligned: the units that they count stand under no norm but BatchNorm."""


def why_not_aligned(a: ModelRecord, b: ModelRecord) -> str:
    """Why no table of units fits both models; empty where one does."""
    kinds = [a.model_type, b.model_type]
    if None in kinds or kinds[0] != kinds[1]:
        return "they are of different architectures, whose units are not matched with one another"
    if not any(kinds[0] in family.model_types for family in FAMILIES):
        return f"there is no symmetry table for {kinds[0]}, so their units cannot be matched either"
    return ""


def how_to_align(a: ModelRecord, b: ModelRecord) -> str:
    """The command, in a sentence."""
    labels = [record.architecture.hard.get("num_labels") for record in (a, b)]
    extra = "" if labels[0] == labels[1] else " and labels: disjoint"
    return (
        f"their units can be matched on data: write merge_method: pleas with calibration data{extra} into a recipe, and "
        "`hubmerge plan` says what it makes of them"
    )
