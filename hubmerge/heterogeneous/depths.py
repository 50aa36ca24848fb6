"""Models of another depth than the base's: whether their blocks can be paired, by what they are made of, and which are left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.block_maps import even_pairs
from hubmerge.heterogeneous.block_pairs import in_stages, same_structure
from hubmerge.heterogeneous.blocks import Block, blocks_of, structure_of
from hubmerge.symmetry.expressions import Fields
from hubmerge.symmetry.groups import Axis, Role, SymmetrySpec
from hubmerge.symmetry.instances import family_of
from hubmerge.symmetry.widened import sizes_of, widened_config

__all__ = [
    "StageDepths",
    "check_depths",
    "config_at_depth",
    "depths_of",
    "differ_in_depth",
    "resized",
    "specs_at_depth",
    "with_sizes",
]


@dataclass(frozen=True)
class StageDepths:
    """A stage in which models have other numbers of blocks.

    name: in the family's table.  blocks: of the models, the base's first.  paired: of each other model, how many blocks are merged with
    one of the base's.
    """

    name: str
    blocks: tuple[int, ...]
    paired: tuple[int, ...]


def differ_in_depth(ours: SymmetrySpec, theirs: SymmetrySpec) -> bool:
    """Whether two models of one family have other numbers of blocks in some stage."""
    return _counts(ours) != _counts(theirs)


def depths_of(specs: Sequence[SymmetrySpec]) -> tuple[StageDepths, ...]:
    """The stages in which not all models have as many blocks.  specs: the base's first, all checked."""
    counts = [_counts(spec) for spec in specs]
    pairs = [
        {stage: same_structure((specs[0], other), both) for stage, both in in_stages((specs[0], other)).items()}
        for other in specs[1:]
    ]
    return tuple(
        StageDepths(
            stage,
            tuple(count[stage] for count in counts),
            tuple(sum(j >= 0 for j in even_pairs(possible[stage])) for possible in pairs),
        )
        for stage, number in counts[0].items()
        if any(count[stage] != number for count in counts)
    )


def check_depths(ours: SymmetrySpec, theirs: SymmetrySpec, called: tuple[str, str]) -> None:
    """Raise `PlanError` unless blocks of both can be paired, stage by stage, and those left over only add to a residual stream.

    A chain of layers cannot lose one: what comes behind would read units of another layer.
    """
    outside = [_rows_outside(spec) for spec in (ours, theirs)]
    odd = min((outside[0] - outside[1]) + (outside[1] - outside[0]), default=None)
    if odd is not None:
        raise PlanError(
            f"only {called[outside[0][odd] < outside[1][odd]]} has the tensor {odd!r}",
            where="models",
            hint="merge models of the same head",
        )
    alone = sorted(_counts(ours).keys() ^ _counts(theirs).keys())
    if alone:
        raise PlanError(
            f"only {called[alone[0] not in _counts(ours)]} has the stage {alone[0]!r}",
            where="models",
            hint="models may differ in the depth of a stage, and have to have the same stages",
        )
    for stage, both in in_stages((ours, theirs)).items():
        if not same_structure((ours, theirs), both).any():
            raise PlanError(
                f"no layer of {stage!r} has the same tensors in {called[0]} and in {called[1]}",
                where="models",
                hint="merge models whose layers are built alike",
            )
        for side, block in _left_over((ours, theirs), both):
            if not _adds_to_a_stream((ours, theirs)[side], block):
                raise PlanError(
                    f"{called[side]} has more layers like {block.name}, which does not add to what it reads",
                    where="models",
                    hint="models of another depth merge where layers have residual branches; merge models of the same depth",
                )


def config_at_depth(config: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with as many layers as `base`, in every stage: of both the same architecture, and the sizes are its own."""
    family = family_of(base)
    fields = Fields(base, family)
    prefix = f"{family.config_key}." if family.config_key else ""
    names = dict.fromkeys(name for text in family.loops.values() for name in fields.sources(text))
    return widened_config(config, {name.removeprefix(prefix): fields.value(name) for name in names})


def specs_at_depth(specs: Sequence[SymmetrySpec], configs: Sequence[Mapping[str, Any]]) -> tuple[SymmetrySpec, ...]:
    """The symmetries of models as they were if all had the base's layers, each with units of its own numbers; the base's first.

    What a plan needs to know of models whose layers are only paired when they are run.
    """
    ours = specs[0]
    at_depth = [
        with_sizes(ours, sizes_of(config_at_depth(config, configs[0]))) if differ_in_depth(ours, spec) else spec
        for spec, config in zip(specs[1:], configs[1:], strict=True)
    ]
    return ours, *at_depth


def with_sizes(spec: SymmetrySpec, sizes: Mapping[str, int]) -> SymmetrySpec:
    """Symmetries with groups of these sizes, where they have others."""
    groups = {name: replace(group, size=sizes.get(name, group.size)) for name, group in spec.groups.items()}
    sized = replace(spec, groups=groups)
    tensors = {
        name: replace(tensor, axes=tuple(resized(axis, sized) for axis in tensor.axes))
        for name, tensor in spec.tensors.items()
    }
    return replace(sized, tensors=tensors)


def resized(axis: Axis, spec: SymmetrySpec) -> Axis:
    """An axis with the sizes that its groups have in `spec`."""
    sizes: dict[str | None, int] = {name: group.size for name, group in spec.groups.items()}
    return tuple(
        tuple(replace(factor, size=sizes.get(factor.group, factor.size)) for factor in segment) for segment in axis
    )


def _counts(spec: SymmetrySpec) -> Counter[str]:
    return Counter(block.stage for block in blocks_of(spec))


def _rows_outside(spec: SymmetrySpec) -> Counter[str]:
    """How many tensors outside of blocks there are of every row of the table."""
    inside = {name for block in blocks_of(spec) for name in block.tensors.values()}
    return Counter(tensor.row for name, tensor in spec.tensors.items() if name not in inside)


def _left_over(
    specs: tuple[SymmetrySpec, SymmetrySpec], both: tuple[Sequence[Block], Sequence[Block]]
) -> list[tuple[int, Block]]:
    """The blocks of kinds that not both have as many of, one of which is left over: (0 or 1, block)."""
    kinds = [[structure_of(spec, block) for block in blocks] for spec, blocks in zip(specs, both, strict=True)]
    return [
        (side, block)
        for side in (0, 1)
        for kind, block in zip(kinds[side], both[side], strict=True)
        if kinds[side].count(kind) > kinds[1 - side].count(kind)
    ]


def _adds_to_a_stream(spec: SymmetrySpec, block: Block) -> bool:
    """Whether the block writes units that it reads and that others have too: without it these stay what they were."""
    inside = set(block.tensors.values())
    shared = {factor.group for name, each in spec.tensors.items() if name not in inside for factor in each.factors}
    factors = [factor for name in inside if len(spec.tensors[name].axes) > 1 for factor in spec.tensors[name].factors]
    read = {factor.group for factor in factors if factor.role is Role.READS}
    written = {factor.group for factor in factors if factor.role is not Role.READS}
    return bool((read & written & shared) - {None})
