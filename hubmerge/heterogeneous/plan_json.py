"""An `AssemblyPlan` as JSON values, for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hubmerge.align_choices import leaves_units_out
from hubmerge.calibration.check import CalibrationFacts
from hubmerge.heterogeneous.plan_types import AssemblyPlan
from hubmerge.heterogeneous.whole_plan import files_dict, head_dict
from hubmerge.recipe_calibration import Calibration
from hubmerge.symmetry.costs import Cost

__all__ = ["assembly_dict", "data_dict"]


def assembly_dict(plan: AssemblyPlan) -> dict[str, Any]:
    """The plan as JSON values, every group with its sizes."""
    return {
        **head_dict(
            plan,
            *(
                {"parameters": dict(parent.parameters), "widths": dict(widths)}
                for parent, widths in zip(plan.parents, plan.widths, strict=True)
            ),
        ),
        "stages": {
            **asdict(plan.stages),
            "base": str(plan.stages.base),
            "bases": [str(base) for base in plan.stages.bases],
            "calibration": data_dict(plan.stages.calibration, plan.calibration),
        },
        "depths": [
            {"stage": stage.name, "layers": list(stage.blocks), "paired": list(stage.paired)} for stage in plan.depths
        ],
        "groups": [
            {
                "name": group.name,
                "row": group.row,
                "sizes": list(group.sizes),
                "merged": group.merged,
                "apart_at_least": group.apart,
                "left_out": group.left_out(plan.others)
                if leaves_units_out(plan.stages.align, plan.stages.widths)
                else 0,
            }
            for group in plan.groups
        ],
        "kept": dict(plan.kept),
        "tokens": [
            rows and {"shared": rows.shared, "alone": rows.alone, "left_out": rows.left_out} for rows in plan.tokens
        ],
        "positions": dict(plan.positions_told),
        "config_changes": dict(plan.changed),
        "labels": list(plan.labels.names) if plan.labels is not None else None,
        "cost": _cost_dict(plan.cost),
        "cost_without_zeros": _cost_dict(plan.blocks),
        "base_cost": _cost_dict(plan.base_cost),
        "exact": plan.exact,
        "parameters": plan.parameters,
        **files_dict(plan),
    }


def _cost_dict(cost: Cost) -> dict[str, int]:
    return {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds}


def data_dict(asked: Calibration | None, facts: CalibrationFacts | None) -> dict[str, Any] | None:
    """Data as the recipe asks for it, with what was found of it; None where there is none."""
    if asked is None or facts is None:
        return None
    found = {"kind": facts.kind, "column": facts.column, "samples": facts.samples, "commit": facts.commit}
    return {**asked.model_dump(mode="json"), **found}
