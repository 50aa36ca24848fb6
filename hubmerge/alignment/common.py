"""Whether one model can be brought into the order of another: one family, the same shapes and groups, numbers that can be moved."""

from __future__ import annotations

from hubmerge.errors import PlanError
from hubmerge.parents import IN_BFLOAT16, ParentModel
from hubmerge.symmetry import Group, SymmetrySpec, load_spec
from zoo_index.families import Family
from zoo_index.tensors import DType

__all__ = ["Specs", "common_spec", "refuse_other_groups", "specs_of_two"]

Specs = tuple[SymmetrySpec, SymmetrySpec]
"""The symmetries of the base, and of the model that is brought into its order."""

_TYPES = frozenset({DType.F64, DType.F32, DType.F16, DType.BF16})


def common_spec(
    ours: ParentModel,
    theirs: ParentModel,
    base: str,
    model: str,
    *,
    unlike: str = "only models of the same shapes are aligned; in a recipe align: weights takes other widths, where it can",
    family: Family | None = None,
) -> SymmetrySpec:
    """The symmetries of `theirs`, which is brought into the order of `ours`.  base, model: what errors call the two.

    unlike: what to do with models of other shapes.  family: their symmetry table, by default that of their architecture.

    Raises `SymmetryError` for an architecture without a table, and `PlanError` for
    models whose families, shapes or groups differ and for types that are not plain floating-point numbers.
    """
    spec, other = specs_of_two(ours, theirs, base, model, family=family)
    for name in ours.table:
        shapes = [parent.table[name].shape for parent in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise PlanError(_shapes_text(name, shapes[0], shapes[1], base, model), where=model, hint=unlike)
    refuse_other_groups(spec, other, base, model)
    return other


def specs_of_two(
    ours: ParentModel, theirs: ParentModel, base: str, model: str, *, family: Family | None = None
) -> Specs:
    """The symmetries of both models, whatever their sizes; the arguments are those of `common_spec`, and so are the errors."""
    spec, other = (
        load_spec(parent.config, {name: meta.shape for name, meta in parent.table.items()}, where=name, family=family)
        for parent, name in ((ours, base), (theirs, model))
    )
    if spec.family != other.family:
        raise PlanError(
            f"{base} is {spec.family}, {model} is {other.family}", where=model, hint="align models of one family"
        )
    for name in dict.fromkeys([*ours.table, *theirs.table]):
        shapes = [parent.table[name].shape if name in parent.table else None for parent in (ours, theirs)]
        if None in shapes:
            hint = "only models with the same tensors are aligned"
            raise PlanError(_shapes_text(name, shapes[0], shapes[1], base, model), where=model, hint=hint)
        for parent, whose in ((ours, base), (theirs, model)):
            dtype = parent.table[name].dtype
            if dtype.is_float and dtype not in _TYPES:
                raise PlanError(f"tensor {name!r} is stored as {dtype.value}", where=whose, hint=IN_BFLOAT16)
    return spec, other


def _shapes_text(name: str, left: tuple[int, ...] | None, right: tuple[int, ...] | None, base: str, model: str) -> str:
    return f"tensor {name!r} is {_shown(left)} in {base} and {_shown(right)} in {model}"


def refuse_other_groups(ours: SymmetrySpec, theirs: SymmetrySpec, base: str, model: str) -> None:
    """Raise `PlanError` for the first thing in which the groups of two models, or the axes that they are on, differ.

    base, model: what errors call the two.
    """
    difference = _first_difference(ours, theirs)
    if difference is not None:
        what, left, right = difference
        raise PlanError(
            f"{what} is {left} in {base} and {right} in {model}",
            where=model,
            hint="only models with the same groups are aligned; compare their config.json",
        )


def _first_difference(ours: SymmetrySpec, theirs: SymmetrySpec) -> tuple[str, str, str] | None:
    """The first group, or else the first tensor by its axes, that is not the same in both, and what it is in each."""
    for name in dict.fromkeys([*ours.groups, *theirs.groups]):
        groups = [_group_text(spec.groups.get(name)) for spec in (ours, theirs)]
        if groups[0] != groups[1]:
            return f"group {name!r}", groups[0], groups[1]
    for name, tensor in ours.tensors.items():
        if tensor.axes != theirs.tensors[name].axes:
            return f"tensor {name!r}", str(tensor), str(theirs.tensors[name])
    return None


def _group_text(group: Group | None) -> str:
    if group is None:
        return "not there"
    inside = f" in each {group.outer}" if group.outer else ""
    norm = f" under {group.norm} norm" if group.norm else ""
    return f"{group.kind.value} of {group.size}{inside}{norm}"


def _shown(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else str(list(shape))
