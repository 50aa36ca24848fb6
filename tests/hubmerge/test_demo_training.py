"""The demo's models are real, ordinary and the same on every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hubmerge.demo.digits import load_split
from hubmerge.demo.training import image_processor, new_model, train


def _weights(model: Any) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def test_the_same_seed_trains_the_same_weights_to_the_last_bit_and_another_seed_others() -> None:
    pictures = load_split().base
    trained = [train(new_model((8, 8), seed), pictures, epochs=1, rate=1e-3, seed=seed) for seed in (3, 3, 4)]
    first, again, other = (_weights(model) for model in trained)
    assert first == again
    assert first["classifier.1.weight"] != other["classifier.1.weight"]


def test_a_new_model_leaves_the_callers_random_numbers_alone() -> None:
    import torch

    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    new_model((8, 8), seed=7)
    assert torch.equal(torch.rand(3), expected)


def test_training_gives_the_callers_threads_back() -> None:
    import torch

    before = torch.get_num_threads()
    train(new_model((8, 8), 0), load_split().base, epochs=1, rate=1e-3, seed=0)
    assert torch.get_num_threads() == before


def test_training_brings_the_loss_down_and_counts_the_batches_in_the_buffers() -> None:
    import torch

    pictures = load_split().base
    inputs = image_processor()([_rgb(picture) for picture in pictures.pictures], return_tensors="pt")["pixel_values"]
    labels = torch.from_numpy(pictures.labels)

    def loss(model: Any) -> float:
        with torch.inference_mode():
            return float(model(pixel_values=inputs, labels=labels).loss)

    untrained = new_model((8, 8), 0).eval()
    trained = train(new_model((8, 8), 0), pictures, epochs=6, rate=3e-3, seed=0)
    assert loss(trained) < 0.9 * loss(untrained)
    assert trained.state_dict()["resnet.embedder.embedder.normalization.num_batches_tracked"] == 6 * 4  # 200 / 64, up


def test_the_label_names_are_the_folder_names_of_the_pictures(tmp_path: Path) -> None:
    model = new_model((8, 8), 0)
    model.save_pretrained(tmp_path)
    image_processor().save_pretrained(tmp_path)
    assert model.config.id2label == {digit: str(digit) for digit in range(10)}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]


def test_full_ink_is_one_and_paper_is_minus_one_for_the_model() -> None:
    import numpy as np

    half = np.zeros((32, 32), np.uint8)
    half[:16] = 255
    (pixels,) = image_processor()([_rgb(half)], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (3, 32, 32)
    assert pixels[:, :16].unique().tolist() == [pytest.approx(1.0)]
    assert pixels[:, 16:].unique().tolist() == [pytest.approx(-1.0)]


def _rgb(picture: Any) -> Any:
    from PIL import Image

    return Image.fromarray(picture).convert("RGB")
