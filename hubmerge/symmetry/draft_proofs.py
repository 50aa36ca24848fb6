"""The numeric proof of every group that a trace suggests: what it allows must leave the answers of a small model alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hubmerge.symmetry.draft_kin import Kin, Kindred
from hubmerge.symmetry.draft_trace import Traced
from hubmerge.symmetry.elements import random_element
from hubmerge.symmetry.groups import Factor, Group, Kind, Role, SymmetrySpec, TensorSymmetry
from hubmerge.symmetry.transform import transform
from hubmerge.symmetry.verify import answers, drawn_anew, largest_difference

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TOLERANCE", "proven"]

TOLERANCE = 1e-5
"""The relative error below which the answers are the same: some models compute parts in float32."""

_WIDER = (Kind.SIGNED_SCALED, Kind.SIGNED, Kind.SCALED)


def proven(model: Any, inputs: Mapping[str, Tensor], traced: Traced, kindred: Kindred, seed: int = 0) -> Kindred:
    """Each kin with the widest kind that the proof accepts; what not even bears another order stays as it is.

    Tried one kin at a time, on the model with its weights drawn anew.  Kin with others inside are reordered and no more: signs
    and scales of a whole block are those of what is inside.
    """
    trial = _Trial(model, inputs, traced, seed)
    blocks = {kin.outer for kin in kindred.kin.values()}
    for number, kin in kindred.kin.items():
        if not kin.is_free:
            continue
        if not trial.holds(kindred, number):
            kindred = kindred.with_kin(number, kin.fixed("in another order the answers change"))
            continue
        if number in blocks:
            continue
        has_both = {kindred.role(traced, slot) for slot in kin.slots} >= {Role.READS, Role.WRITES}
        wider = _WIDER if kin.outer is None else (Kind.INVERTIBLE,)
        tried = (replace(kin, kind=kind) for kind in (wider if has_both else ()))
        found = next((each for each in tried if trial.holds(kindred.with_kin(number, each), number)), kin)
        kindred = kindred.with_kin(number, found)
    return kindred


class _Trial:
    """A small model drawn anew, and its answers."""

    def __init__(self, model: Any, inputs: Mapping[str, Tensor], traced: Traced, seed: int) -> None:
        self._drawn = drawn_anew(model, seed)
        self._inputs, self._traced, self._seed = inputs, traced, seed
        self._before = answers(self._drawn, inputs)
        self._changed = copy.deepcopy(self._drawn)

    def holds(self, kindred: Kindred, number: int) -> bool:
        """Whether a random element of one kin leaves the answers alone."""
        state = self._drawn.state_dict()
        spec = _spec(self._traced, kindred, {name: tuple(values.shape) for name, values in state.items()})
        only = {str(index) for index in kindred.kin[number].indices}
        self._changed.load_state_dict(transform(spec, state, random_element(spec, self._seed, only=only)))
        return largest_difference(self._before, answers(self._changed, self._inputs)) <= TOLERANCE


def _spec(traced: Traced, kindred: Kindred, shapes: Mapping[str, tuple[int, ...]]) -> SymmetrySpec:
    """The symmetries of the small model, groups called by the numbers of their indices."""
    outers = _outer_indices(traced, kindred)
    groups = {
        str(index): Group(str(index), str(number), kin.kind, traced.sizes[index], outers.get(index))
        for number, kin in kindred.kin.items()
        for index in kin.indices
    }
    return SymmetrySpec("draft", groups, {name: _tensor(traced, name, shape) for name, shape in shapes.items()})


def _outer_indices(traced: Traced, kindred: Kindred) -> dict[int, str]:
    """Of every nested index the name of the group that it is inside of."""
    found = {}
    for axes in traced.axes.values():
        for segment in (segment for axis in axes for segment in axis):
            for index in segment[1:]:
                kin: Kin = kindred.kin[kindred.at[index]]
                if kin.outer is not None:
                    found[index] = str(segment[0])
    return found


def _tensor(traced: Traced, name: str, shape: tuple[int, ...]) -> TensorSymmetry:
    axes = traced.axes.get(name)
    if axes is None:  # the answers do not depend on it
        return TensorSymmetry(name, name, "", tuple(((Factor(None, Role.WRITES, size),),) for size in shape))
    found = tuple(
        tuple(
            tuple(
                Factor(str(index), traced.role(name, i, j, k), traced.sizes[index]) for k, index in enumerate(segment)
            )
            for j, segment in enumerate(axis)
        )
        or ((Factor(None, Role.WRITES, 1),),)
        for i, axis in enumerate(axes)
    )
    return TensorSymmetry(name, name, "", found)
