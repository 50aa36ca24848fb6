"""The modules of several adapters side by side: which of them change a module, and what a missing one means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from hubmerge.adapter_words import Missing
from hubmerge.errors import PlanError, shown
from hubmerge.lora.adapter import Adapter, Factors

__all__ = ["Stack", "modules_of", "stacks_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """One module's factors in every adapter, None where an adapter leaves the module alone."""

    module: str
    parts: tuple[Factors | None, ...]

    @property
    def present(self) -> tuple[Factors, ...]:
        return tuple(part for part in self.parts if part is not None)

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the change."""
        return self.present[0].shape

    @property
    def columns(self) -> tuple[slice, ...]:
        """Where each adapter's columns are in `b`, and its rows in `a`; empty ones for an adapter without the module."""
        found, start = [], 0
        for part in self.parts:
            stop = start + (part.rank if part is not None else 0)
            found.append(slice(start, stop))
            start = stop
        return tuple(found)

    def b(self) -> Floats:
        """All second factors side by side with their scales, (out, sum of ranks), float64."""
        return np.concatenate([part.scale * part.b.astype(np.float64) for part in self.present], axis=1)

    def a(self) -> Floats:
        """All first factors one below the other, (sum of ranks, in), float64."""
        return np.concatenate([part.a.astype(np.float64) for part in self.present])


class _HasShape(Protocol):
    """Factors of one module, read or only as a header tells."""

    @property
    def shape(self) -> tuple[int, int]: ...


Part_co = TypeVar("Part_co", bound=_HasShape, covariant=True)


class _HasModules(Protocol[Part_co]):
    """An adapter, read or only opened."""

    @property
    def name(self) -> str: ...

    @property
    def modules(self) -> Mapping[str, Part_co]: ...


def stacks_of(adapters: Sequence[Adapter], missing: Missing) -> dict[str, Stack]:
    """Every module that an adapter changes, in the order of their names; see `modules_of`."""
    return {module: Stack(module, parts) for module, parts in modules_of(adapters, missing).items()}


def modules_of(
    adapters: Sequence[_HasModules[Part_co]], missing: Missing, where: str = "adapters"
) -> dict[str, tuple[Part_co | None, ...]]:
    """Every module that an adapter changes, in the order of their names, with what each adapter has of it.

    missing: of a module that some adapters leave alone: zero, they change nothing there; intersect, it is left out; error, `PlanError`.
    where: what errors call the place of the adapters.  Raises `PlanError` for a module of several shapes, where nothing is left, and for any
    other word.
    """
    if missing not in get_args(Missing):
        raise PlanError(
            f"there is no choice {shown(missing)}", where="missing", hint=f"one of: {', '.join(get_args(Missing))}"
        )
    names = sorted({module for adapter in adapters for module in adapter.modules})
    found = {}
    for module in names:
        parts = tuple(adapter.modules.get(module) for adapter in adapters)
        absent = next((a.name for a, part in zip(adapters, parts, strict=True) if part is None), None)
        if absent is not None and missing == "error":
            raise PlanError(
                f"{absent} does not change {module!r}, which another adapter does",
                where="missing",
                hint="missing: zero takes that for no change, missing: intersect leaves the module out",
            )
        if absent is not None and missing == "intersect":
            continue
        _check_shapes(adapters, module, parts, where)
        found[module] = parts
    if not found:
        raise PlanError("the adapters have no module in common", where="missing", hint="write missing: zero")
    return found


def _check_shapes(
    adapters: Sequence[_HasModules[Part_co]], module: str, parts: Sequence[Part_co | None], where: str
) -> None:
    shapes = {adapter.name: part.shape for adapter, part in zip(adapters, parts, strict=True) if part is not None}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {out} x {within}" for name, (out, within) in shapes.items())
        raise PlanError(
            f"{module!r} has another size in each ({told})",
            where=where,
            hint="adapters that were trained on models of one shape can be merged",
        )
