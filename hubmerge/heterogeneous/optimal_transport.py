"""Units matched in part and many to many: the cheapest way to carry one model's units to another's, as maps that mix.

Singh and Jaggi 2020, Model Fusion via Optimal Transport, arXiv:1910.05653, over all groups of a model at once, on correlations of
activations.  Differs from it: the cost is one minus the correlation, where the paper has distances of weights or activations; what is
read goes by the plan's other marginal, so that a narrower and a wider model keep their scale, where the paper has one marginal for both;
layers are not walked through one after the other, since activations do not depend on how the layers before are matched.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.maps import Soft
from hubmerge.heterogeneous.matching import GroupMatches

__all__ = ["coupling", "transported"]

Floats = NDArray[np.float64]

_MOST_SWEEPS = 2000
_TOLERANCE = 1e-4
"""How far, relative to it, a unit may be from the mass that it has."""


def transported(match: GroupMatches, regularisation: float) -> Soft:
    """The map of another parent's units into the base's.

    match: with `worth`.  A unit of the merge is the mean of the other's units by what the plan carries from each of them to the base's
    unit; what reads one of the other's units reads the mean of the base's by the same plan (barycentric maps).
    """
    assert match.worth is not None
    plan = coupling(1 - match.worth, regularisation)
    signs = np.ones(plan.shape) if match.signs is None else match.signs
    return Soft(signs * plan / plan.sum(1, keepdims=True), (signs * plan / plan.sum(0, keepdims=True)).T)


def coupling(cost: Floats, regularisation: float) -> Floats:
    """The plan of smallest cost less `regularisation` times its entropy, of uniform marginals; its sum is 1.

    cost: (units, other's units).  regularisation: in units of the cost; 0 for the exact plan, else Sinkhorn's sweeps (Cuturi 2013,
    arXiv:1306.0895) on logarithms, from a regularisation of 1 on and halved until it is that.
    """
    return _exact(cost) if regularisation == 0 else _entropic(cost, regularisation)


def _entropic(cost: Floats, regularisation: float) -> Floats:
    masses = [np.log(np.full(size, 1 / size)) for size in cost.shape]
    left, right = (np.zeros(size) for size in cost.shape)
    step = max(1.0, regularisation)
    while True:
        for _ in range(_MOST_SWEEPS if step == regularisation else 10):
            left = step * (masses[0] - _log_sums((right - cost) / step))
            reached = _log_sums((left - cost.T) / step) + right / step
            if step == regularisation and np.abs(np.expm1(reached - masses[1])).max() < _TOLERANCE:
                break
            right += step * (masses[1] - reached)
        if step == regularisation:
            found: Floats = np.exp((left[:, None] + right - cost) / step)
            found /= found.sum()
            return found
        step = max(step / 2, regularisation)


def _log_sums(values: Floats) -> Floats:
    """The logarithms of the sums of what the values of every row are logarithms of."""
    largest = values.max(1, keepdims=True)
    found: Floats = np.log(np.exp(values - largest).sum(1)) + largest[:, 0]
    return found


def _exact(cost: Floats) -> Floats:
    """Between models of one width the assignment, else a linear programme."""
    from scipy.optimize import linear_sum_assignment, linprog
    from scipy.sparse import eye_array, kron, vstack

    rows, columns = cost.shape
    if rows == columns:
        plan = np.zeros(cost.shape)
        plan[linear_sum_assignment(cost)] = 1 / rows
        return plan
    sums = vstack([kron(eye_array(rows), np.ones((1, columns))), kron(np.ones((1, rows)), eye_array(columns))])
    masses = np.concatenate([np.full(rows, 1 / rows), np.full(columns, 1 / columns)])
    found = linprog(cost.ravel(), A_eq=sums.tocsr()[:-1], b_eq=masses[:-1], method="highs-ds")
    solved: Floats = np.maximum(found.x, 0).reshape(cost.shape)
    return solved
