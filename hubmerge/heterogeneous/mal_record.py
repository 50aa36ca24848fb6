"""From what a merge of single layers did to its record in the manifest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hubmerge.heterogeneous.mal_data import MalData
from hubmerge.heterogeneous.mal_decisions import Decision
from hubmerge.heterogeneous.mal_plan_types import MalPlan
from hubmerge.heterogeneous.mal_rounds import Losses
from hubmerge.heterogeneous.mal_zoo import NOISE_SAMPLES
from hubmerge.heterogeneous.record import DECIMALS
from hubmerge.layers_record import CatalogRecord, DecisionRecord, LayersRecord, LossesRecord

__all__ = ["layers_record"]


def layers_record(
    plan: MalPlan, decisions: Sequence[Decision], losses: Losses | None, data: MalData, *, statistics: bool
) -> LayersRecord:
    """What the manifest keeps.  statistics: whether BatchNorm's were estimated anew."""
    own = plan.stages.parameters
    return LayersRecord(
        family=plan.family,
        order=tuple(str(plan.parents[place].reference) for place in plan.order),
        layers=plan.layers[plan.base],
        tau=own.tau,
        eps=own.eps,
        rounds=own.rounds,
        choose=own.choose,
        factors=own.factors,
        min_cka=own.min_cka,
        min_similarity=plan.stages.min_similarity,
        without=plan.stages.without,
        statistics=statistics,
        decisions=tuple(_decision(each) for each in decisions),
        losses=None
        if losses is None
        else LossesRecord(base=_rounded(losses.base), control=_rounded(losses.control), merged=_rounded(losses.merged)),
        calibration=data.calibration,
        noise=NOISE_SAMPLES if data.batches is None else None,
        probe=data.probe,
        catalog=_catalog(plan),
    )


def _decision(made: Decision) -> DecisionRecord:
    return DecisionRecord(
        round=made.round,
        donor=made.donor + 1,
        layer=made.layer,
        position=made.position,
        donor_layer=made.donor_layer,
        cka=_rounded(made.cka),
        similarity=_rounded(made.similarity),
        factor=made.factor,
        drift=_measured(made.drift),
        loss=_measured(made.loss),
        accepted=made.accepted,
        why=made.why,
    )


def _measured(value: float | None) -> float | None:
    """JSON has no number that is not finite."""
    return _rounded(value) if value is not None and math.isfinite(value) else None


def _rounded(value: float) -> float:
    return round(value, DECIMALS)


def _catalog(plan: MalPlan) -> CatalogRecord | None:
    asked = plan.catalog
    if asked is None:
        return None
    query = asked.query
    return CatalogRecord(
        text=query.text or "", licence=query.licence, limit=query.limit, taken=asked.taken, passed=len(asked.passed)
    )
