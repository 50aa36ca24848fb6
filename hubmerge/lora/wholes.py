"""What adapters have beside low-rank factors: whole tensors (modules_to_save, biases) and biases of factors, merged with them.

A whole tensor is a copy of one of the base's that was trained itself.  With the base at hand its change is merged by the method that
merges the factors, as a model's is, apart from them: thresholds over a whole model are its own.  Without it, and where the base has no
such tensor (the head of a classifier), the copies get their mean, weighted by `weight`.  The bias of a B is a change already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hubmerge.adapter_words import Missing
from hubmerge.errors import PlanError
from hubmerge.in_memory import merge_opened
from hubmerge.in_memory_recipe import BASE
from hubmerge.in_memory_tensors import StateDict
from hubmerge.lora.adapter import Adapter
from hubmerge.lora.base_tensors import AdapterBase
from hubmerge.lora.computing import Coefficients, given_coefficients
from hubmerge.lora.planned_wholes import planned_wholes
from hubmerge.method_parameters import weight_shares
from hubmerge.recipe import Recipe

__all__ = ["ByMethod", "BySum", "Rule", "Wholes", "merged_wholes"]

Array = NDArray[np.float32]
Tensors = Mapping[str, Array]


class Wholes(NamedTuple):
    """copies: whole tensors by name.  biases: of B, by module, with their scale.  carried: tables that factors are added to."""

    copies: dict[str, Array]
    biases: dict[str, Array]
    carried: dict[str, Array]


class Rule(Protocol):
    """How the factors are merged, for whole tensors."""

    def merged(self, base: Tensors, models: Sequence[Tensors], *, suffix: str = "") -> dict[str, Array]:
        """Tensors of every adapter's model, merged as changes of those of the base.  suffix: what their names lack of the base's."""
        ...

    def weights(self, name: str) -> Sequence[float]:
        """Of every adapter, for the mean of one tensor."""
        ...


@dataclass(frozen=True)
class ByMethod:
    """A method on models or their changes, by a recipe that names the adapters `places`; coefficients: of one that finds some first."""

    recipe: Recipe
    places: Sequence[str]
    jobs: int | None = None
    coefficients: Coefficients | None = None

    def merged(self, base: Tensors, models: Sequence[Tensors], *, suffix: str = "") -> dict[str, Array]:
        given = given_coefficients(self.coefficients, {name: f"{name}{suffix}" for name in base})
        named = {place: StateDict(place, dict(own)) for place, own in zip(self.places, models, strict=True)}
        origin = {BASE: StateDict(BASE, dict(base))} if self.recipe.base_model is not None else {}
        return dict(merge_opened(self.recipe, {**origin, **named}, "numpy", {}, self.jobs, given))

    def weights(self, name: str) -> Sequence[float]:
        section = self.recipe.sections[0]
        rows = [
            section.scopes.resolve(self.recipe.method, ref, name, 0.0) for ref in section.parents(self.recipe.method)
        ]
        return [float(row.get("weight", 1.0)) for row in rows]


@dataclass(frozen=True)
class BySum:
    """PEFT's combinations: changes are added up with the adapters' weights."""

    shares: Sequence[float]

    def merged(self, base: Tensors, models: Sequence[Tensors], *, suffix: str = "") -> dict[str, Array]:  # noqa: ARG002 - one for all tensors
        return {
            name: sum((w * (own[name] - origin) for w, own in zip(self.shares, models, strict=True)), origin)
            for name, origin in base.items()
        }

    def weights(self, name: str) -> Sequence[float]:  # noqa: ARG002 - one for all tensors
        return self.shares


def merged_wholes(adapters: Sequence[Adapter], base: AdapterBase | None, missing: Missing, rule: Rule) -> Wholes:
    """Merge everything that adapters have beside their factors; see the module.

    missing: see `planned_wholes`, whose errors are raised, and `PlanError` for tables that factors are added to and that differ.
    """
    planned = planned_wholes(adapters, base, missing)
    carried = _same_tables(adapters)
    copies: dict[str, Array] = {}
    if base is not None and planned.origin:
        origin = {name: base.tensor(name) for name in planned.origin}
        models = [{name: own.copies.get(name, values) for name, values in origin.items()} for own in adapters]
        copies |= rule.merged(origin, models)
    copies |= {name: _mean(adapters, name, rule.weights(name)) for name in planned.copies if name not in copies}
    zero = {module: np.zeros(shape, np.float32) for module, shape in planned.biases.items()}
    changes = [{module: own.biases.get(module, none) for module, none in zero.items()} for own in adapters]
    biases = rule.merged(zero, changes, suffix=".bias") if zero else {}
    return Wholes({name: copies[name] for name in planned.copies}, biases, carried)


def _mean(adapters: Sequence[Adapter], name: str, weights: Sequence[float]) -> Array:
    """The copies' mean, summed in float64; of equal shares where the weights have no sum to divide by."""
    held = [(own.copies[name], weight) for own, weight in zip(adapters, weights, strict=True) if name in own.copies]
    shares = weight_shares({"weight": [weight for _, weight in held]}, len(held))
    return np.asarray(sum(s * copy.astype(np.float64) for s, (copy, _) in zip(shares, held, strict=True)), np.float32)


def _same_tables(adapters: Sequence[Adapter]) -> dict[str, Array]:
    """Tables of the base that adapters bring along: they have to be one and the same."""
    tables: dict[str, tuple[str, Array]] = {}
    for adapter in adapters:
        for name, values in adapter.carried.items():
            other, seen = tables.setdefault(name, (adapter.name, values))
            if not np.array_equal(seen, values):
                raise PlanError(
                    f"{other} and {adapter.name} were trained on different {name!r}, which they bring along",
                    where="adapters",
                    hint="are they of one base?",
                )
    return {name: values for name, (_, values) in tables.items()}
