"""Whom to follow on which sample: the parents' shares in what layers are fitted to, from how sure each is of its own answer.

Models that know different things are each unsure of what the other knows.  A mean of their features with equal shares fits the
merged model to the unsure one's half the time; shares by confidence need no labels and nothing that tells the tasks apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["SHARPNESS", "confident_shares", "shares_of_rows"]

SHARPNESS = 20.0
"""How much the surer parent's share outweighs the other's: e to the power of this, where one is certain and one knows nothing."""


def confident_shares(
    models: Sequence[nn.Module], batches: Sequence[Mapping[str, Tensor]], weights: Sequence[float]
) -> list[Tensor] | None:
    """For every batch each model's share of every sample, or of every token where the models answer for each.

    (models, samples) or (models, samples, tokens), float64; the sum over models is 1.  A share is the weight times
    ``exp(-SHARPNESS * h)``, h being the entropy of the model's probabilities over that of equal ones.  None for models
    without logits, and where one has a single label, which says nothing of how sure it is.
    """
    import torch

    found = []
    for batch in batches:
        rows = []
        for model, weight in zip(models, weights, strict=True):
            with torch.no_grad():
                logits = getattr(model(**batch), "logits", None)
            if logits is None or logits.shape[-1] < 2:
                return None
            chances = logits.to(torch.float64).log_softmax(-1)
            entropy = -(chances.exp() * chances).sum(-1) / math.log(logits.shape[-1])
            rows.append(math.log(max(weight, _LEAST)) - SHARPNESS * entropy)
        found.append(torch.stack(rows).softmax(0))
    return found


_LEAST = 1e-300


def shares_of_rows(shares: Tensor, values: Tensor, kind: str, mask: Tensor | None) -> Tensor:
    """One model's shares for the rows that `hubmerge.heterogeneous.layers.channels_last` makes of `values`: (rows, 1).

    shares: (samples,) or (samples, tokens).  Where the values have no tokens, a sample's share is the mean over its own.
    """
    if kind in {"convolution", "batch"}:
        places, own = values.shape[2:], shares if shares.dim() == 1 else shares.mean(1)
        return own.reshape(-1, *(1 for _ in places)).expand(len(own), *places).reshape(-1, 1)
    tokens = values.shape[1:-1]
    if shares.dim() == 1:
        wide = shares.reshape(-1, *(1 for _ in tokens)).expand(len(shares), *tokens)
    else:
        wide = (
            shares
            if tuple(shares.shape[1:]) == tuple(tokens)
            else shares.mean(1).reshape(-1, *(1 for _ in tokens)).expand(len(shares), *tokens)
        )
    if mask is not None and values.dim() == 3 and values.shape[:2] == mask.shape:
        return wide[mask.bool()].reshape(-1, 1)
    return wide.reshape(-1, 1)
