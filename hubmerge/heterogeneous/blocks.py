"""The layers of a model that can be taken one by one: its blocks, as its family's symmetry table counts them, stage by stage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hubmerge.symmetry.groups import SymmetrySpec

__all__ = ["Block", "blocks_of", "structure_of"]

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_VARIABLE = re.compile(r"\{\w+\}")


@dataclass(frozen=True)
class Block:
    """One layer: all tensors below one module.

    name: of the module (``bert.encoder.layer.3``, ``resnet.encoder.stages.0.layers.1``).  stage: what its stage is called in the table,
    the same in all models of the family; blocks are only paired inside one.  index: its number there.  place: its number in the whole
    model.  tensors: what a tensor's name ends with below the block -> its whole name.
    """

    name: str
    stage: str
    index: int
    place: int
    tensors: Mapping[str, str]


def blocks_of(spec: SymmetrySpec) -> tuple[Block, ...]:
    """The blocks of a model, from the first to the last of every stage, stages in the order of the table.

    A tensor is in a block when its row in the table has loops' variables in its name: the block ends at the last of them.  Numbers are
    read from the tensor's own name, so that it does not matter what a version of transformers calls its modules.
    """
    found: dict[str, tuple[str, int, dict[str, str]]] = {}
    for name, tensor in spec.tensors.items():
        variables = list(_VARIABLE.finditer(tensor.row))
        numbers = list(_NUMBER.finditer(name))
        if not variables or len(numbers) < len(variables):
            continue
        last = numbers[len(variables) - 1]
        row = tensor.row[: variables[-1].start()]
        values = iter(numbers)
        stage = _VARIABLE.sub(lambda _: next(values).group(), row).rstrip(".")  # noqa: B023 - used at once
        block = found.setdefault(name[: last.end()], (stage, int(last.group()), {}))
        block[2][name[last.end() + 1 :]] = name
    return tuple(
        Block(name, stage, index, place, tensors) for place, (name, (stage, index, tensors)) in enumerate(found.items())
    )


def structure_of(spec: SymmetrySpec, block: Block) -> tuple[tuple[str, str], ...]:
    """What a block is made of, sizes left out: two blocks that are alike in it can be merged.

    Every tensor's ending with its axes, groups by their order of appearance in the block: which axes share a group counts, and not
    what the group is called.
    """
    seen: dict[str, str] = {}
    rows = []
    for ending, name in sorted(block.tensors.items()):
        axes = " ".join(
            "|".join("*".join(_mark(factor.group, factor.role.value, seen) for factor in segment) for segment in axis)
            for axis in spec.tensors[name].axes
        )
        rows.append((ending, axes))
    return tuple(rows)


def _mark(group: str | None, role: str, seen: dict[str, str]) -> str:
    return role + seen.setdefault(group, f"g{len(seen)}") if group is not None else "."
