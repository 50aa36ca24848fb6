"""A parent loaded to be run: in float32, of the class that its config names, without code of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubmerge.loaded import load_whole
from hubmerge.model_config import check_labels, model_class

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load_in_float32"]


def load_in_float32(folder: Path, config: Mapping[str, Any], name: str) -> nn.Module:
    """The model of a folder, in evaluation mode.  name: what errors call it.

    Raises `PlanError` for a config that names no class, and `MergeError` for a model that transformers cannot load or that lacks tensors.
    """
    import torch

    check_labels(config, name)
    concrete = model_class(config, name)
    model: nn.Module = load_whole(
        concrete,
        folder,
        {"dtype": torch.float32, "use_safetensors": True, "local_files_only": True},
        name,
        lacking="it does not have",
        named="name the class that it was saved from in config.json",
        mend="mend config.json or the weights",
    )
    return model.eval()
