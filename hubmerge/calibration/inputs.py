"""Samples -> tensors, as the base model takes them: through its tokenizer, through its image processor, or as they are."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hubmerge.calibration.model_side import (
    IMAGE_FILES,
    TOKENIZER_FILES,
    channels_of,
    longest_text,
    vocabulary_size,
)
from hubmerge.calibration.samples import Kind, Sample
from hubmerge.errors import MergeError, PlanError
from zoo_index.hub import ModelSource, fetch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Prepare", "preparation"]

Prepare = Callable[[Sequence[Sample]], "dict[str, Tensor]"]
"""What makes one batch's tensors of its samples; `MergeError` for a sample that it cannot make them of."""

_SMALL = (".json", ".txt", ".model", ".jinja")
"""How the files beside the weights end: configs, processors, tokenizers, chat templates."""
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def preparation(kind: Kind, source: ModelSource, config: Mapping[str, Any], max_length: int) -> Prepare:
    """What prepares samples of `kind` for the model: its tokenizer, its image processor (Pillow's, without torchvision), nothing.

    max_length: tokens of a text; fewer where model or tokenizer take fewer.  Raises `PlanError` for a tokenizer or a processor
    that transformers cannot load, `HubError` when it cannot be fetched.
    """
    if kind == "pixels":
        return _stacked
    if kind == "text":
        tokenizer = _loaded(source, "tokenizer", TOKENIZER_FILES)
        limits = (max_length, longest_text(config), int(tokenizer.model_max_length))
        length = min(limit for limit in limits if limit)
        return lambda samples: _tokens(samples, tokenizer, length, vocabulary_size(config))
    processor = _loaded(source, "image processor", IMAGE_FILES)
    mode = _MODES.get(channels_of(config) or 3, "RGB")
    return lambda samples: _pictures(samples, processor, mode)


def _loaded(source: ModelSource, what: str, names: tuple[str, ...]) -> Any:
    import transformers

    files = source.files()
    fetch([(source, name) for name in files if "/" not in name and name.endswith(_SMALL)])
    folder: Path = source.path(next(name for name in names if name in files)).parent
    is_text = names is TOKENIZER_FILES
    auto = transformers.AutoTokenizer if is_text else transformers.AutoImageProcessor
    options = {} if is_text else {"backend": "pil"}  # the same numbers, whether or not torchvision is installed
    try:
        return auto.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # files of strangers let transformers fail in every way there is
        lines = str(error).strip().splitlines()
        message = (
            f"the {what} of {source.pinned.reference} cannot be loaded ({lines[0] if lines else type(error).__name__})"
        )
        raise PlanError(message, where="calibration", hint=f"save the {what} again with save_pretrained") from error


def _tokens(samples: Sequence[Sample], tokenizer: Any, length: int, rows: int | None) -> dict[str, Tensor]:
    import torch

    texts = [str(sample.value) for sample in samples]
    encoded = tokenizer(texts, truncation=True, max_length=length, return_attention_mask=False)["input_ids"]
    for sample, ids in zip(samples, encoded, strict=True):
        if not ids:
            raise MergeError(
                f"the tokenizer makes no tokens of {sample.place}", where="calibration", hint="remove the row"
            )
        if rows is not None and max(ids) >= rows:
            message = (
                f"the tokenizer makes token {max(ids)} of {sample.place}, and the model has rows for {rows} tokens"
            )
            raise MergeError(message, where="calibration", hint="is it the model's own tokenizer?")
    longest = max(map(len, encoded))
    padding = tokenizer.pad_token_id or 0
    # on the right, where a causal model does not look; tokenizers without a padding token pad with any
    padded = [[*ids, *[padding] * (longest - len(ids))] for ids in encoded]
    mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids in encoded]
    return {"input_ids": torch.tensor(padded), "attention_mask": torch.tensor(mask)}


def _pictures(samples: Sequence[Sample], processor: Any, mode: str) -> dict[str, Tensor]:
    images = [_opened(sample, mode) for sample in samples]
    try:
        pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        lines = str(error).strip().splitlines()
        message = (
            f"the image processor fails on {samples[0].place} and those after it ({lines[0] if lines else error!r})"
        )
        hint = "is it the model's own processor? images of unlike sizes need one that resizes"
        raise MergeError(message, where="calibration", hint=hint) from error
    return {"pixel_values": pixels.float()}


def _opened(sample: Sample, mode: str) -> Any:
    from PIL import Image

    if isinstance(sample.value, np.ndarray):
        array = sample.value
        return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array).convert(mode)
    try:
        with Image.open(
            io.BytesIO(bytes(sample.value, "utf-8") if isinstance(sample.value, str) else sample.value)
        ) as image:
            return image.convert(mode)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises for others
        message = f"{sample.place} is no image that can be opened ({str(error).splitlines()[0]})"
        raise MergeError(message, where="calibration", hint="mend it, or remove it from the data") from error


def _stacked(samples: Sequence[Sample]) -> dict[str, Tensor]:
    import torch

    return {"pixel_values": torch.from_numpy(np.stack([np.asarray(sample.value) for sample in samples]))}
