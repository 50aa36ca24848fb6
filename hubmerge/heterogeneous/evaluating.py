"""Models in evaluation mode for a while: dropout off, BatchNorm by its statistics, and afterwards everything as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hubmerge.errors import PlanError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["evaluating", "refuse_half"]


def refuse_half(models: Mapping[str, nn.Module]) -> None:
    """Raise `PlanError` for a model that cannot be run on ordinary data, or only in too few digits: float16 or bfloat16.  models: by argument."""
    import torch

    for name, model in models.items():
        dtype = next((each.dtype for each in model.parameters() if each.dtype in {torch.float16, torch.bfloat16}), None)
        if dtype is not None:
            raise PlanError(
                f"this model is in {str(dtype).removeprefix('torch.')}, and models are run in float32",
                where=name,
                hint="load it with from_pretrained(..., dtype=torch.float32), or write a recipe, which does",
            )


@contextmanager
def evaluating(models: Sequence[nn.Module]) -> Iterator[None]:
    """Put every module of the models into evaluation mode while this lasts; each goes back to the mode it had."""
    before = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
