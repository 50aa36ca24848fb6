"""AWD, adaptive weight disentanglement: subtract from every delta what the deltas have in common, then merge what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from numpy import float32
from pydantic import BeforeValidator, Field

from hubmerge.errors import RecipeError
from hubmerge.jit import jitable
from hubmerge.method import Measure, Parameters, PerParent, entrywise, merge_method
from hubmerge.method_parameters import Values
from hubmerge.methods.ties import sign_consensus, undecided_sign
from hubmerge.ops.bits import replaced
from hubmerge.ops.disentangle import Unit, disentangled, without_shared
from hubmerge.ops.sums import weighted_sum
from hubmerge.ops.trim import magnitude_thresholds

__all__ = ["AwdParameters", "awd", "equivalent_weights"]


_NO_SUM = 1e-8
"""A sum of weights below this counts as 1, as under task_arithmetic."""


def _word(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


Normalize = Annotated[Literal["auto", "true", "false"], BeforeValidator(_word)]


class AwdParameters(Parameters):
    inner: Literal["task_arithmetic", "ties", "adamerging"] = Field(
        "task_arithmetic",
        description="how the disentangled deltas become one; adamerging: by coefficients found on data, with the parameters of that method, too",
    )
    alpha: float = Field(0.1, ge=0, description="what the length of the redundant vector counts beside the mean cosine")
    step: float = Field(0.01, gt=0, description="length of a step of the descent")
    iterations: int = Field(300, ge=0, description="steps of the descent; 0 subtracts nothing")
    scope: Literal["model", "tensor"] = Field(
        "model", description="one redundant vector for the whole model, or one for each tensor"
    )
    unit: Literal["auto", "one", "norm"] = Field(
        "auto",
        description="what step and alpha are measured in: one, lengths as they are; norm, the root mean square of the deltas' norms; "
        "auto: one, but norm in tensors under scope: tensor whose deltas are so short that step is over a tenth of the mean square",
    )
    weight: PerParent[float] = Field(1.0, description="coefficient of this parent's disentangled delta")
    lambda_: float = Field(1.0, alias="lambda", description="scale of the merged delta")
    normalize: Normalize = Field(
        "auto", description="divide by the sum of the weights; auto: under ties, not under task_arithmetic"
    )
    density: PerParent[float] = Field(
        1.0,
        ge=0,
        le=1,
        description="ties: kept share of a disentangled delta's entries, the largest ones; 0 keeps none",
    )
    trim_scope: Literal["tensor", "model"] = Field(
        "tensor", description="ties: what the largest entries are chosen of: each tensor, or the whole model"
    )
    elect: Literal["weighted", "plain"] = Field("weighted", description="ties: as under the method ties")
    divide: Literal["weights", "count"] = Field("weights", description="ties: as under the method ties")
    undecided: Literal["plus", "minus", "none"] = Field("plus", description="ties: as under the method ties")


def _check(values: Values) -> None:
    if values["inner"] == "ties" and values["trim_scope"] == "model" and values["scope"] == "tensor":
        raise RecipeError(
            "trim_scope: model trims what is left of the whole model, which scope: tensor does not know before it is merged",
            where="parameters.trim_scope",
            hint="choose trim_scope: tensor, or scope: model",
        )


def _alike(values: Values) -> tuple[str, ...]:
    trimmed = values["inner"] == "ties" and values["trim_scope"] == "model"
    return ("inner", "alpha", "step", "iterations", "unit", "trim_scope", *(("density",) if trimmed else ()))


def _pooled(measure: Measure, values: Values) -> dict[str, Any]:
    """What is shared, as `Disentangled.to_dict`, and for TIES over the whole model the thresholds of what is left."""
    own_unit: Unit = "one" if values["scope"] == "model" and values["unit"] == "auto" else values["unit"]
    found = disentangled(
        measure.gram(),
        alpha=values["alpha"],
        step=values["step"],
        iterations=values["iterations"],
        unit=own_unit,
    )
    state = found.to_dict()
    if values["inner"] == "ties" and values["trim_scope"] == "model":
        state["limits"] = magnitude_thresholds(_without(measure, state), values)
    return state


def _without(measure: Measure, state: Mapping[str, Any]) -> Measure:
    return measure.without(state["shared"], [float(taken) for taken in state["taken"]])


def equivalent_weights(state: Mapping[str, Any], weights: Sequence[float]) -> tuple[float, ...]:
    """The weights with which task arithmetic on the deltas as they are gives the same.

    state: what was found for the tensor, see `Disentangled`.  Of sum(w_t (tau_t - delta)) with delta = sum(c_s tau_s) it is
    w_s - c_s * sum(w_t), the sum over the parents that delta is subtracted from.
    """
    total = sum(weight for weight, taken in zip(weights, state["taken"], strict=True) if taken)
    return tuple(weight - share * total for weight, share in zip(weights, state["shared"], strict=True))


def _arguments(measure: Measure, values: Values) -> Mapping[str, Any]:
    state, ones = measure.pooled, (1.0,) * measure.parents
    by_sign = values["inner"] == "ties"
    weights = values["weight"]
    if not by_sign:
        own = equivalent_weights(state, weights)
        total = sum(weights) if values["normalize"] == "true" else 1.0
        weights = tuple(weight / (total if abs(total) >= _NO_SUM else 1.0) for weight in own)
    limits = state.get("limits")
    if by_sign and limits is None:
        limits = magnitude_thresholds(_without(measure, state), values)
    return {
        "shared": tuple(state["shared"]),
        "taken": tuple(float(taken) for taken in state["taken"]),
        "limits": tuple(limits) if limits is not None else (0.0,) * measure.parents,
        "weight": weights,
        "votes": weights if values["elect"] == "weighted" else ones,
        "shares": weights if values["divide"] == "weights" else ones,
        "normalize": values["normalize"] != "false",
        "undecided": undecided_sign(values["undecided"]),
        "by_sign": by_sign,
    }


@jitable
def _trimmed(deltas: Any, limits: Sequence[float32]) -> Any:
    for k in range(len(deltas)):
        deltas = replaced(deltas, k, deltas[k] if abs(deltas[k]) >= limits[k] else float32(0))
    return deltas


@merge_method(
    "awd",
    parameters=AwdParameters,
    operand="delta",
    measure=_arguments,
    pool=lambda values: values["scope"],
    pooled=_pooled,
    alike=_alike,
    passes=lambda values: 1 + 2 * (values["inner"] == "ties"),
    check=_check,
    paper="Xiong et al. 2024, Multi-task model merging via adaptive weight disentanglement, arXiv:2411.18729; "
    "Yadav et al. 2023, TIES-Merging, arXiv:2306.01708",
)
@entrywise
def awd(
    deltas: Sequence[float32],
    shared: Sequence[float32],
    taken: Sequence[float32],
    limits: Sequence[float32],
    weight: Sequence[float32],
    votes: Sequence[float32],
    shares: Sequence[float32],
    lambda_: float32,
    normalize: bool,
    undecided: float32,
    by_sign: bool,
) -> float32:
    """Subtract from the parents' deltas what makes them alike, then merge what is left, by task arithmetic or by TIES.

    One redundant vector r is subtracted from every parent's delta: plain gradient descent from r = 0, r <- r - step * dL/dr, lowers
    L = mean over the pairs i != j of |cos(delta_i - r, delta_j - r)| + alpha * |r|, which makes what is left less alike.  r is a sum of
    the deltas, whose coefficients are found from their inner products: one pass over the models, and no pass for the descent.  So with
    `inner: task_arithmetic` AWD is task arithmetic with other weights, one for each parent (with `scope: tensor` one for each parent
    and tensor), which the merge records; with TIES it is more.  The inner products are of float32 deltas, added in float64; running
    statistics and counters have no part in them.

    deltas: one float32 per parent.  shared, taken: the redundant entry is sum(shared * delta), and it is subtracted where taken is 1.
    limits: entries of smaller magnitude are trimmed.  weight, votes, shares, undecided: as in `sign_consensus`; under task arithmetic weight is
    `equivalent_weights`, and nothing is subtracted entry by entry.

    Differs from the paper: the descent runs on the coefficients, the same iterates to rounding; the subgradient at corners is 0; a
    parent that learned nothing (in the tensor, with `scope: tensor`) takes no part and stays as it is; weights may differ between
    parents.  A lone parent has nothing in common with another, and is merged by the inner method.  A step has the paper's length,
    made for whole models whose deltas have a norm of about 2; with `scope: tensor`, deltas too short for it (by default of a norm under
    0.32) are measured in their own norm unless `unit` says otherwise.  The paper merges by lambda of about 0.3 (eight tasks); 1 is the
    default here as in task_arithmetic.  TIES trims without `rescale`.
    """
    if by_sign:
        left = _trimmed(without_shared(deltas, shared, taken), limits)
        return sign_consensus(left, weight, votes, shares, lambda_, normalize, undecided)
    return lambda_ * weighted_sum(deltas, weight)
