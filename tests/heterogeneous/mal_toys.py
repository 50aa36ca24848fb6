"""A model of one layer whose every number can be worked by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from hubmerge.heterogeneous.block_pairs import Pair
from hubmerge.heterogeneous.blocks import Block
from hubmerge.heterogeneous.mal_pairs import Alignment
from hubmerge.symmetry.groups import Factor, Role, SymmetrySpec, TensorSymmetry

AXIS = ((Factor(None, Role.WRITES, 2),),)
SPEC = SymmetrySpec("toy", {}, {"layer.weight": TensorSymmetry("layer.weight", "layer.weight", ". .", (AXIS, AXIS))})
BLOCK = Block("layer", "layer", 0, 0, {"weight": "layer.weight"})
PAIR = Pair(BLOCK, BLOCK, cka=0.5, similarity=0.5)
ALIGNMENT = Alignment((PAIR,), (SPEC, SPEC), {})


class Toy(nn.Module):
    """y = W x for W a multiple of the identity; its loss is the mean square of y - labels."""

    def __init__(self, multiple: float) -> None:
        super().__init__()
        self.config = SimpleNamespace()
        self.layer = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(multiple * torch.eye(2))

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        y = self.layer(x)
        return SimpleNamespace(logits=y, loss=None if labels is None else (y - labels).square().mean())
