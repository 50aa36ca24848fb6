"""Calibration data and the models it is for, a few bytes each: a classifier of grey 2 by 2 images, a model of eight words."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hubmerge.calibration import Batches, Calibration, CalibrationFacts, check_calibration, open_calibration
from zoo_index.hub import open_source
from zoo_index.reference import ModelRef

WORDS = ("<s>", "</s>", "<unk>", "one", "two", "three", "and", "is")
IMAGES: dict[str, Any] = {"model_type": "resnet", "num_channels": 1}
TEXTS = {"model_type": "llama", "vocab_size": 8, "max_position_embeddings": 4}


def image_model(folder: Path, **changes: Any) -> Path:
    """A model folder without weights whose processor makes 2 x / 255 - 1 of a grey x."""
    config = {**IMAGES, **changes}
    half = [0.5] * config["num_channels"]
    processor = {"image_processor_type": "ViTImageProcessor", "do_resize": False, "image_mean": half, "image_std": half}
    write(folder / "preprocessor_config.json", json.dumps(processor))
    write(folder / "config.json", json.dumps(config))
    return folder


def text_model(folder: Path, **changes: Any) -> Path:
    """A model folder without weights whose tokenizer gives each of `WORDS` its place, 2 to any other, and knows no padding."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    write(folder / "tokenizer.json", tokenizer.to_str())
    write(folder / "tokenizer_config.json", json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    write(folder / "config.json", json.dumps({**TEXTS, **changes}))
    return folder


def write(file: Path, content: str | bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def lines(file: Path, *rows: Mapping[str, Any]) -> Path:
    return write(file, "".join(f"{json.dumps(row)}\n" for row in rows))


def png(*grey: int) -> bytes:
    """A grey image of 2 by 2 pixels, or of one grey."""
    pixels = np.array(grey * 4 if len(grey) == 1 else grey, np.uint8).reshape(2, 2)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def checked(model: Path, data: Path | str, **calibration: Any) -> CalibrationFacts:
    source = open_source(ModelRef.of(str(model)))
    config = json.loads((model / "config.json").read_text())
    return check_calibration(Calibration(data=str(data), **calibration), source, config)


def opened(model: Path, data: Path | str, **calibration: Any) -> Batches:
    source = open_source(ModelRef.of(str(model)))
    config = json.loads((model / "config.json").read_text())
    return open_calibration(Calibration(data=str(data), **calibration), source, config)
