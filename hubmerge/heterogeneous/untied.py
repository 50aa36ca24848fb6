"""A model whose head has rows of its own, where it shared those of the embeddings."""

from __future__ import annotations

from typing import Any

__all__ = ["untied"]


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
