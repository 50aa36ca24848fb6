"""Units matched by activations and weights at once: MuDSC (Xu et al. 2024, Training-Free Pretrained Model Merging, arXiv:2403.01753).

A group's similarity is ``balance`` times that of weights, under the present match of the other groups, plus ``1 - balance`` times
that of activations, which stays; groups are assigned one after the other, from the match by activations on.  Differs from it: weights
are compared by their cosine, where the published code has it about their means; heads are matched with the features inside them; the
paper's variant that also contracts units within a model is not there.  The paper searches the balance on labelled data, among
.1 to .9; its code starts from .5.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from hubmerge.heterogeneous.activations import Correlation
from hubmerge.heterogeneous.maps import Maps
from hubmerge.heterogeneous.matching import GroupMatches, match_units
from hubmerge.heterogeneous.slots import group_maps
from hubmerge.heterogeneous.weight_similarity import weight_similarity
from hubmerge.symmetry.groups import SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["balanced_matches", "blended"]

Floats = NDArray[np.float64]

_MOST_SWEEPS = 100
_LEAST_GAIN = 1e-9


def balanced_matches(
    specs: Sequence[SymmetrySpec],
    tensors: Sequence[Mapping[str, Tensor]],
    seen: Mapping[str, Correlation],
    *,
    balance: float,
    known: Maps | None = None,
    min_similarity: float = 0.0,
    without: Collection[str] = (),
    seed: int = 0,
) -> dict[str, GroupMatches]:
    """The assignment of every group by both similarities.

    specs, tensors: of the base and of another model.  seen: the correlations of their activations.  balance: the weights' share, 0 to
    1.  known: both models' maps of groups that are not matched, as labels.  Groups are visited in an order drawn from `seed`, until a
    sweep over all of them does not raise the mean similarity of pairs.  min_similarity, without: as for `match_units`; similarities
    are the balanced ones.
    """
    best = match_units(specs[0], seen, min_similarity=min_similarity, without=without)
    matches, reached = dict(best), -np.inf
    rng = np.random.default_rng(seed)
    names = list(best)
    for _ in range(_MOST_SWEEPS):
        for i in rng.permutation(len(names)):
            maps = {**group_maps(specs, [matches], {}), **(known or {})}
            alike = blended(weight_similarity(specs, tensors, maps, names[i]), seen[names[i]], balance)
            matches |= match_units(specs[0], {names[i]: alike}, min_similarity=min_similarity, without=without)
        found = float(np.mean([_mean(match) for match in matches.values()])) if matches else 0.0
        if found <= reached + _LEAST_GAIN:
            break
        best, reached = dict(matches), found
    return best


def _mean(match: GroupMatches) -> float:
    """The mean similarity of the pairs, 0 where there are none."""
    return float(match.similarity.sum() / max(match.matched, 1))


def blended(weights: Correlation, activations: Correlation, balance: float) -> Correlation:
    """`balance` of the one and the rest of the other; of groups that only one of them tells of, that one."""
    told = [each.plain for each in (weights, activations) if each.plain.any()]
    return Correlation(
        _both(weights.plain, activations.plain, balance) if len(told) == 2 else (told or [weights.plain])[0],
        _all(weights.nested, activations.nested, balance),
        _all(weights.between, activations.between, balance),
    )


Key = TypeVar("Key")


def _all(ours: Mapping[Key, Floats], theirs: Mapping[Key, Floats], balance: float) -> dict[Key, Floats]:
    common = {name: _both(values, theirs[name], balance) for name, values in ours.items() if name in theirs}
    return {**ours, **theirs, **common}


def _both(ours: Floats, theirs: Floats, balance: float) -> Floats:
    return balance * ours + (1 - balance) * theirs
