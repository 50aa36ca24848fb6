"""The merged factors of every module: coordinates merged by the engine and brought back, or PEFT's combinations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hubmerge.adapter_words import Basis, CombinationParameters, has_cross_terms
from hubmerge.errors import PlanError
from hubmerge.in_memory import merge_opened
from hubmerge.in_memory_data import NOTHING_GIVEN, GivenData
from hubmerge.in_memory_recipe import BASE
from hubmerge.lora.adapter import Factors
from hubmerge.lora.coordinates import Coordinates, zeros
from hubmerge.lora.low_rank import Reduced, reduced, triplets
from hubmerge.lora.peft_combinations import combined
from hubmerge.lora.spaces import SPACES, Space
from hubmerge.lora.stacks import Stack
from hubmerge.recipe import Recipe
from hubmerge.wrapper import Prepared

__all__ = ["Coefficients", "check_ranks", "combined_modules", "cross_terms", "given_coefficients", "modules_in_basis"]

Coefficients = Callable[[str], tuple[float, ...]]
"""Of a tensor, as adapters name it, what every adapter's `weight` is multiplied with."""


def given_coefficients(coefficients: Coefficients | None, tensors: Mapping[str, str]) -> GivenData:
    """Coefficients as a merge in memory is handed them.  tensors: what the merge calls something -> the tensor that it changes."""
    if coefficients is None:
        return NOTHING_GIVEN
    found = {name: coefficients(tensor) for name, tensor in tensors.items()}
    return GivenData(prepared=Prepared(found, {name: name for name in found}))


def modules_in_basis(
    recipe: Recipe,
    places: Sequence[str],
    stacks: Mapping[str, Stack],
    basis: Basis,
    rank: int | None,
    jobs: int | None,
    coefficients: Coefficients | None = None,
) -> dict[str, Reduced]:
    """Merge the adapters' coordinates in `basis` by a recipe that names them `places`, and its base, if any, `BASE`.

    rank: of the result, at most; None keeps all.  coefficients: of a method that finds some first.
    """
    given = given_coefficients(coefficients, {module: f"{module}.weight" for module in stacks})
    spaces: dict[str, Space] = {module: SPACES[basis](stack) for module, stack in stacks.items()}
    models = {place: Coordinates(place, spaces, i) for i, place in enumerate(places)}
    base = {BASE: zeros(BASE, spaces)} if recipe.method.base == "required" else {}
    merged = dict(merge_opened(recipe, {**base, **models}, "numpy", {}, jobs, given))
    cut = {}
    for module, space in spaces.items():
        cut[module] = reduced(space.back(merged.pop(module).astype(np.float64)), rank)
    return cut


def combined_modules(
    name: str,
    stacks: Mapping[str, Stack],
    own: CombinationParameters,
    weights: Sequence[float],
    rank: int | None,
    seed: int,
) -> dict[str, Reduced]:
    """The adapters combined as PEFT does; own: what is one value for all, weights: of each adapter.

    rank: as for `modules_in_basis`, but that those by ``svd`` keep the largest rank of the adapters without it.
    """
    rule = "linear" if len(weights) == 1 else name  # as in PEFT
    cut = {}
    most = max(part.rank for each in stacks.values() for part in each.present)
    for module, stack in stacks.items():
        b, a = combined(rule, stack, weights, own.density, own.majority_sign_method, seed)
        if rule.endswith("svd"):
            cut[module] = reduced(triplets(b, a), rank or most)
        elif rank is not None:
            cut[module] = reduced(triplets(b, a), rank)
        else:
            cut[module] = Reduced(Factors(a, b), 1.0)
    return cut


def cross_terms(name: str, adapters: int, *, instead: str) -> str | None:
    """A warning of products of one adapter's B with another's A; None where there are none.  instead: how `basis: knots` is written here."""
    if not has_cross_terms(name) or adapters == 1:
        return None
    better = "task_arithmetic" if name == "linear" else instead
    return (
        f"{name} works on A and on B apart, as PEFT does: the result has terms of one adapter's B with another's A, which "
        f"nobody trained; {better} has none"
    )


def check_ranks(name: str, ranks: Mapping[str, Sequence[int]], *, instead: str, where: str = "adapters") -> None:
    """Raise `PlanError` where a combination adds up factors of different ranks.  ranks: of every module, in the adapters that have it."""
    for module, own in ranks.items():
        if has_cross_terms(name) and len(set(own)) > 1:
            raise PlanError(
                f"{name} adds up factors, and those of {module!r} have the ranks {', '.join(map(str, sorted(set(own))))}",
                where=where,
                hint=f"svd, cat and {instead} take any ranks",
            )
