"""What of an assembly stays in memory, of as much as is allowed, and what goes to the disk meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.memory import Needs
from hubmerge.parents import ParentModel
from hubmerge.sizes import size_text
from zoo_index.tensors import DType

__all__ = ["MemoryUse", "float32_size", "planned_use", "use_of"]


@dataclass(frozen=True)
class MemoryUse:
    """peak: bytes in memory, an estimate.  room: of them those for what a fit can have on the disk, None where all of it is in memory.
    copied: the parents' places, in the recipe's order, that are copied to the disk in float32 and mapped from there.  disk: bytes there.
    """

    peak: int
    room: int | None = None
    copied: tuple[int, ...] = ()
    disk: int = 0


def planned_use(
    needs: Needs, parameters: int, models: Sequence[ParentModel], memory: int | None, *, copies: bool, untied: int = 0
) -> MemoryUse:
    """`use_of` for these parents.

    parameters: of the merge.  copies: whether the parents are first changed, which takes a copy of each in memory; untied: numbers that a
    copy has beside the stored ones.
    """
    whole = [_SINGLE * model.table.parameters for model in models]
    needs = replace(needs, merge=_SINGLE * parameters)
    if copies:
        needs = replace(needs, least=needs.least + sum(whole) + _SINGLE * untied * len(models))
    return use_of(needs, [float32_size(model) for model in models], memory)


_SINGLE = 4
_USUAL, _ROOM = 2 * 10**9, 5 * 10**8
"""Bytes that are taken where nothing is said: in all, and at least for what can be on the disk."""


def float32_size(model: ParentModel) -> int:
    """Bytes that the model takes in float32; 0 for one that is stored so, which is mapped from its own file."""
    mapped = all(meta.dtype is DType.F32 for meta in model.table.values() if meta.dtype.is_float)
    return 0 if mapped else _SINGLE * model.table.parameters


def use_of(needs: Needs, parents: Sequence[int], memory: int | None) -> MemoryUse:
    """Everything in memory where it fits; else the parents in files that are mapped; else also what a fit can put there.

    parents: bytes that each takes in float32, 0 for one that is stored so, which is mapped from its own file.  memory: bytes allowed; None
    for 2 GB, or more where more has to be there at once.

    Raises `PlanError` where what has to be in memory at once does not fit, alone or with one batch.
    """
    once = needs.merge + needs.least
    if memory is None:
        memory = max(_USUAL, once + needs.batch + _ROOM)
    if once > memory:
        raise PlanError(
            f"the merge needs {size_text(once)} of memory at once, --memory allows {size_text(memory)}",
            where="--memory",
            hint="give more --memory; what is merged takes 4 bytes for a parameter, whatever its type will be",
        )
    if once + needs.batch > memory:
        raise _too_many_samples(needs, memory)
    if needs.whole + sum(parents) <= memory:
        return MemoryUse(needs.whole + sum(parents))
    copied = tuple(place for place, size in enumerate(parents) if size)
    disk = sum(parents)
    if needs.whole <= memory:
        return MemoryUse(needs.whole, None, copied, disk)
    room = memory - once - needs.batch
    peak = once + needs.batch + min(room, needs.halted + needs.sums)
    return MemoryUse(peak, room, copied, disk + needs.halted + needs.sums)


def _too_many_samples(needs: Needs, memory: int) -> PlanError:
    once = needs.merge + needs.least
    fit = (memory - once) * needs.samples // needs.batch
    least = once + needs.batch // needs.samples
    return PlanError(
        f"a batch of {needs.samples} samples takes about {size_text(needs.batch)} in the models beside {size_text(once)} that the merge needs, "
        f"--memory allows {size_text(memory)}",
        where="--memory",
        hint=f"write batch: {fit} under calibration, or give more --memory"
        if fit
        else f"one sample needs {size_text(least)} in all: give more --memory, or shorter texts (max_length) or smaller pictures",
    )
