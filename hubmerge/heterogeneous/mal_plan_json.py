"""A `MalPlan` as JSON values, for programs."""

from __future__ import annotations

from typing import Any

from hubmerge.heterogeneous.mal_plan_types import MalPlan
from hubmerge.heterogeneous.plan_json import data_dict
from hubmerge.heterogeneous.whole_plan import files_dict, head_dict

__all__ = ["mal_dict"]


def mal_dict(plan: MalPlan) -> dict[str, Any]:
    """The plan as JSON values; of every donor, for each stage of the base, which of its layers each layer could be paired with."""
    donors = zip(plan.order[1:], plan.stages_of, strict=True)
    return {
        **head_dict(
            plan,
            *(
                {"widths": dict(widths), "layers": layers}
                for widths, layers in zip(plan.widths, plan.layers, strict=True)
            ),
        ),
        "donors": [
            {
                "reference": str(plan.parents[place].reference),
                "stages": [
                    {
                        "stage": stage.stage,
                        "layers": list(stage.ours),
                        "of_donor": list(stage.theirs),
                        "possible": [list(each) for each in stage.possible],
                        "why": list(stage.why),
                    }
                    for stage in stages
                ],
            }
            for place, stages in donors
        ],
        "catalog": _catalog_dict(plan),
        "choices": plan.stages.choices,
        "turns": plan.turns,
        "runs_at_most": plan.runs,
        "samples": plan.samples,
        "calibration": data_dict(plan.stages.calibration, plan.calibration),
        "probe": data_dict(plan.stages.probe, plan.probe),
        "parameters": plan.parameters,
        **files_dict(plan),
    }


def _catalog_dict(plan: MalPlan) -> dict[str, Any] | None:
    if plan.catalog is None:
        return None
    return {
        **plan.catalog.query.model_dump(mode="json"),
        "taken": list(plan.catalog.taken),
        "passed": [{"reference": name, "why": why} for name, why in plan.catalog.passed],
        "not_looked_at": plan.catalog.left,
    }
