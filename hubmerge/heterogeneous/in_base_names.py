"""A model of another depth as its base sees it: its paired blocks by the base's names, the others run but go by none."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.block_alike import stage_alike
from hubmerge.heterogeneous.block_maps import even_pairs, most_pairs
from hubmerge.heterogeneous.block_pairs import (
    Pair,
    PairedDepth,
    in_names_of_base,
    in_stages,
    same_structure,
    without_conflicts,
)
from hubmerge.heterogeneous.blocks import blocks_of
from hubmerge.heterogeneous.depths import config_at_depth, differ_in_depth
from hubmerge.symmetry.groups import SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["InBaseNames", "Parents", "in_common", "parents_in_base_names"]


class InBaseNames:
    """What a merge asks of a parent, of a model whose blocks go by the base's names.

    blocks: the model's own block -> the base's, None for one without a partner: it is run and cannot be told apart from the outside.
    outside: tensors that are in no block whatever they are called, as T5's table of distances is.
    """

    def __init__(self, model: Any, blocks: Mapping[str, str | None], outside: Collection[str]) -> None:
        self._model, self._blocks = model, blocks
        self._outside = {*outside, *(name.rpartition(".")[0] for name in outside)}
        self.config = model.config
        self.forward = model.forward

    def __call__(self, **batch: Tensor) -> Any:
        return self._model(**batch)

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        for name, module in self._model.named_modules():
            known = self._name(name)
            if known is not None:
                yield known, module

    def state_dict(self) -> dict[str, Tensor]:
        named = ((self._name(name), values) for name, values in self._model.state_dict().items())
        return {name: values for name, values in named if name is not None}

    def _name(self, own: str) -> str | None:
        """What the base calls the module or tensor; None in a block without a partner."""
        if own in self._outside:
            return own
        for block, name in self._blocks.items():
            if own == block or own.startswith(f"{block}."):
                return None if name is None else name + own[len(block) :]
        return own


@dataclass(frozen=True)
class Parents:
    """The parents of a merge, the base's first, all by the base's names.

    specs: of each the symmetries of the tensors that it has in common with the base.  configs: at the base's depth.  depths: for every
    other parent how its layers go with the base's; None where it has the base's depth.
    """

    models: tuple[Any, ...]
    specs: tuple[SymmetrySpec, ...]
    configs: tuple[Mapping[str, Any], ...]
    depths: tuple[PairedDepth | None, ...]


def parents_in_base_names(
    models: Sequence[Any],
    specs: Sequence[SymmetrySpec],
    configs: Sequence[Mapping[str, Any]],
    batches: Sequence[Batch],
) -> Parents:
    """Pair the blocks of every parent of another depth with the base's; parents of the base's depth are given back as they are."""
    found: list[tuple[Any, SymmetrySpec, Mapping[str, Any], PairedDepth | None]] = [
        (models[0], specs[0], configs[0], None)
    ]
    for model, spec, config in zip(models[1:], specs[1:], configs[1:], strict=True):
        if not differ_in_depth(specs[0], spec):
            found.append((model, spec, config, None))
            continue
        both = specs[0], spec
        named, own, depth = _in_base_names(model, both, _paired_in_depth((models[0], model), both, batches))
        found.append((named, own, config_at_depth(config, configs[0]), depth))
    parents, theirs, at_depth, depths = zip(*found, strict=True)
    return Parents(parents, theirs, at_depth, depths[1:])


def in_common(ours: SymmetrySpec, theirs: SymmetrySpec) -> SymmetrySpec:
    """The base's symmetries of the tensors that another parent has too."""
    if ours.tensors.keys() <= theirs.tensors.keys():
        return ours
    return replace(ours, tensors={name: tensor for name, tensor in ours.tensors.items() if name in theirs.tensors})


def _paired_in_depth(
    models: Sequence[Any], specs: Sequence[SymmetrySpec], batches: Sequence[Batch]
) -> tuple[Pair, ...]:
    """For every block of the base the donor's that goes with it, inside its stage: as many pairs as there can be.

    models, specs: the base's and the donor's.  In a stage of as many blocks in both they go one with one.  Else the sum of CKAs of what
    they give on the batches is largest; without batches they are spread evenly.
    """
    stages = in_stages(specs)
    unlike = {stage: both for stage, both in stages.items() if len(both[0]) != len(both[1])}
    alike = stage_alike(models, unlike, batches) if batches else {}
    pairs = []
    for stage, (ours, theirs) in stages.items():
        possible = same_structure(specs, (ours, theirs))
        worth = alike.get(stage)
        chosen = even_pairs(possible) if worth is None else most_pairs(worth, possible)
        for i, (block, j) in enumerate(zip(ours, chosen, strict=True)):
            cka = float(worth[i, j]) if worth is not None and j >= 0 else 0.0
            why = "" if j >= 0 else "the other model has fewer layers here"
            pairs.append(Pair(block, theirs[j] if j >= 0 else None, cka, why=why))
    return tuple(pairs)


def _in_base_names(
    model: Any, specs: Sequence[SymmetrySpec], pairs: Sequence[Pair]
) -> tuple[InBaseNames, SymmetrySpec, PairedDepth]:
    """The donor, its symmetries, both by the base's names, and how its layers go with the base's.

    specs: the base's and the donor's own.  The donor's symmetries are those of the tensors that it has in common with the base.
    """
    ours, theirs = specs
    inside = {name for spec in specs for block in blocks_of(spec) for name in block.tensors.values()}
    outside = [name for name in ours.tensors if name not in inside]
    both = [(theirs.tensors[name].factors, ours.tensors[name].factors) for name in outside]
    known = {t.group: o.group for left, right in both for t, o in zip(left, right, strict=True) if t.group and o.group}
    kept, names = without_conflicts(specs, pairs, known)
    own = in_names_of_base(specs, kept, names, outside)
    tensors = {p.ours.tensors[ending]: name for p in kept if p.theirs for ending, name in p.theirs.tensors.items()}
    tensors |= {name: name for name in outside}
    blocks: dict[str, str | None] = dict.fromkeys((block.name for block in blocks_of(theirs)), None)
    blocks |= {pair.theirs.name: pair.ours.name for pair in kept if pair.theirs}
    spec = replace(own, tensors={name: own.tensors[tensors[name]] for name in ours.tensors if name in tensors})
    left_out = tuple(name for name, partner in blocks.items() if partner is None)
    return InBaseNames(model, blocks, outside), spec, PairedDepth(kept, left_out)
