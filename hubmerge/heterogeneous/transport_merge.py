"""A planned transport carried out: which models are what, what is carried, and its record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hubmerge.assembly_record import AssemblyRecord, CalibrationRecord, CarriedRecord, CostRecord, GroupRecord
from hubmerge.calibration import Batches
from hubmerge.heterogeneous.carrying import Donor
from hubmerge.heterogeneous.plan_types import AssemblyPlan
from hubmerge.heterogeneous.record import DECIMALS, tokens_record
from hubmerge.heterogeneous.stream_plan import TURNED
from hubmerge.heterogeneous.transport import Transported, TransportReport, transport_deltas
from hubmerge.symmetry.costs import dense_cost
from hubmerge.symmetry.groups import SymmetrySpec
from hubmerge.symmetry.verify import spec_of

__all__ = ["transported"]


def transported(
    plan: AssemblyPlan, models: Sequence[Any], batches: Batches | None, calibration: CalibrationRecord | None
) -> tuple[Any, AssemblyRecord]:
    """The target with what was carried, and the record.  models: in the order of ``plan.order``.  Raises as `transport_deltas` does."""
    by_name = {plan.parents[place].reference: model for place, model in zip(plan.order, models, strict=True)}
    target, stages = by_name[plan.stages.base], plan.stages
    rows = {plan.parents[place].reference: found for place, found in zip(plan.order[1:], plan.tokens, strict=True)}
    tokens = {base: found.rows for base, found in rows.items() if found is not None}
    donors = [
        Donor(by_name[parent.reference], by_name[base], weight, tokens.get(base))
        for parent, base, weight in zip(plan.parents, stages.bases, stages.weights, strict=False)
    ]
    assert stages.align in ("activations", "weights", "identity")  # the recipe was refused else
    found = transport_deltas(
        target,
        donors,
        batches if batches is not None else (),
        align=stages.align,
        residual=stages.residual,
        min_similarity=stages.min_similarity,
        without=stages.without,
        labels="shared",
        seed=plan.recipe.seed,
    )
    return found.model, _record(plan, spec_of(found.model), found, calibration)


def _record(
    plan: AssemblyPlan, spec: SymmetrySpec, found: Transported, calibration: CalibrationRecord | None
) -> AssemblyRecord:
    stages, groups, reports = plan.stages, spec.groups, found.reports
    cost = CostRecord(parameters=dense_cost(spec, {}).parameters, multiply_adds=plan.cost.multiply_adds)
    names = [str(parent.reference) for parent in plan.parents[: len(reports)]]
    aligned = dict.fromkeys(name for report in reports for name in report.groups)
    return AssemblyRecord(
        family=plan.family,
        order=(str(stages.base), *names),
        weights=(1.0, *stages.weights),
        align=stages.align,
        widths="base",
        min_similarity=stages.min_similarity,
        fit="none",
        labels="shared" if plan.labels is not None else None,
        groups={name: _group(name, groups[name], reports) for name in aligned},
        residual=found.residual if any(group.normed_as_a_whole for group in groups.values()) else None,
        tokens=tokens_record(plan),
        positions=plan.positions_told,
        kept={
            name: reason for name, reason in plan.kept.items() if name not in aligned and not reason.startswith(TURNED)
        },
        base_cost=CostRecord(parameters=plan.base_cost.parameters, multiply_adds=plan.base_cost.multiply_adds),
        cost=cost,
        cost_without_zeros=cost,
        calibration=calibration,
        transport=tuple(_carried(str(base), report) for base, report in zip(stages.bases, reports, strict=True)),
    )


def _group(name: str, group: Any, reports: Sequence[TransportReport]) -> GroupRecord:
    """A group of all donors; a donor whose base is the target has all of its units where they are."""
    found = [report.groups.get(name) for report in reports]
    return GroupRecord(
        row=group.row,
        sizes=(group.size, *(group.size if each is None else each.sizes[1] for each in found)),
        merged=group.size,
        matched=tuple(group.size if each is None else each.matched for each in found),
        similarity=tuple(1.0 if each is None else round(each.similarity, DECIMALS) for each in found),
    )


def _carried(base: str, report: TransportReport) -> CarriedRecord:
    return CarriedRecord(
        base=base,
        share=round(report.share, DECIMALS),
        support={name: round(group.support, DECIMALS) for name, group in report.groups.items() if group.support > 1},
        tensors={name: round(each.share, DECIMALS) for name, each in report.tensors.items()},
    )
