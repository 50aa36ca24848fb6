"""Real data: small classifiers trained on scikit-learn's digits, scored by `evaluate` and by hand."""

from __future__ import annotations

import pytest

from cards import Suite, compare, evaluate

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Two classifiers, one trained longer, and 300 held-out pictures."""
    import numpy as np
    import torch
    from PIL import Image
    from sklearn.datasets import load_digits
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

    folder = tmp_path_factory.mktemp("digits")
    pictures, labels = load_digits(return_X_y=True)
    pictures = (pictures.reshape(-1, 8, 8) * 15).astype(np.uint8)
    for number, (picture, label) in enumerate(zip(pictures[-300:], labels[-300:], strict=True)):
        (folder / "test" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / "test" / str(label) / f"{number}.png")
    processor = ViTImageProcessor(do_resize=False, image_mean=[0.5], image_std=[0.5])
    inputs = processor(images=[Image.fromarray(p) for p in pictures[:1200]], return_tensors="pt")["pixel_values"]
    targets = torch.tensor(labels[:1200])
    names = {index: str(index) for index in range(10)}
    for name, epochs in (("short", 1), ("long", 8)):
        torch.manual_seed(0)
        config = ResNetConfig(
            num_channels=1, embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic",
            id2label=names, label2id={label: index for index, label in names.items()},
        )  # fmt: skip
        model = ResNetForImageClassification(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(epochs):
            for batch in torch.randperm(1200).split(64):
                optimizer.zero_grad()
                model(inputs[batch], labels=targets[batch]).loss.backward()
                optimizer.step()
        model.eval().save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return folder


def _by_hand(folder, name):
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(folder / name).eval()
    processor = AutoImageProcessor.from_pretrained(folder / name)
    right = 0
    files = sorted((folder / "test").glob("*/*.png"))
    for file in files:
        with torch.no_grad():
            logits = model(**processor(images=Image.open(file), return_tensors="pt")).logits
        right += model.config.id2label[int(logits.argmax())] == file.parent.name
    return right / len(files)


def test_the_score_is_what_a_plain_loop_gives_and_training_longer_helps(digits):
    suite = Suite.model_validate(
        {"name": "digits", "tasks": [{"name": "held-out", "task": "image-classification", "data": "test"}]}
    )
    results = evaluate([digits / "long", digits / "short"], suite.at(digits))

    long, short = (model.tasks[0] for model in results.models)
    assert (long.n, long.value) == (300, pytest.approx(_by_hand(digits, "long")))
    assert short.value == pytest.approx(_by_hand(digits, "short"))
    assert long.value > 0.85
    (row,) = compare(results, results.models[0])
    assert row.outcome == "better"
