"""The modules of a model in memory that a symmetry spec's tensors belong to: what goes into each and what comes out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hubmerge.symmetry.groups import Axis, SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Layer", "Norm", "channels_last", "layers_of", "norms_of", "tied_weights"]


@dataclass(frozen=True)
class Layer:
    """A linear map: a matrix or a convolution, with or without a bias.

    name: of the module.  inner, outer: the axes of its tensors that its input's and its output's channels are.  kind: how the weight is
    stored: "linear" (out, in), "transposed" (in, out), "convolution" (out, in, height, width).  mask: the name of the batch's tensor
    that says which of its tokens count; None where it has no tokens.
    """

    name: str
    kind: str
    inner: Axis
    outer: Axis
    bias: bool
    mask: str | None = "attention_mask"

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

    has_decoder = any(_CROSS in name.split(".") for name, _ in model.named_modules())
    for name, module in model.named_modules():
        symmetry = spec.tensors.get(f"{name}.weight")
        if symmetry is None:
            continue
        bias, mask = f"{name}.bias" in spec.tensors, _mask(name, has_decoder=has_decoder)
        if isinstance(module, nn.Linear):
            yield Layer(name, "linear", symmetry.axes[1], symmetry.axes[0], bias, mask)
        elif isinstance(module, Conv1D):
            yield Layer(name, "transposed", symmetry.axes[0], symmetry.axes[1], bias, mask)
        elif isinstance(module, nn.Conv2d) and module.groups == 1:
            yield Layer(name, "convolution", symmetry.axes[1], symmetry.axes[0], bias, None)


_CROSS = "EncDecAttention"
"""The attention of a decoder's tokens to an encoder's, as T5 calls it."""


def _mask(name: str, *, has_decoder: bool) -> str | None:
    """The mask of the tokens that a module is used on."""
    parts = name.split(".")
    if "vision_model" in parts:
        return None
    if has_decoder and "encoder" not in parts and not (_CROSS in parts and parts[-1] in {"k", "v"}):
        return "decoder_attention_mask"
    return "attention_mask"


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
        elif type(module).__name__.endswith(("RMSNorm", "T5LayerNorm")):
            yield Norm(name, "rms", symmetry.axes[0])


def tied_weights(model: nn.Module) -> frozenset[str]:
    """The modules whose weight is another module's too."""
    named = list(model.named_parameters(remove_duplicate=False))
    counts = Counter(id(parameter) for _, parameter in named)
    return frozenset(name.removesuffix(".weight") for name, parameter in named if counts[id(parameter)] > 1)


def channels_last(values: Tensor, kind: str, mask: Tensor | None = None) -> Tensor:
    """Activations as rows of channels: (rows, channels).

    kind: the layer's or the norm's; images have their channels second.  mask: (..., tokens), of the tokens that count.
    """
    if kind in {"convolution", "batch"}:
        return values.movedim(1, -1).reshape(-1, values.shape[1])
    if mask is not None and values.dim() == 3:
        flat = mask.reshape(-1, mask.shape[-1])  # a multiple choice has its answers in a dimension of their own
        if values.shape[:2] == flat.shape:
            return values[flat.bool()]
    return values.reshape(-1, values.shape[-1])
