"""Whether residual streams are relatives', so that they stand in one basis, and whether they can be turned: what a sample of numbers tells.

Every entry of a stream means the same in models with a common ancestor, and nothing of the sort in strangers: what a token is in
the one stream has a cosine near 1 with what it is in the other, or near 0.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hubmerge.assembly_stages import AssemblyStages
from hubmerge.errors import PlanError
from hubmerge.heterogeneous.base_vocabulary import Rows, token_groups
from hubmerge.heterogeneous.depths import differ_in_depth
from hubmerge.heterogeneous.stream_form import (
    LEAST_GAIN,
    Stream,
    is_foldable,
    is_turnable,
    known_members,
    stream_of,
)
from hubmerge.heterogeneous.token_rows import TokenRows
from hubmerge.io.stored import NUMPY, to_singles
from hubmerge.parents import ParentModel
from hubmerge.symmetry.groups import Kind, SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ALIKE", "SAMPLED", "Held", "best_residual", "check_gains", "chosen_residual"]

ALIKE = 0.5
"""From this cosine on streams are relatives'."""
SAMPLED = 65_536
"""Numbers that are looked at of either of two models, at most."""
_ROWS = 16
_LOUDEST = 1.0
"""Root mean square of a shift over its gains, where what is normalised has 1: a louder one, turned, drowns the rest."""

Floats = NDArray[np.float64]


