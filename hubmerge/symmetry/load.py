"""A model's config and the shapes of its tensors -> its `SymmetrySpec`, checked: every tensor once, every axis of its size."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from hubmerge.symmetry.errors import SymmetryError
from hubmerge.symmetry.expressions import Fields
from hubmerge.symmetry.groups import Axis, Factor, Group, Kind, Role, SymmetrySpec, TensorSymmetry
from hubmerge.symmetry.instances import GroupTable, TensorInstance, family_of, tensor_instances
from hubmerge.symmetry.notation import MarkedFactor, parse_axes, parse_table
from zoo_index.families import Family

__all__ = ["load_spec"]

_NUMBER = re.compile(r"\d+")
_OTHER = "config.json and the weights are not of one model; fetch or save it again"


def load_spec(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], *, where: str = "", family: Family | None = None
) -> SymmetrySpec:
    """The symmetries of a model.

    config: the content of config.json.  shapes: every stored tensor's, by name (a `TensorTable` has them from headers).
    family: its table; by default that of its architecture.

    Raises `SymmetryError` for an architecture without a table, and with all faults at once for tensors that the table does
    not have, that are missing, that two names stand for, or whose axes are not what the config says.
    """
    family = family_of(config, where) if family is None else _fitting(family, config, where)
    fields = Fields(config, family, where)
    groups = GroupTable(family, fields)
    instances = tensor_instances(family, fields)
    stored, faults = _matched(shapes, instances, family, where)
    faults += _missing(stored.keys(), instances, where)
    tensors = {}
    for table_name, name in stored.items():
        shape = tuple(shapes[name])
        tensors[name] = _tensor(name, instances[table_name], groups, shape)
        faults += _shape_faults(tensors[name], shape, where)
    if faults:
        raise SymmetryError.of(_condensed(faults))
    tensors = {stored[name]: tensors[stored[name]] for name in instances if name in stored}
    factors = [factor for tensor in tensors.values() for factor in tensor.factors]
    output = groups.canonical(fields.filled(family.output, {})) if _is_headless(family, fields, shapes) else None
    ends = {(factor.group, factor.role) for factor in factors}
    names = [name for name in dict.fromkeys(factor.group for factor in factors) if name is not None]
    return SymmetrySpec(
        family.name,
        {name: _seen(groups.group(name), output, ends) for name in names},
        tensors,
        _tied(family, fields, stored),
        tuple((name, group) for name, group in groups.same.items() if name in _written(stored, instances)),
    )


def _fitting(family: Family, config: Mapping[str, Any], where: str) -> Family:
    """`family`, where it is for the architecture of the config."""
    if config.get("model_type") not in family.model_types:
        raise SymmetryError(
            f"the symmetry table {family.name} is for {', '.join(family.model_types)}, the model is {config.get('model_type')!r}",
            where=where,
            hint="use the table of the model's architecture",
        )
    return family


def _matched(
    shapes: Collection[str], instances: Mapping[str, TensorInstance], family: Family, where: str
) -> tuple[dict[str, str], list[SymmetryError]]:
    """The table's name -> the stored name, and what is stored but not in the table, or twice."""
    stored: dict[str, str] = {}
    faults = []
    nearest: dict[str, str] = {}  # looked for once for tensors that differ in numbers only, since it takes a while
    for name in shapes:
        known = _table_name(name, instances, family)
        if known not in instances:
            alike = _NUMBER.sub("0", known)
            if alike not in nearest:
                nearest[alike] = get_close_matches(known, instances, n=1, cutoff=0.0)[0]
            message = f"tensor {name!r} is not in the symmetry table {family.name}"
            faults.append(SymmetryError(message, where=where, hint=f"the nearest name in it is {nearest[alike]!r}"))
        elif known in stored:
            message = f"tensors {stored[known]!r} and {name!r} are both {known!r} of the symmetry table {family.name}"
            faults.append(SymmetryError(message, where=where, hint="delete the one that the model does not load"))
        else:
            stored[known] = name
    return stored, faults


def _table_name(name: str, instances: Mapping[str, TensorInstance], family: Family) -> str:
    if name in instances:
        return name
    for pattern, replacement in family.aliases:
        name = re.sub(pattern, replacement, name)
    whole = family.prefix + name
    return whole if name not in instances and whole in instances else name


