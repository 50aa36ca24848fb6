"""A residual stream that may be turned as a whole: norm gains absorbed by what reads, means taken out of what writes.

RMSNorm without gains commutes with every rotation.  LayerNorm does where nothing that is written has a mean, with rotations that keep
the mean (Ashkboos et al. 2024, SliceGPT, arXiv:2401.15024; Theus et al. 2025, arXiv:2506.22712).  A shift b behind a gain g becomes
b / g, so that readers need no bias to take it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hubmerge.errors import PlanError
from hubmerge.symmetry.groups import Role, SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TURNING_FAMILIES", "Norm", "Stream", "absorbed", "is_turnable", "restored", "stream_axis", "stream_of"]

TURNING_FAMILIES = ("llama", "gpt2", "vit")
"""Symmetry tables with one stream whose every reader is behind a norm of its own; a test proves it of each."""

_LAYER = re.compile(r"\.(\d+)\.")
_LEAST_GAIN = 1e-6


@dataclass(frozen=True)
class Norm:
    """A norm of the stream: its gain's and its shift's tensors, and the tensors that read behind it."""

    gain: str
    shift: str | None
    readers: tuple[str, ...]


@dataclass(frozen=True)
class Stream:
    """A residual stream.  kind: layer or rms.  norms: all of them; writers: tensors that are written into it."""

    group: str
    kind: str
    norms: tuple[Norm, ...]
    writers: tuple[str, ...]


def is_turnable(spec: SymmetrySpec) -> bool:
    """Whether `stream_of` knows the model's stream."""
    return spec.family in TURNING_FAMILIES and any(_is_stream(spec, name) for name in spec.groups)


def _is_stream(spec: SymmetrySpec, name: str) -> bool:
    group = spec.groups[name]
    return group.norm in {"rms", "layer"} and group.kind.permutes and group.outer is None


def stream_of(spec: SymmetrySpec, where: str = "") -> Stream:
    """The stream of a model; raises `PlanError` for one that can only be reordered, or that is the model's output."""
    if not is_turnable(spec):
        reason = "only be reordered"
        if any(group.norm == "post" for group in spec.groups.values()):
            reason = "only be reordered, since its norms stand inside it"
        raise PlanError(
            f"the residual stream of {spec.family} can {reason}",
            where=where or "align.residual",
            hint=f"write residual: keep; streams of {', '.join(TURNING_FAMILIES)} with a head can be turned",
        )
    group = next(name for name in spec.groups if _is_stream(spec, name))
    gains: dict[str, list[str]] = {}
    last: dict[str | None, str] = {}
    for name, tensor in spec.tensors.items():
        place = _layer_of(name) if "{" in tensor.row else None
        roles = {factor.role for factor in tensor.factors if factor.group == group}
        if Role.FOLLOWS in roles:
            last[place] = name
            gains[name] = []
        elif Role.READS in roles:
            gains[last[place]].append(name)
    shifts = {name: name.removesuffix("weight") + "bias" for name in gains}
    norms = tuple(
        Norm(name, shifts[name] if shifts[name] in spec.tensors else None, tuple(readers))
        for name, readers in gains.items()
    )
    writers = tuple(name for name in spec.members(group, Role.WRITES) if name not in {norm.shift for norm in norms})
    return Stream(group, spec.groups[group].norm or "", norms, writers)


def _layer_of(name: str) -> str | None:
    found = _LAYER.search(name)
    return found[1] if found else None


def absorbed(spec: SymmetrySpec, stream: Stream, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the same function with gains of 1 and without means in the stream; float64, but for what is no float.

    Raises `PlanError` for a gain of nothing behind which something is shifted.
    """
    import torch

    found = {
        name: values.to(torch.float64) if values.is_floating_point() else values for name, values in tensors.items()
    }
    for norm in stream.norms:
        gain = found[norm.gain]
        if norm.shift is not None:
            if float(gain.abs().min()) < _LEAST_GAIN:
                raise PlanError(
                    f"tensor {norm.gain!r} has a gain of 0, behind which a rotation of the residual stream is none",
                    where="align.residual",
                    hint="write residual: keep",
                )
            found[norm.shift] = found[norm.shift] / gain
        for name in norm.readers:
            found[name] = _along(spec, stream, name, found[name], gain)
        found[norm.gain] = torch.ones_like(gain)
    if stream.kind == "layer":
        for name in stream.writers:
            position = stream_axis(spec, stream, name)
            found[name] = found[name] - found[name].mean(position, keepdim=True)
    return found


def restored(
    spec: SymmetrySpec, stream: Stream, deltas: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Differences of absorbed tensors as differences of a model with the gains of `tensors`, which stay as they are."""
    found = dict(deltas)
    for norm in stream.norms:
        gain = tensors[norm.gain].to(found[norm.gain].dtype)
        safe = gain.where(gain.abs() >= _LEAST_GAIN, gain.new_ones(()))
        if norm.shift is not None:
            found[norm.shift] = found[norm.shift] * gain
        for name in norm.readers:
            found[name] = _along(spec, stream, name, found[name], 1 / safe)
    return found


def stream_axis(spec: SymmetrySpec, stream: Stream, name: str) -> int:
    """The place of the tensor's axis that is in the stream."""
    axes = spec.tensors[name].axes
    return next(i for i, axis in enumerate(axes) for part in axis if any(f.group == stream.group for f in part))


def _along(spec: SymmetrySpec, stream: Stream, name: str, values: Tensor, factor: Tensor) -> Tensor:
    """The tensor times a factor for every entry of its axis in the stream."""
    position = stream_axis(spec, stream, name)
    return values * factor.reshape(-1, *(1 for _ in range(values.dim() - position - 1)))