class Numbers(Protocol):
    """The tensors of one model, wherever they are."""

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Of a tensor; None where there is none."""

    def read(self, name: str, start: int, count: int) -> Floats:
        """So many entries of a tensor from the entry `start` on, 0 for what is not finite."""


@dataclass(frozen=True)
class Stored:
    """Those of a model that is stored, each span read once."""

    model: ParentModel
    seen: dict[tuple[str, int, int], Floats] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...] | None:
        meta = self.model.table.get(name)
        return None if meta is None else tuple(meta.shape)

    def read(self, name: str, start: int, count: int) -> Floats:
        """Raises `CheckpointError` for a file that cannot be read."""
        if (name, start, count) not in self.seen:
            meta = self.model.table[name]
            size = meta.dtype.bits // 8
            raw = self.model.source.read(meta.file, meta.start + start * size, meta.start + (start + count) * size)
            stored = np.frombuffer(raw, NUMPY[meta.dtype])
            found = np.empty(stored.shape, np.float32)
            to_singles(stored, meta.dtype, found)
            self.seen[name, start, count] = _finite(found)
        return self.seen[name, start, count]


@dataclass(frozen=True)
class Held:
    """Those of a model in memory, by the names of its ``state_dict``."""

    tensors: Mapping[str, Tensor]

    def shape(self, name: str) -> tuple[int, ...] | None:
        return tuple(self.tensors[name].shape) if name in self.tensors else None

    def read(self, name: str, start: int, count: int) -> Floats:
        values = self.tensors[name].detach().reshape(-1)[start : start + count]
        return _finite(values.double().cpu().numpy())


def _finite(values: NDArray[np.floating]) -> Floats:
    found: Floats = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return found


def chosen_residual(
    models: Sequence[ParentModel],
    specs: Sequence[SymmetrySpec],
    stages: AssemblyStages,
    tokens: Sequence[TokenRows | None],
) -> tuple[AssemblyStages, str]:
    """The stages with what becomes of the residual stream, and what told it; the stages as they are where it cannot be turned at all.

    models, specs: the base's first.  tokens: for each other model its rows in the base's vocabulary, None where it has the same.  Of the
    weights no more is read than `SAMPLED` numbers of either of two models that are compared, and single vectors of norms.

    Raises `PlanError` where it shall be turned and cannot be, `CheckpointError` for a file that cannot be read.
    """
    stored = [Stored(model) for model in models]
    if stages.residual == "orthogonal" and is_turnable(specs[0]) and not stages.bases:
        for model, spec, numbers in zip(models, specs, stored, strict=True):
            check_gains(spec, numbers, str(model.reference))
    if stages.residual is not None or not is_turnable(specs[0]):
        return stages, ""
    if stages.align == "identity" or stream_of(specs[0]).group in specs[0].named(stages.without):
        return replace(stages, residual="keep"), ""
    own_bases = {*stages.bases} - {models[0].reference}
    others = [i for i, model in enumerate(models) if i and (model.reference in own_bases or not stages.bases)]
    residual, told = best_residual(
        [stored[i] for i in (0, *others)],
        [specs[i] for i in (0, *others)],
        [None if (rows := tokens[i - 1]) is None else rows.rows for i in others],
        [str(models[i].reference) for i in (0, *others)],
        carries=bool(stages.bases),
    )
    return replace(stages, residual=residual), told


def best_residual(
    models: Sequence[Numbers],
    specs: Sequence[SymmetrySpec],
    tokens: Sequence[Rows | None],
    names: Sequence[str],
    *,
    carries: bool = False,
) -> tuple[Literal["keep", "orthogonal"], str]:
    """What is best for streams, and what told it, in words: orthogonal where some are strangers' to the first and all can be turned well.

    models, specs, names: the base's first.  tokens: for each other model its rows in the base's vocabulary, None where it has the same.
    carries: whether what was learned is carried, and not whole models merged: then widths may differ, and the base's gains make shifts
    as quiet as they were.
    """
    if not is_turnable(specs[0]) or any(differ_in_depth(specs[0], spec) for spec in specs[1:]):
        return "keep", ""
    stream = stream_of(specs[0])
    if not carries and len({spec.groups[stream.group].size for spec in specs}) > 1:
        return "keep", ""
    others = zip(models[1:], specs[1:], tokens, names[1:], strict=True)
    found = [(*_cosine((models[0], model), (specs[0], spec), stream, rows), name) for model, spec, rows, name in others]
    if not found:
        return "keep", ""
    cosine, tensor, name = min(found)
    who = "strangers" if cosine < ALIKE else "relatives"
    told = f"{tensor} has a cosine of {round(cosine, 2) + 0.0:.2f} with that of {name}, as {who}' have"
    if cosine >= ALIKE:
        return "keep", told
    told = told if tensor else f"nothing in it tells that {name} is a relative"
    for model, spec, own in zip(models, specs, names, strict=True):
        norm = None if carries else _unfit_norm(spec, model)
        if norm is not None:
            return "keep", f"{told}, but {norm} of {own} has gains too small for its shifts to be turned"
    return "orthogonal", told


def check_gains(spec: SymmetrySpec, numbers: Numbers, name: str) -> None:
    """Raise `PlanError` for a stream that a shift behind a gain of nothing keeps from being turned."""
    gain = _unfit_norm(spec, numbers, math.inf)
    if gain is not None:
        raise PlanError(
            f"tensor {gain!r} of {name} has a gain of 0, behind which a rotation of the residual stream is none",
            where="align.residual",
            hint="write residual: keep",
        )


def _unfit_norm(spec: SymmetrySpec, numbers: Numbers, loudest: float = _LOUDEST) -> str | None:
    """The gains behind which a shift cannot be turned, or would be louder than what is normalised; None where there are none.

    A shift that all its readers can take into their biases is none of these.
    """
    for norm in stream_of(spec).norms:
        if norm.shift is None or is_foldable(spec, norm):
            continue
        size = math.prod(spec.tensors[norm.gain].shape)
        gain, shift = (numbers.read(name, 0, size) for name in (norm.gain, norm.shift))
        least = np.abs(gain).min()
        if least < LEAST_GAIN or math.sqrt(np.square(shift / gain).mean()) > loudest:
            return norm.gain
    return None


def _cosine(
    models: tuple[Numbers, Numbers], specs: tuple[SymmetrySpec, SymmetrySpec], stream: Stream, tokens: Rows | None
) -> tuple[float, str]:
    """The cosine of the same numbers of the largest tensor that relatives have alike, and its name; 0 and none where there is none."""
    groups = token_groups(specs[0]) if tokens is not None else ()
    found: list[tuple[int, tuple[str, ...], bool]] = []
    for names in zip(*(_telling(spec, stream) for spec in specs), strict=False):
        ours, theirs = (model.shape(name) for model, name in zip(models, names, strict=True))
        moved = any(factor.group in groups for factor in specs[0].tensors[names[0]].factors)
        if ours is not None and theirs is not None and ours[moved:] == theirs[moved:]:
            found.append((math.prod(ours), names, moved))
    if not found:
        return 0.0, ""
    size, names, moved = max(found, key=lambda each: each[0])
    count = min(size, SAMPLED)
    spans = [((size - count) // 2, (size - count) // 2, count)]
    if moved and tokens is not None:
        spans = _spans(tokens, size // len(tokens))
    left, right = (
        np.concatenate([np.zeros(0), *(model.read(name, span[side], span[2]) for span in spans)])
        for side, (model, name) in enumerate(zip(models, names, strict=True))
    )
    norm = math.sqrt(float(left @ left) * float(right @ right))
    return (float(left @ right) / norm, names[0]) if norm > 0 else (0.0, "")


def _telling(spec: SymmetrySpec, stream: Stream) -> list[str]:
    """The tensors that relatives have alike: not what reads labels, which fine-tunes begin anew."""
    labels: Collection[str] = [name for name, group in spec.groups.items() if group.kind is Kind.LABELS]
    return known_members(spec, stream, labels)


def _spans(tokens: Rows, width: int) -> list[tuple[int, int, int]]:
    """Where rows of tokens that both models have begin in either, and how many numbers are looked at of each."""
    shared = np.flatnonzero(tokens >= 0)
    chosen = shared[np.linspace(0, len(shared) - 1, min(_ROWS, len(shared))).astype(np.int64)]
    return [(int(row) * width, int(tokens[row]) * width, min(width, SAMPLED // _ROWS)) for row in chosen]
