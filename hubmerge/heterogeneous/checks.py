"""Whether models can be put together at all: one family, the same kinds of layers, and sizes that differ only where units are matched.  No torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.depths import check_depths, differ_in_depth
from hubmerge.heterogeneous.stream_form import is_turnable
from hubmerge.symmetry.groups import Group, Kind, SymmetrySpec

__all__ = ["GIVEN", "check_alike", "check_shapes", "check_sizes", "checked_shares", "known_groups", "matchable"]

GIVEN = "what its entries are is given from outside, and they are matched with nothing; `hubmerge zoo why` tells what these models allow"
"""What to do about a group of fixed entries whose sizes differ."""


def check_alike(specs: Sequence[SymmetrySpec], names: Sequence[str] = (), *, same_depth: bool = False) -> None:
    """Raise `PlanError` unless all models have the same tensors, whatever their sizes, or more or fewer layers of the same kinds.

    specs: the base's first.  names: what the models are called, by default by their places.  same_depth: whether other depths are
    refused.  Tensors are told by their rows in the family's table, since a checkpoint may name them as older versions of its library did.
    """
    called = names or [f"model {place}" for place in range(1, len(specs) + 1)]
    for name, spec in zip(called[1:], specs[1:], strict=True):
        if spec.family != specs[0].family:
            raise PlanError(
                f"{called[0]} is {specs[0].family}, {name} is {spec.family}",
                where="models",
                hint="merge models of one architecture",
            )
        odd_tie = min(_tied_rows(spec) ^ _tied_rows(specs[0]), default=None)
        if odd_tie is not None:
            where = called[0] if odd_tie in _tied_rows(specs[0]) else name
            raise PlanError(
                f"only {where} uses {odd_tie} for its head too",
                where="models",
                hint="save both models with the same tie_word_embeddings; merge_method: mal takes single layers as they are",
            )
        if same_depth and differ_in_depth(specs[0], spec):
            raise PlanError(
                f"{called[0]} and {name} have other numbers of layers",
                where="models",
                hint="take a model of as many; `hubmerge zoo why` tells what else these models allow",
            )
        if differ_in_depth(specs[0], spec):
            check_depths(specs[0], spec, (called[0], name))
        elif (odd := _odd_tensor(specs[0], spec)) is not None:
            where = called[0] if odd in specs[0].tensors else name
            raise PlanError(
                f"only {where} has the tensor {odd!r}",
                where="models",
                hint="merge models of the same kind of layers and head; `hubmerge symmetry show` lists a model's tensors",
            )
        _check_outputs(specs[0], spec, (called[0], name))


def _check_outputs(ours: SymmetrySpec, theirs: SymmetrySpec, called: tuple[str, str]) -> None:
    """Raise `PlanError` for a group that the caller of only one of the models sees, and that stays as it is there alone."""
    for name, group in ours.groups.items():
        kinds = (group.kind, theirs.groups.get(name, group).kind)
        if (kinds[0] is Kind.FIXED) != (kinds[1] is Kind.FIXED):
            raise PlanError(
                f"only the caller of {called[kinds[0] is not Kind.FIXED]} sees {name!r}, which stays as it is there",
                where="models",
                hint="merge models of one class that give the same outputs; merge_method: mal takes single layers as they are",
            )


def check_shapes(
    ours: Mapping[str, Sequence[int]],
    theirs: Mapping[str, Sequence[int]],
    base: str,
    other: str,
    *,
    where: str = "align",
    hint: str = "models of different widths are matched by activations",
) -> None:
    """Raise `PlanError` for a tensor of both that has another shape in each, as matching by weights cannot have it."""
    odd = next((name for name, shape in ours.items() if name in theirs and list(theirs[name]) != list(shape)), None)
    if odd is not None:
        raise PlanError(
            f"tensor {odd!r} is {list(ours[odd])} in {base} and {list(theirs[odd])} in {other}",
            where=where,
            hint=hint,
        )


def _tied_rows(spec: SymmetrySpec) -> frozenset[str]:
    """The tensors, by their rows, that stand for another one as well."""
    return frozenset(spec.tensors[stored].row for _, stored in spec.tied)


def _odd_tensor(first: SymmetrySpec, other: SymmetrySpec) -> str | None:
    """A tensor that only one of the two has; None where both have as many of every row of the table."""
    rows = [Counter(tensor.row for tensor in spec.tensors.values()) for spec in (first, other)]
    if rows[0] == rows[1]:
        return None
    alone = [name for name in {**first.tensors, **other.tensors} if (name in first.tensors) != (name in other.tensors)]
    uneven = {row for row in rows[0].keys() | rows[1].keys() if rows[0][row] != rows[1][row]}
    tensors = {**other.tensors, **first.tensors}
    return next((name for name in alone if tensors[name].row in uneven), None)


def checked_shares(weights: Sequence[float] | None, models: int) -> tuple[float, ...]:
    """The models' shares, alike where none are given; `PlanError` for another number of them, and for shares that have no mean."""
    if weights is None:
        return (1.0,) * models
    if len(weights) != models:
        raise PlanError(
            f"there are {models} models and {len(weights)} weights", where="weights", hint="give each its weight"
        )
    if not (all(0 <= weight < math.inf for weight in weights) and sum(weights) > 0):
        raise PlanError(
            f"weights must be 0 or more, and not all 0, got {', '.join(f'{weight:g}' for weight in weights)}",
            where="weights",
            hint="a weight is a model's share where several have a unit",
        )
    return tuple(weights)


