"""The modules of a model in memory that a symmetry spec's tensors belong to: what goes into each and what comes out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hubmerge.symmetry.groups import Axis, SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Layer", "Norm", "channels_last", "layers_of", "norms_of"]


@dataclass(frozen=True)
class Layer:
    """A linear map: a matrix or a convolution, with or without a bias.

    name: of the module.  inner, outer: the axes of its tensors that its input's and its output's channels are.  kind: how the weight is
    stored: "linear" (out, in), "transposed" (in, out), "convolution" (out, in, height, width).
    """

    name: str
    kind: str
    inner: Axis
    outer: Axis
    bias: bool

    @property
    def weight(self) -> str:
        return f"{self.name}.weight"


@dataclass(frozen=True)
class Norm:
    """A normalisation with a gain.  kind: batch, layer or rms.  axis: of its gain."""

    name: str
    kind: str
    axis: Axis


def layers_of(model: nn.Module, spec: SymmetrySpec) -> tuple[Layer, ...]:
    """Every module of the model that is a linear map of channels, in the order of the modules."""
    return tuple(_layers(model, spec))


def _layers(model: nn.Module, spec: SymmetrySpec) -> Iterator[Layer]:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    for name, module in model.named_modules():
        symmetry = spec.tensors.get(f"{name}.weight")
        if symmetry is None:
            continue
        bias = f"{name}.bias" in spec.tensors
        if isinstance(module, nn.Linear):
            yield Layer(name, "linear", symmetry.axes[1], symmetry.axes[0], bias)
        elif isinstance(module, Conv1D):
            yield Layer(name, "transposed", symmetry.axes[0], symmetry.axes[1], bias)
        elif isinstance(module, nn.Conv2d) and module.groups == 1:
            yield Layer(name, "convolution", symmetry.axes[1], symmetry.axes[0], bias)


def norms_of(model: nn.Module, spec: SymmetrySpec) -> tuple[Norm, ...]:
    """Every normalisation of the model that has a gain, in the order of the modules."""
    return tuple(_norms(model, spec))


def _norms(model: nn.Module, spec: SymmetrySpec) -> Iterator[Norm]:
    from torch import nn

    for name, module in model.named_modules():
        symmetry = spec.tensors.get(f"{name}.weight")
        if symmetry is None or len(symmetry.axes) != 1:
            continue
        if isinstance(module, nn.BatchNorm2d):
            yield Norm(name, "batch", symmetry.axes[0])
        elif isinstance(module, nn.LayerNorm):
            yield Norm(name, "layer", symmetry.axes[0])
        elif type(module).__name__.endswith("RMSNorm"):
            yield Norm(name, "rms", symmetry.axes[0])


def channels_last(values: Tensor, kind: str, mask: Tensor | None = None) -> Tensor:
    """Activations as rows of channels: (rows, channels).

    kind: the layer's or the norm's; images have their channels second.  mask: (batch, tokens), of the tokens that count.
    """
    if kind in {"convolution", "batch"}:
        return values.movedim(1, -1).reshape(-1, values.shape[1])
    if mask is not None and values.dim() == 3 and values.shape[:2] == mask.shape:
        return values[mask.bool()]
    return values.reshape(-1, values.shape[-1])
