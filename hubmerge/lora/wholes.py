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
from hubmerge.method_parameters import weight_shares
from hubmerge.recipe import Recipe

__all__ = ["ByMethod", "BySum", "Wholes", "merged_wholes"]

Array = NDArray[np.float32]
Tensors = Mapping[str, Array]


class Wholes(NamedTuple):
    """copies: whole tensors by name.  biases: of B, by module, with their scale.  carried: tables that factors are added to."""

    copies: dict[str, Array]
    biases: dict[str, Array]
    carried: dict[str, Array]


class Rule(Protocol):
    """How the factors are merged, for whole tensors."""

    def merged(self, base: Tensors, models: Sequence[Tensors]) -> dict[str, Array]:
        """Tensors of every adapter's model, merged as changes of those of the base."""
        ...

    def weights(self, name: str) -> Sequence[float]:
        """Of every adapter, for the mean of one tensor."""
        ...


@dataclass(frozen=True)
class ByMethod:
    """A method on models or their changes, by a recipe that names the adapters `places`."""

    recipe: Recipe
    places: Sequence[str]
    jobs: int | None = None

    def merged(self, base: Tensors, models: Sequence[Tensors]) -> dict[str, Array]:
        named = {place: StateDict(place, dict(own)) for place, own in zip(self.places, models, strict=True)}
        origin = {BASE: StateDict(BASE, dict(base))} if self.recipe.base_model is not None else {}
        return dict(merge_opened(self.recipe, {**origin, **named}, "numpy", {}, self.jobs))

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

    def merged(self, base: Tensors, models: Sequence[Tensors]) -> dict[str, Array]:
        return {
            name: sum((w * (own[name] - origin) for w, own in zip(self.shares, models, strict=True)), origin)
            for name, origin in base.items()
        }

    def weights(self, name: str) -> Sequence[float]:  # noqa: ARG002 - one for all tensors
        return self.shares


def merged_wholes(adapters: Sequence[Adapter], base: AdapterBase | None, missing: Missing, rule: Rule) -> Wholes:
    """Merge everything that adapters have beside their factors; see the module.

    missing: of a tensor that some adapters leave alone, as for modules: zero, it is the base's in them, and takes no part in a mean;
    intersect, it is left out; error, `PlanError`.  Raises `PlanError` for what `check_wholes` does.
    """
    _check(adapters)
    names = _names(adapters, missing, "copies")
    known = [name for name in names if base is not None and base.shape(name) is not None]
    copies: dict[str, Array] = {}
    if base is not None and known:
        for name in known:
            _check_shape(adapters, name, base)
        origin = {name: base.tensor(name) for name in known}
        copies |= rule.merged(
            origin, [{name: own.copies.get(name, origin[name]) for name in known} for own in adapters]
        )
    copies |= {name: _mean(adapters, name, rule.weights(name)) for name in names if name not in copies}
    modules = _names(adapters, missing, "biases")
    zero = {name: np.zeros_like(next(a.biases[name] for a in adapters if name in a.biases)) for name in modules}
    changes = [{name: own.biases.get(name, zero[name]) for name in modules} for own in adapters]
    biases = rule.merged(zero, changes) if modules else {}
    carried = {name: values for own in reversed(adapters) for name, values in own.carried.items()}
    return Wholes({name: copies[name] for name in names}, biases, carried)


def _names(adapters: Sequence[Adapter], missing: Missing, kind: str) -> list[str]:
    held = [set(getattr(adapter, kind)) for adapter in adapters]
    every = sorted(set().union(*held))
    for adapter, own in zip(adapters, held, strict=True):
        absent = next((name for name in every if name not in own), None)
        if absent is not None and missing == "error":
            what = f"{absent!r}" if kind == "copies" else f"the bias of {absent!r}"
            raise PlanError(
                f"{adapter.name} does not change {what}, which another adapter does",
                where="missing",
                hint="missing: zero takes the base's for it, missing: intersect leaves it out",
            )
    return [name for name in every if missing != "intersect" or all(name in own for own in held)]


def _mean(adapters: Sequence[Adapter], name: str, weights: Sequence[float]) -> Array:
    """The copies' mean, summed in float64; of equal shares where the weights have no sum to divide by."""
    held = [(own.copies[name], weight) for own, weight in zip(adapters, weights, strict=True) if name in own.copies]
    shares = weight_shares({"weight": [weight for _, weight in held]}, len(held))
    return np.asarray(sum(s * copy.astype(np.float64) for s, (copy, _) in zip(shares, held, strict=True)), np.float32)


def _check(adapters: Sequence[Adapter]) -> None:
    """`PlanError` for a tensor of several shapes, a module that is whole in one and low-rank in another, and tables that differ."""
    factors = {f"{module}.weight": (module, adapter) for adapter in adapters for module in adapter.modules}
    first: dict[str, tuple[str, Array]] = {}
    for adapter in adapters:
        for name, values in (*adapter.copies.items(), *((f"{m}.bias of B", v) for m, v in adapter.biases.items())):
            other, seen = first.setdefault(name, (adapter.name, values))
            if seen.shape != values.shape:
                raise PlanError(
                    f"{name!r} has another size in each ({other} {_size(seen)}, {adapter.name} {_size(values)})",
                    where="adapters",
                    hint="heads of other labels are no one head: merge adapters that were saved without them",
                )
        both = next((name for name in adapter.copies if name in factors), None)
        if both is not None:
            module, other_adapter = factors[both]
            raise PlanError(
                f"{module!r} is trained whole in {adapter.name} and by factors in {other_adapter.name}",
                where="adapters",
                hint="merge whole models instead: `hubmerge merge` with models named base+adapter",
            )
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


def _check_shape(adapters: Sequence[Adapter], name: str, base: AdapterBase) -> None:
    copy = next(own.copies[name] for own in adapters if name in own.copies)
    if base.shape(name) != copy.shape:
        raise PlanError(
            f"{name!r} has the shape {list(copy.shape)} in the adapters and {list(base.shape(name) or ())} in {base.name}",
            where="base",
            hint="is this the base they were trained on? Without base copies get their mean",
        )


def _size(values: Array) -> str:
    return " x ".join(map(str, values.shape))