def _written(stored: Iterable[str], instances: Mapping[str, TensorInstance]) -> set[str]:
    """The groups' names on the stored tensors' axes as the table writes them."""
    axes = (axis for name in stored for axis in parse_axes(instances[name].axes))
    return {factor.name for axis in axes for segment in axis for factor in segment}


def _missing(stored: Iterable[str], instances: Mapping[str, TensorInstance], where: str) -> list[SymmetryError]:
    """Required tensors that are not stored, and those that belong to a block of which others are."""
    present = set(stored)
    begun = {instances[name].row.together for name in present} - {None}
    return [
        SymmetryError(f"tensor {name!r} is missing, which config.json says the model has", where=where, hint=_OTHER)
        for name, instance in instances.items()
        if name not in present and (instance.row.together is None or instance.row.together in begun)
    ]


def _tensor(name: str, instance: TensorInstance, groups: GroupTable, shape: tuple[int, ...]) -> TensorSymmetry:
    axes = parse_axes(instance.axes)
    sizes = (*shape, *(0 for _ in axes))  # too few axes are told later
    return TensorSymmetry(
        name,
        instance.row.name,
        instance.row.axes or "-",
        tuple(
            tuple(tuple(_factor(factor, groups, size) for factor in segment) for segment in axis)
            for axis, size in zip(axes, sizes, strict=False)
        ),
    )


def _factor(factor: MarkedFactor, groups: GroupTable, stored: int) -> Factor:
    if factor.name == ".":
        return Factor(None, Role.WRITES, stored)
    if factor.name.isdecimal():
        return Factor(None, Role.WRITES, int(factor.name))
    group = groups.group(groups.canonical(factor.name))
    return Factor(group.name, factor.role, group.size)


def _shape_faults(tensor: TensorSymmetry, shape: tuple[int, ...], where: str) -> list[SymmetryError]:
    if len(shape) != len(tensor.axes):
        message = f"tensor {tensor.name!r} has shape {list(shape)}, the symmetry table gives it the axes {tensor}"
        return [SymmetryError(message, where=where, hint=_OTHER)]
    return [
        SymmetryError(
            f"axis {i} of tensor {tensor.name!r} has {shape[i]} entries, config.json says {size} ({_product(axis)})",
            where=where,
            hint=_OTHER,
        )
        for i, (axis, size) in enumerate(zip(tensor.axes, tensor.shape, strict=True))
        if shape[i] != size
    ]


def _product(axis: Axis) -> str:
    return " + ".join(" x ".join(f"{factor.group or 'always'} {factor.size}" for factor in segment) for segment in axis)


def _condensed(faults: list[SymmetryError]) -> list[SymmetryError]:
    """Faults that differ in numbers only, as layers' do, are told once, with how many there are."""
    alike: dict[str, list[SymmetryError]] = {}
    for fault in faults:
        alike.setdefault(_NUMBER.sub("0", fault.message), []).append(fault)
    return [
        SymmetryError(f"{first.message}; {len(rest)} more like it", where=first.where, hint=first.hint)
        if rest
        else first
        for first, *rest in alike.values()
    ]


def _tied(family: Family, fields: Fields, stored: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Tied tensors, by their stored names where they are stored."""
    return tuple(
        (stored.get(pair.first, pair.first), stored[pair.second])
        for pair in parse_table(family).tied
        if pair.second in stored and fields.value(pair.condition)
    )


def _is_headless(family: Family, fields: Fields, names: Iterable[str]) -> bool:
    """Whether the body is the whole model, so that its output is what the caller sees."""
    if fields.architecture:
        return fields.architecture in family.bodies
    return not any(name.startswith(family.prefix) for name in names)


def _seen(group: Group, output: str | None, ends: Collection[tuple[str | None, Role]]) -> Group:
    """The group, fixed when nothing in the checkpoint could undo a change of it.  ends: groups with roles that axes have in them."""
    if not group.kind.is_symmetry:
        return group
    if group.name == output:
        return replace(group, kind=Kind.FIXED, note="it is the model's output")
    if (group.name, Role.READS) not in ends:
        return replace(group, kind=Kind.FIXED, note="nothing reads it but the model's caller")
    if (group.name, Role.WRITES) not in ends:
        return replace(group, kind=Kind.FIXED, note="the tensors that write it are not stored")
    return group
