"""BatchNorm statistics estimated anew, from the data that the merged model itself sees (REPAIR, arXiv:2211.08403, by resetting)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["renormalise"]


def renormalise(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> int:
    """Set the running statistics of every BatchNorm to those of the batches, all counted alike; returns how many norms there are."""
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.training) for norm in norms]
    if not norms:
        return 0
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of all batches
        norm.train()
    try:
        with torch.no_grad():
            for batch in batches:
                model(**batch)
    finally:
        for norm, (momentum, training) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.train(training)
    return len(norms)
