"""The layers of a base and those of one donor, paired: which goes with which, how alike they are, and in which order their units stand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.block_pairs import Pair, in_names_of_base, of_blocks, pair_blocks, without_conflicts
from hubmerge.heterogeneous.functions import HALVING_INSIDE, check_functions
from hubmerge.heterogeneous.maps import GroupMap
from hubmerge.heterogeneous.matching import GroupMatches, match_by_activations
from hubmerge.heterogeneous.merged_tensors import merge_tensors
from hubmerge.heterogeneous.other_vocabularies import instead_of_one_vocabulary
from hubmerge.heterogeneous.slots import group_maps
from hubmerge.symmetry.groups import Kind, SymmetrySpec
from hubmerge.symmetry.verify import spec_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Alignment", "align_layers", "check_donor"]


@dataclass(frozen=True)
class Alignment:
    """One donor beside the base.

    pairs: for every layer of the base.  specs: the base's, and the donor's by the base's names of tensors and groups, as far as they are
    paired.  maps: of both, at the base's widths: its units all stay, the donor's without a partner are dropped.
    """

    pairs: tuple[Pair, ...]
    specs: tuple[SymmetrySpec, SymmetrySpec]
    maps: Mapping[str, tuple[GroupMap, ...]]

    def merged(
        self, pair: Pair, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], factor: float
    ) -> dict[str, Tensor]:
        """The tensors of the base's layer with `factor` of the donor's in them, by the base's names.

        ours, theirs: tensors of both models, by their own names.  Units that the donor has no partner for keep the base's rows.
        """
        assert pair.theirs is not None
        base = {name: ours[name] for name in pair.ours.tensors.values()}
        donor = {name: theirs[pair.theirs.tensors[ending]] for ending, name in pair.ours.tensors.items()}
        return merge_tensors(self.specs, (base, donor), self.maps, (1 - factor, factor))


def align_layers(
    base: Any,
    donor: Any,
    batches: Sequence[Batch],
    *,
    min_similarity: float = 0.0,
    min_cka: float = 0.0,
    without: Collection[str] = (),
    where: str = "donor",
) -> Alignment:
    """Pair the layers of two transformers models of one family, whatever their widths and depths.

    Inside each stage the map from the base's layers to the donor's keeps their order and makes the sum of linear CKAs largest; pairs below
    `min_cka` are none.  Then every group of units is matched once for all layers that share it, by correlations of activations, both where
    it is written and where it is read: pairs of units below `min_similarity` are none.  without: groups that keep their order.

    Raises `PlanError`, with `where`, for another family, for other rotary frequencies, and for a donor that cannot be given what the base is given.
    """
    specs = spec_of(base), spec_of(donor)
    check_donor(specs, where)
    check_functions(
        [model.config.to_dict() for model in (base, donor)], ("the base", where), side_by_side=HALVING_INSIDE
    )
    pairs = pair_blocks((base, donor), specs, batches, min_cka)
    pairs, renamed = without_conflicts(specs, pairs)
    ours = of_blocks(specs[0], pairs)
    if not ours.tensors:
        return Alignment(pairs, (ours, ours), {})
    theirs = in_names_of_base(specs, pairs, renamed)
    matches = match_by_activations(
        (base, donor), (ours, theirs), batches, min_similarity=min_similarity, without=without
    )
    named = {pair.ours.tensors[e]: name for pair in pairs if pair.theirs for e, name in pair.theirs.tensors.items()}
    both = ours, replace(theirs, tensors={name: theirs.tensors[own] for name, own in named.items()})
    maps = group_maps(both, [matches], {})
    return Alignment(tuple(_judged(pair, both, matches, maps) for pair in pairs), both, maps)


def check_donor(specs: Sequence[SymmetrySpec], where: str, base: object = None) -> None:
    """Raise `PlanError`, with `where`, unless the second model is of the first's family and reads as many tokens and channels.

    base: the first's name in a recipe; None in memory.
    """
    ours, theirs = specs
    if ours.family != theirs.family:
        raise PlanError(
            f"the base is {ours.family}, this model is {theirs.family}", where=where, hint="merge models of one family"
        )
    for name, group in ours.groups.items():
        other = theirs.groups.get(name)
        if other is None or group.size == other.size:
            continue
        if group.kind is Kind.TOKENS or name == "channel":
            what = "tokens" if group.kind is Kind.TOKENS else "channels of pixels"
            hint = "both models are run on the same data; choose another donor"
            if group.kind is Kind.TOKENS and base is not None:
                hint = instead_of_one_vocabulary(base, ours, theirs)
            raise PlanError(
                f"the base reads {group.size} {what}, this model {other.size}",
                where=where,
                hint=hint,
            )


def _judged(
    pair: Pair,
    specs: Sequence[SymmetrySpec],
    matches: Mapping[str, GroupMatches],
    maps: Mapping[str, tuple[GroupMap, ...]],
) -> Pair:
    """The pair with the similarity of its units; none where a group of other size has no map."""
    if pair.theirs is None:
        return pair
    factors = [factor for name in pair.ours.tensors.values() for factor in specs[0].tensors[name].factors]
    groups = [name for name in dict.fromkeys(factor.group for factor in factors) if name is not None]
    for name in groups:
        sizes = specs[0].groups[name].size, specs[1].groups[name].size
        if name not in maps and sizes[0] != sizes[1]:
            return Pair(pair.ours, None, why=f"group {name!r} has {sizes[0]} entries in the base and {sizes[1]} here")
    found = [float(matches[name].similarity.mean()) for name in groups if name in matches]
    return replace(pair, similarity=float(np.mean(found)) if found else 1.0)
