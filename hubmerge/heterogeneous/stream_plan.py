"""What a plan and a manifest say of residual streams under a norm: whether they keep their order, are matched, or are turned."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hubmerge.assembly_stages import AssemblyStages
from hubmerge.errors import PlanError
from hubmerge.heterogeneous.checks import check_alike
from hubmerge.heterogeneous.stream_form import is_turnable, stream_of
from hubmerge.symmetry.groups import SymmetrySpec

__all__ = ["TURNED", "check_streams", "head_notes", "stream_reason", "turned_groups", "untied_sizes"]


TURNED = "turned as a whole by the weights that read and write it, the norms' gains absorbed"


def turned_groups(spec: SymmetrySpec, stages: AssemblyStages) -> frozenset[str]:
    """The group of the residual stream where it is turned."""
    return frozenset({stream_of(spec).group}) if stages.residual == "orthogonal" and is_turnable(spec) else frozenset()


def check_streams(specs: Sequence[SymmetrySpec], stages: AssemblyStages, names: Sequence[str]) -> None:
    """Raise `PlanError` for streams that shall be turned and cannot be.  specs, names: the base's first."""
    if stages.residual != "orthogonal":
        return
    stream = stream_of(specs[0])
    if stream.group in specs[0].named(stages.without):
        raise PlanError(
            f"without leaves {stream.group} in its order, residual: orthogonal turns it",
            where="align",
            hint="write one of the two",
        )
    check_alike(specs, names, same_depth=True)
    sizes = [spec.groups[stream.group].size for spec in specs]
    other = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
    if other is not None and not stages.bases:
        raise PlanError(
            f"the residual stream has {sizes[0]} entries in {names[0]} and {sizes[other]} in {names[other]}",
            where="align.residual",
            hint="write merge_method: transport, which carries what was learned from one width to another",
        )


def stream_reason(spec: SymmetrySpec, name: str, stages: AssemblyStages, told: str) -> str:
    """Why the units of a stream are not matched one by one; begins with `TURNED` where it does not keep its order.

    told: what decided it where the recipe leaves it open (`hubmerge.heterogeneous.stream_kin.chosen_residual`).
    """
    own = TURNED if name in turned_groups(spec, stages) else f"a norm over all its units ({spec.groups[name].norm})"
    return f"{own}; {told}" if told else own


def untied_sizes(spec: SymmetrySpec, stages: AssemblyStages) -> tuple[int, ...]:
    """How many numbers each head takes that was tied to the embeddings, where the stream is turned."""
    if stages.residual != "orthogonal":
        return ()
    return tuple(math.prod(spec.tensors[stored].shape) for _, stored in spec.tied)


def head_notes(spec: SymmetrySpec, stages: AssemblyStages) -> list[str]:
    """What becomes of a head that is tied to the embeddings: turned it gets rows of its own, else no fit touches it."""
    if not spec.tied:
        return []
    if turned_groups(spec, stages):
        return [
            "the head gets rows of its own beside the embeddings' (tie_word_embeddings: false), since gains are absorbed by it alone"
        ]
    if stages.fit == "none":
        return []
    return [
        "the head has the embeddings' rows (tie_word_embeddings) and is not fitted; it would be in models saved with rows of its own"
    ]
