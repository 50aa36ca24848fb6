"""What the stage `align` does, in words for a plan: how units are matched, and what becomes of those that are too many."""

from __future__ import annotations

from hubmerge.align_choices import is_matched_on_data
from hubmerge.assembly_stages import AssemblyStages

__all__ = ["matched_text", "surplus_word", "units_text"]


def matched_text(stages: AssemblyStages) -> str:
    """How units are matched, in a sentence without its end."""
    seen = "the correlations of their activations on the calibration data"
    weights = stages.balance or 0.0
    how = {
        "activations": f"by {seen}",
        "weights": "by the weights that connect them",
        "balanced": f"by {seen} ({1 - weights:g}) and by the weights that connect them ({weights:g})",
        "zip": f"contracted by {seen}, the most alike first, within a model too",
        "optimal_transport": f"in part, many to many, by {seen}, {_plan_text(stages.regularisation)}",
        "identity": "not at all: units stand in the same order",
    }
    return how[stages.align]


def _plan_text(regularisation: float | None) -> str:
    return f"regularisation {regularisation:g}" if regularisation else "as cheaply as can be"


def units_text(stages: AssemblyStages, *, carries: bool, heads: bool) -> str:
    """What the table of units does not say of pairs and of units that have no partner.

    carries: deltas, so that nothing is merged.  heads: whether some of the units are attention heads.
    """
    in_pairs = "; heads are matched in pairs" if heads else ""
    if stages.align == "zip":
        return f"apart: at least so many stay one model's{in_pairs}"
    if stages.align == "optimal_transport":
        return f"a unit of the merge is the base's with a mean of the others'{in_pairs}"
    told = f"apart: at least so many stay one model's; the most alike are {'aligned' if carries else 'merged'}"
    least = stages.min_similarity
    told += f", and no pair less alike than {least:g}" if is_matched_on_data(stages.align) and least > -1 else ""
    if stages.widths == "fold":
        told += (
            f"; those without a partner join the most similar one, or are copied{', heads excepted' if heads else ''}"
        )
    return told


def surplus_word(stages: AssemblyStages) -> str:
    """What becomes of the units of which another model has more than the merge: the head of their column."""
    return {"fold": "joined"}.get(stages.widths) or {"zip": "joined", "optimal_transport": "spread"}.get(
        stages.align, "left out"
    )
