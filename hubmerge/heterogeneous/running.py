"""A model run on one batch for what its layers compute, which keeps nothing for a next token."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hubmerge.heterogeneous.batches import Batch

__all__ = ["run_once"]


def run_once(model: Any, batch: Batch) -> Any:
    """What the model gives, without gradients.  Keys and values of all layers, which language models keep by default, are not kept."""
    import torch

    keeps = "use_cache" in inspect.signature(model.forward).parameters
    with torch.no_grad():
        return model(**batch, use_cache=False) if keeps else model(**batch)
