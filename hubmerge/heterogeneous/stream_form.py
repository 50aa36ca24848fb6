"""A residual stream that may be turned as a whole: norm gains absorbed by what reads, means taken out of what writes.

RMSNorm without gains commutes with every rotation.  LayerNorm does where nothing that is written has a mean, with rotations that keep
the mean (Ashkboos et al. 2024, SliceGPT, arXiv:2401.15024; Theus et al. 2025, arXiv:2506.22712).  What a shift gives goes into the biases of
its readers, or the shift b behind a gain g becomes b / g, so that readers need none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.merged_tensors import Cut
from hubmerge.symmetry.groups import Role, SymmetrySpec
from zoo_index.families import TURNING_FAMILIES

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "LEAST_GAIN",
    "Absorbed",
    "Norm",
    "Stream",
    "is_foldable",
    "is_turnable",
    "known_members",
    "members_of",
    "restored",
    "stream_axis",
    "stream_of",
    "strip_of",
]

_LAYER = re.compile(r"\.(\d+)\.")
LEAST_GAIN = 1e-6
"""Of a smaller gain nothing is taken to come through."""
_KNOWN = ("tokens", "positions", "labels", "fixed")


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


def members_of(spec: SymmetrySpec, stream: Stream, unlike: Collection[str] = ()) -> list[str]:
    """The matrices that read or write the stream, but for those with an axis in a group of `unlike`; vectors say too little of a rotation."""
    norms = {norm.gain for norm in stream.norms} | {norm.shift for norm in stream.norms}
    return [
        name
        for name, tensor in spec.tensors.items()
        if name not in norms
        and len(tensor.axes) > 1
        and any(f.group == stream.group for f in tensor.factors)
        and not any(f.group in unlike for f in tensor.factors)
    ]


def known_members(spec: SymmetrySpec, stream: Stream, unlike: Collection[str] = ()) -> list[str]:
    """Those of `members_of` of which it is known what stands on the other side: tokens, positions, pixels, labels."""

    def is_known(name: str) -> bool:
        others = {factor.group for factor in spec.tensors[name].factors} - {stream.group, None}
        return all(spec.groups[other].kind.value in _KNOWN for other in others if other is not None)

    return [name for name in members_of(spec, stream, unlike) if is_known(name)]


def _layer_of(name: str) -> str | None:
    found = _LAYER.search(name)
    return found[1] if found else None


class Absorbed(Mapping[str, "Tensor"]):
    """The tensors of the same function with gains of 1 and without means in the stream; float64, but for what is no float.

    Each is made when it is asked for.  A shift b behind a gain g becomes b / g, and nothing where the gain is: what stands there reaches no
    reader.  folds: what a shift adds to readers that all have a bias is added there instead, whatever the gain.
    """

    def __init__(
        self, spec: SymmetrySpec, stream: Stream, tensors: Mapping[str, Tensor], *, folds: bool = False
    ) -> None:
        self._spec, self._stream, self._tensors = spec, stream, tensors
        self._gains = {norm.gain for norm in stream.norms}
        self._before = {name: norm.gain for norm in stream.norms for name in norm.readers}
        self._shifts = {norm.shift: norm.gain for norm in stream.norms if norm.shift is not None}
        folded = [norm for norm in stream.norms if folds and is_foldable(spec, norm)]
        self._gone = {norm.shift for norm in folded}
        self._folded = {_bias(reader): (reader, str(norm.shift)) for norm in folded for reader in norm.readers}

    def __getitem__(self, name: str) -> Tensor:
        return self._made(name, self._tensors[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def strip(self, name: str, cut: Cut) -> Tensor:
        """A part of a tensor along an axis that is not the stream's."""
        if name in self._folded:
            return self[name] if cut is None else self[name].narrow(*cut)
        return self._made(name, strip_of(self._tensors, name, cut))

    def _made(self, name: str, values: Tensor) -> Tensor:
        import torch

        if not values.is_floating_point():
            return values
        values = values.to(torch.float64)
        if name in self._gains:
            return torch.ones_like(values)
        if name in self._gone:
            return torch.zeros_like(values)
        if name in self._shifts:
            gain = self._float64(self._shifts[name])
            return torch.where(gain.abs() >= LEAST_GAIN, values / gain, 0.0)
        if name in self._folded:
            reader, shift = self._folded[name]
            added = _along(self._spec, self._stream, reader, self._float64(reader), self._float64(shift))
            return values + added.sum(stream_axis(self._spec, self._stream, reader)).reshape(len(values), -1).sum(1)
        if name in self._before:
            values = _along(self._spec, self._stream, name, values, self._float64(self._before[name]))
        if self._stream.kind == "layer" and name in self._stream.writers:
            values = values - values.mean(stream_axis(self._spec, self._stream, name), keepdim=True)
        return values

    def _float64(self, name: str) -> Tensor:
        import torch

        return self._tensors[name].to(torch.float64)


def is_foldable(spec: SymmetrySpec, norm: Norm) -> bool:
    """Whether a norm shifts, and all that read behind it have a bias, which can take what the shift gives them."""
    has_readers = bool(norm.readers)  # a head that is tied to the embeddings is not among them, and has no bias
    return norm.shift is not None and has_readers and all(_bias(reader) in spec.tensors for reader in norm.readers)


def _bias(reader: str) -> str:
    return reader.removesuffix("weight") + "bias"


def strip_of(tensors: Mapping[str, Tensor], name: str, cut: Cut) -> Tensor:
    """A part of a tensor."""
    if isinstance(tensors, Absorbed):
        return tensors.strip(name, cut)
    return tensors[name] if cut is None else tensors[name].narrow(*cut)


def restored(spec: SymmetrySpec, stream: Stream, name: str, delta: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """A difference of absorbed tensors as one of a model with the gains of `tensors`, which stay as they are."""
    for norm in stream.norms:
        if name != norm.shift and name not in norm.readers:
            continue
        gain = tensors[norm.gain].to(delta.dtype)
        if name == norm.shift:
            return delta * gain
        safe = gain.where(gain.abs() >= LEAST_GAIN, gain.new_ones(()))
        return _along(spec, stream, name, delta, 1 / safe)
    return delta


def stream_axis(spec: SymmetrySpec, stream: Stream, name: str) -> int:
    """The place of the tensor's axis that is in the stream."""
    axes = spec.tensors[name].axes
    return next(i for i, axis in enumerate(axes) for part in axis if any(f.group == stream.group for f in part))


def _along(spec: SymmetrySpec, stream: Stream, name: str, values: Tensor, factor: Tensor) -> Tensor:
    """The tensor times a factor for every entry of its axis in the stream."""
    position = stream_axis(spec, stream, name)
    return values * factor.reshape(-1, *(1 for _ in range(values.dim() - position - 1)))
