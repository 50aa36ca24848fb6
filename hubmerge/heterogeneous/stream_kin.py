"""Whether residual streams are relatives', so that they stand in one basis: what rows of tokens and pixels tell, whole or a sample of them.

Every entry of a stream means the same in models with a common ancestor, and nothing of the sort in strangers: what a token is in
the one stream has a cosine near 1 with what it is in the other, or near 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmerge.assembly_stages import AssemblyStages
from hubmerge.heterogeneous.base_vocabulary import token_groups
from hubmerge.heterogeneous.depths import differ_in_depth
from hubmerge.heterogeneous.stream_form import Stream, is_turnable, known_members, stream_of
from hubmerge.heterogeneous.stream_maps import stream_cosine
from hubmerge.heterogeneous.token_rows import TokenRows
from hubmerge.io.stored import NUMPY, to_singles
from hubmerge.parents import ParentModel
from hubmerge.recipe_stages import Residual
from hubmerge.symmetry.groups import Kind, SymmetrySpec
from hubmerge.symmetry.verify import spec_of
from zoo_index.tensors import TensorMeta

__all__ = ["ALIKE", "SAMPLED", "are_strangers", "chosen_residual"]

ALIKE = 0.5
"""From this cosine on streams are relatives'."""
SAMPLED = 65_536
"""Numbers that are read of each model to tell, at most."""
_ROWS = 16

Floats = NDArray[np.float64]


def chosen_residual(
    models: Sequence[ParentModel],
    specs: Sequence[SymmetrySpec],
    stages: AssemblyStages,
    tokens: Sequence[TokenRows | None],
) -> tuple[AssemblyStages, str]:
    """The stages with what becomes of the residual stream, and what told it; both as they are where nothing is left open, or can be turned.

    models, specs: the base's first.  tokens: for each other model its rows in the base's vocabulary, None where it has the same.  At most
    `SAMPLED` numbers of each model are read.  Raises `CheckpointError` for a file that cannot be read.
    """
    if not _is_open(specs, stages):
        return stages, ""
    stream = stream_of(specs[0])
    found = [
        (*_sampled_cosine((models[0], model), (specs[0], spec), stream, rows), str(model.reference))
        for model, spec, rows in zip(models[1:], specs[1:], tokens, strict=True)
        if not stages.bases or (model.reference in stages.bases and model.reference != models[0].reference)
    ]
    if not found:
        return stages, ""
    cosine, tensor, name = min(found)
    residual: Residual = "keep" if cosine >= ALIKE else "orthogonal"
    if not tensor:
        return replace(stages, residual=residual), f"nothing in it tells that {name} is a relative"
    who = "relatives" if residual == "keep" else "strangers"
    told = f"{tensor} has a cosine of {round(cosine, 2) + 0.0:.2f} with that of {name}, as {who}' have"
    return replace(stages, residual=residual), told


def _is_open(specs: Sequence[SymmetrySpec], stages: AssemblyStages) -> bool:
    """Whether the recipe leaves it open, and the streams could be turned: of models of one depth, and of one width but where it carries."""
    if stages.residual is not None or stages.align == "identity" or not is_turnable(specs[0]):
        return False
    group = stream_of(specs[0]).group
    if group in specs[0].named(stages.without) or any(differ_in_depth(specs[0], spec) for spec in specs[1:]):
        return False
    return bool(stages.bases) or len({spec.groups[group].size for spec in specs}) == 1


def _sampled_cosine(
    models: tuple[ParentModel, ParentModel],
    specs: tuple[SymmetrySpec, SymmetrySpec],
    stream: Stream,
    tokens: TokenRows | None,
) -> tuple[float, str]:
    """The cosine of the same numbers of the largest tensor that relatives have alike, and its name; 0 and none where there is none."""
    groups = token_groups(specs[0]) if tokens is not None else ()
    pairs = []
    for names in zip(*(_telling(spec, stream) for spec in specs), strict=False):
        ours, theirs = (model.table.get(name) for model, name in zip(models, names, strict=True))
        moved = any(factor.group in groups for factor in specs[0].tensors[names[0]].factors)
        if ours is not None and theirs is not None and ours.shape[moved:] == theirs.shape[moved:]:
            pairs.append((ours, theirs, moved))
    if not pairs:
        return 0.0, ""
    ours, theirs, moved = max(pairs, key=lambda pair: pair[0].numel)
    spans = _rows(ours, tokens) if moved and tokens is not None else [(_middle(ours), _middle(ours), _count(ours))]
    left, right = (
        np.concatenate([np.zeros(0), *(_numbers(model, meta, span[side], span[2]) for span in spans)])
        for side, (model, meta) in enumerate(zip(models, (ours, theirs), strict=True))
    )
    norm = math.sqrt(float(left @ left) * float(right @ right))
    return (float(left @ right) / norm if norm > 0 else 0.0), ours.name


def _telling(spec: SymmetrySpec, stream: Stream) -> list[str]:
    """The tensors that relatives have alike: not what reads labels, which fine-tunes begin anew."""
    return known_members(spec, stream, [name for name, group in spec.groups.items() if group.kind is Kind.LABELS])


def _count(meta: TensorMeta) -> int:
    return min(meta.numel, SAMPLED)


def _middle(meta: TensorMeta) -> int:
    """Where a sample begins that is read in one go."""
    return (meta.numel - _count(meta)) // 2


def _rows(ours: TensorMeta, tokens: TokenRows) -> list[tuple[int, int, int]]:
    """Where rows of tokens that both have begin in either, and how many numbers are read of each."""
    shared = np.flatnonzero(tokens.rows >= 0)
    chosen = shared[np.linspace(0, len(shared) - 1, min(_ROWS, len(shared))).astype(np.int64)]
    width = ours.numel // ours.shape[0]
    return [(int(row) * width, int(tokens.rows[row]) * width, min(width, SAMPLED // _ROWS)) for row in chosen]


def _numbers(model: ParentModel, meta: TensorMeta, start: int, count: int) -> Floats:
    size = meta.dtype.bits // 8
    raw = model.source.read(meta.file, meta.start + start * size, meta.start + (start + count) * size)
    stored = np.frombuffer(raw, NUMPY[meta.dtype])
    found = np.empty(stored.shape, np.float32)
    to_singles(stored, meta.dtype, found)
    return np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float64)


def are_strangers(base: Any, other: Any) -> bool:
    """The same of two models in memory, by all that both know of their streams, which can be turned."""
    specs = (spec_of(base), spec_of(other))
    stream = stream_of(specs[0])
    return stream_cosine(specs, stream, (base.state_dict(), other.state_dict()), {}) < ALIKE
