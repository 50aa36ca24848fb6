"""Inputs that a model can be run on once when nothing is known of it but its config and its `forward`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["made_up_inputs"]

_TOKENS = 8
_SAMPLES = 4000


def made_up_inputs(model: Any) -> dict[str, torch.Tensor]:
    """One small input of every kind that the model's `forward` takes: token ids, an image, a sound.

    Token ids are the first of the vocabulary; images and sounds are noise with a fixed seed, in the sizes of the config.
    """
    takes = inspect.signature(model.forward).parameters
    config = model.config
    made: dict[str, torch.Tensor] = {}
    if "pixel_values" in takes:
        made["pixel_values"] = _image(getattr(config, "vision_config", config))
    if "input_values" in takes:
        made["input_values"] = _noise(1, _SAMPLES)
    if "input_features" in takes:
        made["input_features"] = _noise(1, config.num_mel_bins, 2 * config.max_source_positions)
    if "input_ids" in takes and (not made or "pixel_values" in made):
        made["input_ids"] = _tokens(config)
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in takes:
        made["decoder_input_ids"] = _tokens(config)
    return made


def _tokens(config: Any) -> torch.Tensor:
    import torch

    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return torch.arange(_TOKENS).reshape(1, _TOKENS) % int(getattr(text, "vocab_size", _TOKENS))


def _image(config: Any) -> torch.Tensor:
    size = getattr(config, "image_size", None) or 64
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return _noise(1, getattr(config, "num_channels", 3), height, width)


def _noise(*shape: int) -> torch.Tensor:
    import torch

    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))
