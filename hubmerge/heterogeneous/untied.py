"""A model whose head has rows of its own, where it shared those of the embeddings."""

from __future__ import annotations

from typing import Any

from hubmerge.heterogeneous.model_copies import sharing_copy
from hubmerge.symmetry.verify import spec_of

__all__ = ["seen_untied", "untied"]


def untied(model: Any) -> Any:
    """The model itself where nothing is tied, else a copy in evaluation mode that computes the same, with tie_word_embeddings off."""
    import torch

    if not getattr(model.config, "tie_word_embeddings", False):
        return model
    config = type(model.config).from_dict({**model.config.to_dict(), "tie_word_embeddings": False})
    with torch.random.fork_rng(devices=[]):
        copy = type(model)(config)
    state = model.state_dict()
    copy.to(next(iter(model.parameters())).dtype).load_state_dict(state)
    return copy.eval()


def seen_untied(model: Any) -> Any:
    """The same to be read and run and not to be changed or saved: the copy's tensors are the model's own."""
    from torch import nn

    if not getattr(model.config, "tie_word_embeddings", False):
        return model
    found = sharing_copy(model)
    found.config.tie_word_embeddings = False
    for alias, stored in spec_of(model).tied:
        place, _, own = alias.rpartition(".")
        values = found.get_parameter(stored)
        setattr(found.get_submodule(place), own, nn.Parameter(values.detach(), requires_grad=values.requires_grad))
    return found
