"""Models in evaluation mode for a while: dropout off, BatchNorm by its statistics, and afterwards everything as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["evaluating"]


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
