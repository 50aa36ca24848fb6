"""A parent loaded to be run: in float32, of the class that its config names, without code of its own; and whether it can be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubmerge.errors import MergeError, NumbersError
from hubmerge.heterogeneous.batches import Batch
from hubmerge.loaded import load_whole
from hubmerge.model_config import check_labels, model_class

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_finite", "check_they_run", "load_in_float32"]


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


def check_they_run(models: Sequence[nn.Module], names: Sequence[str], batches: Iterable[Batch]) -> None:
    """Raise `MergeError` for a model that cannot be given the data, before anything is computed from it.  names: what errors call them."""
    import torch

    first = {name: values[:1] for name, values in next(iter(batches)).items()}
    for name, model in zip(names, models, strict=True):
        try:
            with torch.no_grad():
                model(**first)
        except MemoryError:
            raise
        except Exception as error:  # any model's forward, on inputs that it may not be made for
            told = " ".join(str(error).split())
            raise MergeError(
                f"it cannot be run on the calibration data ({type(error).__name__}: {told[:200]})",
                where=name,
                hint="name data of the size and kind that all models take",
            ) from error


def check_finite(model: nn.Module, whose: str, where: str, hint: str) -> None:
    """Raise `NumbersError` for the first tensor with a number that is not finite."""
    import torch

    for name, values in model.state_dict().items():
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            raise NumbersError(f"tensor {name!r} of {whose} has a number that is not finite", where=where, hint=hint)
