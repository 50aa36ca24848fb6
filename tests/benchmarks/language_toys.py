"""A llama that is small enough for tests of benchmarks."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["llama"]


def llama() -> Any:
    """Two layers of four query heads on two key-value heads, 50 words, tied embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()
