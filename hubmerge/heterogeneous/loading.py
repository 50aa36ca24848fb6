"""A parent loaded to be run: in float32, of the class that its config names, without code of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubmerge.errors import MergeError
from hubmerge.model_config import check_labels, model_class

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load_in_float32"]

_LONGEST = 200


def load_in_float32(folder: Path, config: Mapping[str, Any], name: str) -> nn.Module:
    """The model of a folder, in evaluation mode.  name: what errors call it.

    Raises `PlanError` for a config that names no class, and `MergeError` for a model that transformers cannot load or that lacks tensors.
    """
    import torch

    check_labels(config, name)
    concrete = model_class(config, name)
    try:
        model, info = concrete.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, use_safetensors=True, local_files_only=True
        )
    except (ImportError, MemoryError):  # what this machine lacks is no fault of the model
        raise
    except Exception as error:  # a strange config lets transformers fail in every way there is
        told = " ".join(str(error).split())[:_LONGEST]
        message = f"transformers cannot load it ({type(error).__name__}: {told})"
        raise MergeError(message, where=name, hint="mend config.json or the weights") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise MergeError(
            f"{concrete.__name__} needs {len(missing)} tensors that it does not have (first {missing[0]!r})",
            where=name,
            hint="a head that was never trained would be random; name the class that it was saved from in config.json",
        )
    found: nn.Module = model.eval()
    return found
