"""From what an assembly did to its record in the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from hubmerge.assembly_record import (
    AssemblyRecord,
    CalibrationRecord,
    CostRecord,
    DepthRecord,
    GroupRecord,
    LayerRecord,
    TokensRecord,
)
from hubmerge.heterogeneous.block_pairs import PairedDepth
from hubmerge.heterogeneous.plan_types import AssemblyPlan
from hubmerge.heterogeneous.report import Report
from hubmerge.heterogeneous.stream_plan import TURNED
from hubmerge.recipe_calibration import Calibration
from hubmerge.symmetry.costs import Cost

if TYPE_CHECKING:
    from hubmerge.calibration import Batches
    from hubmerge.calibration.check import CalibrationFacts

__all__ = ["DECIMALS", "as_stored", "assembly_record", "calibration_record", "tokens_record"]

DECIMALS = 6
"""Of a similarity and a support: the digits behind are the machine's."""


def assembly_record(plan: AssemblyPlan, report: Report, calibration: CalibrationRecord | None) -> AssemblyRecord:
    """What the manifest keeps of the merge that `report` tells of."""
    stages, rows = plan.stages, {group.name: group.row for group in plan.groups}
    fits, solves = stages.fit != "none", stages.fit == "least_squares"
    return AssemblyRecord(
        family=plan.family,
        order=tuple(str(plan.parents[place].reference) for place in plan.order),
        weights=tuple(stages.weights[place] for place in plan.order),
        align=stages.align,
        widths=stages.widths,
        budget=stages.budget,
        ratio=stages.ratio,
        min_similarity=stages.min_similarity,
        balance=stages.balance,
        regularisation=stages.regularisation,
        fit=stages.fit,
        inputs=stages.inputs if solves else None,
        ridge=stages.ridge if fits else None,
        follow=stages.follow if fits and not (solves and stages.inputs == "parents") else None,
        non_diagonal=stages.non_diagonal if stages.fit == "regmean" else None,
        labels=_labels(plan),
        residual=stages.residual,
        turned=_rounded(report.turned),
        depths=tuple(None if depth is None else _depth(depth) for depth in report.depths) if any(report.depths) else (),
        groups={
            name: GroupRecord(
                row=rows[name],
                sizes=group.sizes,
                merged=group.merged,
                matched=group.matched,
                similarity=_rounded(group.similarity),
                support=_rounded(group.support) if group.is_mixed else None,
                largest_support=_rounded(group.largest_support) if group.is_mixed else None,
            )
            for name, group in report.groups.items()
            if name in rows
        },
        tokens=tokens_record(plan),
        positions=plan.positions_told,
        kept={name: reason for name, reason in plan.kept.items() if not reason.startswith(TURNED)},
        base_cost=_cost(report.base_cost),
        cost=_cost(report.cost),
        cost_without_zeros=_cost(report.blocks),
        calibration=calibration,
    )


def as_stored(record: AssemblyRecord, base: int, merge: int) -> AssemblyRecord:
    """`record` with the parameters of base and merge as their files have them, where a model holds the rows of a tied head twice."""
    twice = record.cost.parameters - merge
    zeros = record.cost_without_zeros
    return record.model_copy(
        update={
            "base_cost": record.base_cost.model_copy(update={"parameters": base}),
            "cost": record.cost.model_copy(update={"parameters": merge}),
            "cost_without_zeros": zeros.model_copy(update={"parameters": zeros.parameters - twice}),
        }
    )


def tokens_record(plan: AssemblyPlan) -> dict[str, TokensRecord]:
    """Of every model of another vocabulary than the base's what became of its rows."""
    return {
        str(plan.parents[place].reference): TokensRecord(shared=rows.shared, alone=rows.alone, left_out=rows.left_out)
        for place, rows in zip(plan.order[1:], plan.tokens, strict=True)
        if rows is not None
    }


def calibration_record(
    asked: Calibration | None, facts: CalibrationFacts | None, batches: Batches | None
) -> CalibrationRecord | None:
    """The data as it was drawn; None where there is none."""
    if asked is None or facts is None or batches is None:
        return None
    return CalibrationRecord(
        data=asked.data,
        commit=facts.commit,
        kind=batches.kind,
        column=facts.column,
        samples=len(batches),
        sha256=batches.digest,
    )


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, DECIMALS) for value in values)


def _depth(depth: PairedDepth) -> DepthRecord:
    layers = [
        LayerRecord(
            layer=pair.ours.name,
            partner=pair.theirs.name if pair.theirs else None,
            cka=round(pair.cka, DECIMALS) if pair.cka else None,
        )
        for pair in depth.pairs
    ]
    return DepthRecord(layers=tuple(layers), left_out=depth.left_out)


def _labels(plan: AssemblyPlan) -> Literal["shared", "disjoint"] | None:
    """How the classes came together, whoever decided it."""
    return None if plan.labels is None else "disjoint" if plan.joins_labels else "shared"


def _cost(cost: Cost) -> CostRecord:
    return CostRecord(parameters=cost.parameters, multiply_adds=cost.multiply_adds)
