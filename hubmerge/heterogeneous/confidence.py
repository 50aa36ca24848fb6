"""Whom to follow on which sample: the parents' shares in what layers are fitted to, from how sure each is of its own answer.

Models that know different things are each unsure of what the other knows.  A mean of their features with equal shares fits the
merged model to the unsure one's half the time; shares by confidence need no labels and nothing that tells the tasks apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hubmerge.heterogeneous.layers import channels_last
from hubmerge.heterogeneous.running import run_once

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
    ``exp(-SHARPNESS * h)``, h being the entropy of the model's probabilities over that of equal ones.  A token that a mask
    leaves out has its sample's mean share, and so has every token where an encoder's and a decoder's are not the same ones.
    None for models without logits, and where one has a single label, which says nothing of how sure it is.
    """
    import torch

    found = []
    for batch in batches:
        rows = []
        for model, weight in zip(models, weights, strict=True):
            logits = getattr(run_once(model, batch), "logits", None)
            if logits is None or logits.shape[-1] < 2:
                return None
            entropy = torch.stack([_doubt(sample) for sample in logits])  # one by one: vocabularies are large
            rows.append(math.log(max(weight, _LEAST)) - SHARPNESS * entropy)
        shares = torch.stack(rows).softmax(0)
        has_sides = bool(getattr(models[0].config, "is_encoder_decoder", False))
        found.append(_of_tokens(shares, batch, has_sides=has_sides) if shares.dim() == 3 else shares)
    return found


_LEAST = 1e-300


def _doubt(logits: Tensor) -> Tensor:
    """The entropy of the probabilities along the last dimension, over that of equal ones."""
    import torch

    chances = logits.to(torch.float64).log_softmax(-1)
    return -(chances.exp() * chances).sum(-1) / math.log(logits.shape[-1])


def _of_tokens(shares: Tensor, batch: Mapping[str, Tensor], *, has_sides: bool) -> Tensor:
    """Shares of tokens without what is said of those that do not count; has_sides: of samples, their means."""
    import torch

    masks = (batch[name] for name in ("decoder_attention_mask", "attention_mask") if name in batch)
    mask = next((mask for mask in masks if mask.shape == shares.shape[1:]), torch.ones_like(shares[0]))
    counted = mask.to(shares.dtype)
    means = (shares * counted).sum(-1) / counted.sum(-1).clamp_min(1)
    return means if has_sides else torch.where(mask.bool(), shares, means[..., None])


def shares_of_rows(shares: Tensor, values: Tensor, kind: str, mask: Tensor | None) -> Tensor:
    """One model's shares for the rows that `hubmerge.heterogeneous.layers.channels_last` makes of `values`: (rows, 1).

    shares: (samples,) or (samples, tokens).  Where the values have other places than tokens, a sample's share is the mean over its
    own; where they have several entries for a sample, as for a multiple choice, it is that of each.
    """
    is_image = kind in {"convolution", "batch"}
    places = tuple(values.shape[2:] if is_image else values.shape[1:-1])
    own = shares.repeat_interleave(max(1, len(values) // len(shares)), 0)
    if tuple(own.shape[1:]) != places:
        own = own.flatten(1).mean(1) if own.dim() > 1 else own
        own = own.reshape(-1, *(1 for _ in places)).expand(len(own), *places)
    return channels_last(own.unsqueeze(1 if is_image else -1), kind, mask)
