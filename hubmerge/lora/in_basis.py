"""A merge of adapters by a method in a basis: for any coefficients of its adapters, and of each adapter alone."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hubmerge.adapter_words import Basis, Missing
from hubmerge.adapters import place_of
from hubmerge.lora.adapter import Adapter, Factors
from hubmerge.lora.base_tensors import AdapterBase
from hubmerge.lora.computing import Coefficients, modules_in_basis
from hubmerge.lora.low_rank import Reduced
from hubmerge.lora.stacks import Stack
from hubmerge.lora.wholes import ByMethod, Wholes, merged_wholes
from hubmerge.recipe import Recipe

if TYPE_CHECKING:
    from hubmerge.adamerging.changes import Change, Thin

__all__ = ["BasisMerge", "is_turned", "thin"]


@dataclass(frozen=True, eq=False)
class BasisMerge:
    """Adapters that are read, and how they are merged.

    recipe: of their coordinates, which it calls `places`.  base: for whole tensors, see `merged_wholes`.
    """

    adapters: Sequence[Adapter]
    stacks: Mapping[str, Stack]
    recipe: Recipe
    places: Sequence[str]
    basis: Basis
    missing: Missing
    base: AdapterBase | None
    jobs: int | None

    def modules(self, rank: int | None, coefficients: Coefficients | None = None) -> dict[str, Reduced]:
        """The merged factors of every module; see `modules_in_basis`."""
        return modules_in_basis(self.recipe, self.places, self.stacks, self.basis, rank, self.jobs, coefficients)

    def wholes(self, coefficients: Coefficients | None = None) -> Wholes:
        """What is merged beside factors."""
        rule = ByMethod(self.recipe, self.places, self.jobs, coefficients)
        return merged_wholes(self.adapters, self.base, self.missing, rule)

    def alone(self, tensors: Collection[str]) -> dict[str, tuple[Change, ...]]:
        """What every adapter alone adds to each tensor that the merge changes, under a method that adds its parents.

        tensors: the base's names, of which those that are changed are the keys.
        """
        with warnings.catch_warnings():  # the merge itself warns
            warnings.simplefilter("ignore", UserWarning)
            rows = [self._added(place, tensors) for place in range(len(self.adapters))]
        return {name: tuple(row[name] for row in rows) for name in rows[0]}

    def _added(self, place: int, tensors: Collection[str]) -> dict[str, Change]:
        import torch

        from hubmerge.adamerging.changes import Whole

        shares = tuple(float(place == other) for other in range(len(self.adapters)))
        modules, wholes = self.modules(None, lambda _: shares), self.wholes(lambda _: shares)
        found: dict[str, Change] = {
            place_of(f"{module}.weight", tensors, self.recipe.method.name): thin(
                own.factors, transposed=is_turned(self.adapters, module)
            )
            for module, own in modules.items()
        }
        deltas = {name: values - self.base.tensor(name) for name, values in wholes.copies.items() if self.base}
        deltas |= {f"{module}.bias": values for module, values in wholes.biases.items()}
        return found | {
            place_of(name, tensors, self.recipe.method.name): Whole(
                torch.from_numpy(np.ascontiguousarray(own, np.float32))
            )
            for name, own in deltas.items()
        }


def thin(factors: Factors, *, transposed: bool) -> Thin:
    """One module's change of its weight.  transposed: whether that is stored as (in, out), as embeddings are."""
    import torch

    from hubmerge.adamerging.changes import Thin

    b = np.float32(factors.scale) * factors.b
    left, right = (factors.a.T, b.T) if transposed else (b, factors.a)
    return Thin(*(torch.from_numpy(np.ascontiguousarray(each, np.float32)) for each in (left, right)))


def is_turned(adapters: Sequence[Adapter], module: str) -> bool:
    """Whether a module stores its weight as (in, out)."""
    return any(module in own.embeddings or bool(own.config.get("fan_in_fan_out")) for own in adapters)
