"""Proved kin -> a `Family`: groups with names and sizes, rows of tensors in the notation, loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubmerge.symmetry.draft_kin import Kin, Kindred, Slot
from hubmerge.symmetry.draft_labels import Labels, labels_of
from hubmerge.symmetry.draft_loops import Loops
from hubmerge.symmetry.draft_names import fixed_name, modules_of, name_of, unused
from hubmerge.symmetry.draft_sizes import SizeFinder
from hubmerge.symmetry.draft_trace import Traced
from hubmerge.symmetry.draft_writing import compact, lines_of, tensor_rows
from hubmerge.symmetry.groups import Kind
from zoo_index.families import Family

__all__ = ["Written", "written_table"]


@dataclass(frozen=True)
class Written:
    """A table, the kin that it could not tell (then it is not to be used), and what the proof refused, with the reason."""

    family: Family
    inexpressible: tuple[int, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass
class _Names:
    """What is being named: the rows of groups, the name in every slot, what normalises each group."""

    groups: list[tuple[str, ...]]
    slots: dict[Slot, str]
    norms: dict[str, str]
    fixed: dict[tuple[str, str], str]
    base: dict[int, str]


def written_table(traced: Sequence[Traced], kindred: Kindred, loops: Loops, finder: SizeFinder, model: Any) -> Written:
    """The table of a model of which two small ones were traced."""
    names = _Names([], {}, {}, {}, {})
    labels = {
        number: labels_of(traced, kindred, kin, loops, finder, modules_of(kindred, kin))
        for number, kin in kindred.kin.items()
    }
    lost = [number for number, kin in kindred.kin.items() if kin.is_free and labels[number] is None]
    lost += _lost_beside(kindred, labels)
    if not lost:
        _name_free(traced[0], kindred, labels, names, finder)
        _name_fixed(kindred, labels, names)
    rows = [] if lost else list(tensor_rows(traced[0], kindred, names.slots, _ranks(model)))
    short = compact(rows, names.norms)
    lines = [(("?" if row.optional else "") + row.name, row.axes, *_condition(row.condition)) for row in short]
    prefix = str(getattr(model, "base_model_prefix", ""))
    family = Family(
        name=str(model.config.model_type).replace("_", "-"),
        model_types=(str(model.config.model_type),),
        loops=dict(loops.counts),
        prefix=f"{prefix}." if prefix and any(row.name.startswith(f"{prefix}.") for row in rows) else "",
        groups="\n".join(lines_of(names.groups)) if names.groups else "",
        tensors="\n".join([*lines_of(lines), *_tied(traced[0], finder)]) if lines else "",
    )
    return Written(family, tuple(dict.fromkeys(lost)), _left_out(kindred))


def _condition(condition: str) -> tuple[str, ...]:
    return () if condition == "True" else (f"if {condition}",)


def _ranks(model: Any) -> dict[str, int]:
    return {name: values.dim() for name, values in model.state_dict().items()}


def _lost_beside(kindred: Kindred, labels: Mapping[int, Labels | None]) -> list[int]:
    """Free kin that share a product with some whose size nothing tells."""
    unsized = {
        (slot.row, slot.axis, slot.segment)
        for number, kin in kindred.kin.items()
        if not kin.is_free and not _sized(labels[number])
        for slot in kin.slots
    }
    return [
        number
        for number, kin in kindred.kin.items()
        if kin.is_free and any((slot.row, slot.axis, slot.segment) in unsized for slot in kin.slots)
    ]


def _sized(labels: Labels | None) -> str:
    """The one expression of a size that holds in every turn; empty where there is none."""
    sizes = {declared.size for declared in labels.declared} if labels else set()
    only = sizes.pop() if len(sizes) == 1 else ""
    return only if "[" not in only else ""


def _name_free(
    traced: Traced, kindred: Kindred, labels: Mapping[int, Labels | None], names: _Names, finder: SizeFinder
) -> None:
    free = {number: kin for number, kin in kindred.kin.items() if kin.is_free}
    largest = max((n for n, kin in free.items() if kin.outer is None), key=lambda n: len(free[n].slots), default=-1)
    for number in free:
        names.base[number] = unused(name_of(traced, kindred, number, largest), set(names.base.values()))
    for number, kin in free.items():
        found = labels[number]
        assert found is not None  # told as lost before
        base = names.base[number]
        for slot, label in found.slots.items():
            names.slots[slot] = base + label
        for declared in found.declared:
            row = (base + declared.label, kin.kind.value, declared.size)
            norm = (f"norm {kin.norm}",) if kin.norm else ()
            names.norms[base + declared.label] = kin.norm or ""
            names.groups += _kinds((*row, *_inside(kin, names, labels), *norm), kin, finder)


def _inside(kin: Kin, names: _Names, labels: Mapping[int, Labels | None]) -> tuple[str, ...]:
    if kin.outer is None or kin.outer not in names.base:
        return ()
    outer = labels[kin.outer]
    assert outer is not None
    return (f"in {names.base[kin.outer]}{outer.declared[0].label}",)


def _kinds(row: tuple[str, ...], kin: Kin, finder: SizeFinder) -> list[tuple[str, ...]]:
    """The rows of a group: where its kind comes with an activation that the config states, other activations only bear an order."""
    acts = [name for name, value in finder.configs[0].items() if name in _ACTIVATIONS and isinstance(value, str)]
    if kin.kind is not Kind.SCALED or not acts:
        return [row]
    value = finder.configs[0][acts[0]]
    return [(*row, f"if {acts[0]} == '{value}'"), (row[0], Kind.PERMUTATION.value, *row[2:])]


_ACTIVATIONS = ("hidden_act", "activation_function", "activation", "hidden_activation", "feed_forward_proj")


def _name_fixed(kindred: Kindred, labels: Mapping[int, Labels | None], names: _Names) -> None:
    for number, kin in kindred.kin.items():
        if kin.is_free:
            continue
        size = _sized(labels[number])
        text = size if size.isdecimal() else "."
        if size and not size.isdecimal():
            base, kind = fixed_name(size, inside=any(slot.factor for slot in kin.slots))
            if (size, kind.value) not in names.fixed:
                taken = {*names.base.values(), *names.fixed.values()}
                names.fixed[size, kind.value] = unused(base, taken)
                names.groups.append((names.fixed[size, kind.value], kind.value, size))
            text = names.fixed[size, kind.value]
        for slot in kin.slots:
            names.slots[slot] = text


def _tied(traced: Traced, finder: SizeFinder) -> list[str]:
    condition = ("if tie_word_embeddings",) if finder.configs[0].get("tie_word_embeddings") is True else ()
    return ["  ".join(("tied", name, stored, *condition)) for name, stored in traced.tied]


def _left_out(kindred: Kindred) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"axis {kin.slots[0].axis} of {kindred.rows[kin.slots[0].row].name}", kin.why)
        for kin in kindred.kin.values()
        if kin.why
    )
