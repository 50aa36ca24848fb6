"""What adapters have beside factors, as far as shapes tell: which tensors are merged, how, and what does not go together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hubmerge.adapter_words import Missing
from hubmerge.errors import PlanError
from hubmerge.lora.base_tensors import AdapterBase
from zoo_index.tensors import TensorMeta

__all__ = ["PlannedWholes", "planned_wholes"]

Shape = tuple[int, ...]
_HINT = "merge whole models instead: `hubmerge merge` with models named base+adapter"


class _HasShape(Protocol):
    @property
    def shape(self) -> Shape: ...


class _HasWholes(Protocol):
    """An adapter, read or only opened; see `hubmerge.lora.adapter.Adapter`."""

    @property
    def name(self) -> str: ...

    @property
    def modules(self) -> Mapping[str, object]: ...

    @property
    def copies(self) -> Mapping[str, _HasShape]: ...

    @property
    def biases(self) -> Mapping[str, _HasShape]: ...

    @property
    def carried(self) -> Mapping[str, _HasShape]: ...


@dataclass(frozen=True)
class PlannedWholes:
    """Shapes by name: of whole tensors, of biases of B by module, and of tables that factors are added to.

    origin: the base's tensors that whole ones are changes of, by the adapters' names; the others get the mean of their copies.
    """

    copies: Mapping[str, Shape] = field(default_factory=dict)
    biases: Mapping[str, Shape] = field(default_factory=dict)
    carried: Mapping[str, Shape] = field(default_factory=dict)
    origin: Mapping[str, TensorMeta] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        """How many numbers that is."""
        return sum(math.prod(shape) for part in (self.copies, self.biases, self.carried) for shape in part.values())

    def told(self, method: str) -> Iterator[str]:
        """What becomes of them, in sentences.  method: the one that merges the factors."""
        changes = [name for name in self.copies if name in self.origin]
        means = [name for name in self.copies if name not in self.origin]
        if changes:
            yield f"{_counted(changes)}: what training changed of the base's is merged by {method}, apart from the factors"
        if means:
            yield f"{_counted(means)}: the mean of the copies, by weight"
        if self.biases:
            count = len(self.biases)
            yield f"biases of B in {count} module{'s' * (count > 1)} are merged by {method} as the changes that they are"


def planned_wholes(
    adapters: Sequence[_HasWholes], base: AdapterBase | None, missing: Missing, where: str = "adapters"
) -> PlannedWholes:
    """What is merged beside factors, and what of it is in the base.

    missing: of a tensor that some adapters leave alone, as for modules: zero, it is the base's in them, and takes no part in a mean;
    intersect, it is left out; error, `PlanError`.  where: what errors call the place of the adapters.  Raises `PlanError` for a tensor of
    several shapes, and for a module that is whole in one adapter and low-rank in another.
    """
    _check(adapters, where)
    copies = _shapes([adapter.copies for adapter in adapters])
    kept = {name: copies[name] for name in _names(adapters, missing, "copies")}
    found = {name: base.meta(name) for name in kept} if base is not None else {}
    origin = {name: meta for name, meta in found.items() if meta is not None}
    for name, meta in origin.items():
        if meta.shape != kept[name]:
            raise PlanError(
                f"{name!r} has the shape {list(kept[name])} in the adapters and {list(meta.shape)} in {base.name if base else ''}",
                where="base",
                hint="is this the base they were trained on? Without base copies get their mean",
            )
    biases = _shapes([adapter.biases for adapter in adapters])
    own = {module: biases[module] for module in _names(adapters, missing, "biases")}
    return PlannedWholes(kept, own, _shapes([adapter.carried for adapter in adapters]), origin)


def _shapes(parts: Sequence[Mapping[str, _HasShape]]) -> dict[str, Shape]:
    return {name: tuple(held.shape) for part in parts for name, held in part.items()}


def _names(adapters: Sequence[_HasWholes], missing: Missing, kind: str) -> list[str]:
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


def _check(adapters: Sequence[_HasWholes], where: str) -> None:
    factors = {f"{module}.weight": (module, adapter) for adapter in adapters for module in adapter.modules}
    first: dict[str, tuple[str, Shape]] = {}
    for adapter in adapters:
        biases = ((f"{module}.bias of B", bias) for module, bias in adapter.biases.items())
        for name, held in (*adapter.copies.items(), *biases):
            other, shape = first.setdefault(name, (adapter.name, tuple(held.shape)))
            if shape != tuple(held.shape):
                raise PlanError(
                    f"{name!r} has another size in each ({other} {_size(shape)}, {adapter.name} {_size(held.shape)})",
                    where=where,
                    hint="heads of other labels are no one head: merge adapters that were saved without them",
                )
        both = next((name for name in adapter.copies if name in factors), None)
        if both is not None:
            module, other_adapter = factors[both]
            text = f"{module!r} is trained whole in {adapter.name} and by factors in {other_adapter.name}"
            raise PlanError(text, where=where, hint=_HINT)


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _counted(names: Sequence[str]) -> str:
    return f"whole tensor {names[0]!r}" if len(names) == 1 else f"{len(names)} whole tensors ({names[0]!r} the first)"