def known_groups(spec: SymmetrySpec, names: Collection[str]) -> tuple[str, ...]:
    """These names of groups or of their rows; `PlanError` for one that is neither."""
    unknown = spec.unknown(names)
    if unknown:
        raise PlanError(
            f"there is no group {min(unknown)!r}",
            where="without",
            hint=f"there are {', '.join(dict.fromkeys(group.row for group in spec.groups.values()))}",
        )
    return tuple(names)


def matchable(spec: SymmetrySpec, without: Collection[str]) -> frozenset[str]:
    """The groups that activations can match although their sizes differ.  without: groups, or their rows, that are not matched."""
    left = spec.named(without)
    outer = {
        name for name, group in spec.groups.items() if group.outer is None and group.kind.permutes and name not in left
    }
    inner = {
        name
        for name, group in spec.groups.items()
        if group.outer in outer and (group.kind.permutes or group.kind is Kind.INVERTIBLE)
    }
    return frozenset(outer | inner)


def check_sizes(
    specs: Sequence[SymmetrySpec], mapped: Container[str], hint: str | None = None, *, on_data: bool = True
) -> None:
    """Raise `PlanError` for a group whose sizes differ and that nothing maps.  mapped: groups whose units are matched.

    hint: what to do about a group whose units could be.  on_data: whether the models could see the same data.
    """
    for name, group in specs[0].groups.items():
        sizes = [spec.groups[name].size for spec in specs if name in spec.groups]
        if name not in mapped and len(set(sizes)) > 1:
            could = name in matchable(specs[0], ()) and not group.normed_as_a_whole
            raise PlanError(
                f"group {name!r} ({group.kind.value}) has {' and '.join(map(str, sizes))} entries",
                where="models",
                hint=hint
                if could and hint is not None
                else _instead(group, turns=is_turnable(specs[0]), on_data=on_data),
            )


def _instead(group: Group, *, turns: bool, on_data: bool) -> str:
    """Why the sizes of a group may not differ, and what would do.  turns: whether streams of the family are turned to other widths."""
    if group.kind.permutes and group.normed_as_a_whole:
        only = (
            "matched only where align: {residual: activations} asks for it"
            if on_data
            else "not matched with more or fewer"
        )
        asked = f"a norm divides by all its units together, so it is {only}"
        carried = "; merge_method: transport carries what a model learned to another width"
        return asked + (carried if turns else "")
    if group.kind in {Kind.PLANES, Kind.PLANE_SIGNS}:
        return (
            "heads are matched as wholes, and their features turn with the position: take models with heads of one size"
        )
    if group.kind is Kind.TOKENS:
        return "rows are aligned by token: in a recipe, save a tokenizer in every folder; in Python, give `tokens`"
    if group.kind is Kind.POSITIONS:
        return "take models with as many positions: of this family no table of positions is brought to another length"
    if group.kind is Kind.FIXED:
        return GIVEN
    return "only groups whose units can be matched may differ in size; `hubmerge symmetry show` lists them"
