"""The models of the demo: a base that saw few pictures, specialists fine-tuned from it on half of the digits, and a stranger.

The story is federated: the base is published, two people fine-tune it on what they have, nobody has everything.
It was chosen because merging truly helps there.  Mean accuracy on 0-4 and on 5-9 over ten seeds of split and training:
base .868, specialists .561 and .588 (each forgets the other's half), and merged by linear .946, slerp .947, task
arithmetic .952, TIES .932; in every one of the ten all four beat the best parent, by .025 at least.  The base
fine-tuned on everybody's pictures in one place gets .979.  The demo's own seed is the first, not the best.

Tried and left (three seeds): a base that saw all pictures, which scores .951 so that merging adds little more than a
point, and specialists for rotated, inverted or noisy pictures, where the best merge stays below .83 over all tasks.
BatchNorm's averaged statistics cost something: estimated anew on the base's 200 pictures they give linear .953, slerp
.953, task arithmetic .959, TIES .948.  No command does that, so the demo, which types commands only, does not either.

The stranger (`WIDE`) has other initial weights, is half as wide again, and never saw 0 to 4.  Over the same ten seeds it scores .490,
the specialist `LOW` .561, and `pleas` makes .926 of the two on 400 pictures without labels, at the widths of `LOW`: far above both
parents in every seed, above the base (.867, which nobody has to merge) in nine of ten, below the merges of relatives.  The mean of both
parents' probabilities, two models run side by side, gets .929.  Layers fitted to the parents' plain mean (`fit: {follow: all}`) give
.808, and without a fit .503, below the better parent.  The parents' confidence is what the fit follows, so a stranger that is surer of
what it never saw costs much: trained for 5 epochs instead of 3 it merges to .884, though it knows its half no worse.

Chosen on seeds 1 to 3, which are not the demo's own.  Wider merges (union, ratio .5) give .950 there against .933, for four times the
seconds; 200 pictures give .927 and 600 .941.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubmerge.demo.digits import HALVES, PICTURE_SIZE, Digits, Split
from hubmerge.demo.folder import ALL, BASE, HIGH, LOW, WIDE, DemoFolder
from hubmerge.torch_threads import one_torch_thread

if TYPE_CHECKING:
    import torch

__all__ = ["TrainedModel", "image_processor", "new_model", "save_models", "train"]

_BATCH, _WEIGHT_DECAY = 64, 0.01
_BASE_EPOCHS, _BASE_RATE = 8, 3e-3
_TUNE_EPOCHS, _TUNE_RATE = 5, 1e-3
_STRANGER_EPOCHS, _STRANGER_RATE = 3, 3e-3


@dataclass(frozen=True)
class TrainedModel:
    """What was trained: the model's name, how many pictures it saw, the seconds it took."""

    name: str
    pictures: int
    seconds: float


def image_processor() -> Any:
    """The image processor that every model of the demo is trained and saved with (Pillow's, without torchvision)."""
    from transformers import ViTImageProcessorPil

    size = {"height": PICTURE_SIZE, "width": PICTURE_SIZE}
    return ViTImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def new_model(widths: tuple[int, ...], seed: int) -> Any:
    """An untrained `ResNetForImageClassification` for ten digits, one basic block per width."""
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    names = {label: str(label) for half in HALVES.values() for label in half}
    config = ResNetConfig(
        embedding_size=widths[0],
        hidden_sizes=list(widths),
        depths=[1] * len(widths),
        layer_type="basic",
        id2label=names,
        label2id={name: label for label, name in names.items()},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ResNetForImageClassification(config)


def train(model: Any, digits: Digits, *, epochs: int, rate: float, seed: int) -> Any:
    """Train `model` in place on `digits` (AdamW, one learning-rate cycle) and return it in evaluation mode.

    The order of the pictures is a function of `seed`; on one thread the same machine gives the same weights.
    """
    import torch

    inputs, labels = _tensors(digits), torch.from_numpy(digits.labels)
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=_WEIGHT_DECAY)
    steps = epochs * -(-len(digits) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    model.train()
    with one_torch_thread():
        for _ in range(epochs):
            shuffled = torch.randperm(len(digits), generator=order)
            for start in range(0, len(digits), _BATCH):
                rows = shuffled[start : start + _BATCH]
                loss = model(pixel_values=inputs[rows], labels=labels[rows]).loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return model.eval()


def save_models(demo: DemoFolder, split: Split, seed: int, tell: Callable[[TrainedModel], None]) -> None:
    """Train the five models and save each as an ordinary model folder; `tell` hears of each when it is saved.

    Four go into the zoo.  The fifth, `ALL`, is the base fine-tuned in the same way on everybody's pictures: what
    merging is measured against, not something anyone in the story could have made.
    """
    import copy
    import time

    widths = (16, 32, 64)
    untrained = new_model(widths, seed)
    started = time.perf_counter()

    def keep(name: str, folder: Path, model: Any, pictures: int, card: str) -> None:
        nonlocal started
        model.save_pretrained(folder)
        image_processor().save_pretrained(folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        tell(TrainedModel(name, pictures, time.perf_counter() - started))
        started = time.perf_counter()

    base = train(untrained, split.base, epochs=_BASE_EPOCHS, rate=_BASE_RATE, seed=seed)
    keep(BASE, demo.model(BASE), base, len(split.base), _card(BASE, None, f"{len(split.base)} pictures of all digits"))
    shares = {LOW: split.train.only(HALVES["low"]), HIGH: split.train.only(HALVES["high"]), ALL: split.train}
    shown = {LOW: "the digits 0 to 4", HIGH: "the digits 5 to 9", ALL: "all digits"}
    for name, share in shares.items():
        tuned = train(copy.deepcopy(base), share, epochs=_TUNE_EPOCHS, rate=_TUNE_RATE, seed=seed + 1)
        folder = demo.reference if name == ALL else demo.model(name)
        keep(name, folder, tuned, len(share), _card(name, BASE, f"{len(share)} pictures of {shown[name]}"))
    wide = tuple(width * 3 // 2 for width in widths)
    share = shares[HIGH]
    stranger = train(new_model(wide, seed + 2), share, epochs=_STRANGER_EPOCHS, rate=_STRANGER_RATE, seed=seed + 2)
    keep(WIDE, demo.model(WIDE), stranger, len(share), _card(WIDE, None, f"{len(share)} pictures of {shown[HIGH]}"))


def _tensors(digits: Digits) -> torch.Tensor:
    """The pictures as the saved image processor hands them to the model: float32, (n, 3, 32, 32)."""
    from PIL import Image

    pictures = [Image.fromarray(picture).convert("RGB") for picture in digits.pictures]
    tensors: torch.Tensor = image_processor()(pictures, return_tensors="pt")["pixel_values"]
    return tensors


def _card(name: str, base: str | None, trained_on: str) -> str:
    lineage = f"base_model: {base}\nbase_model_relation: finetune\n" if base else ""
    origin = f"Fine-tuned from {base} on" if base else "Trained from random weights on"
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: image-classification
{lineage}tags:
- digits
---

# {name}

{origin} {trained_on}, from scikit-learn's copy of the UCI Optical Recognition of Handwritten Digits (CC BY 4.0).
Made by `hubmerge demo`: a small ResNet for trying things out, not for reading anybody's handwriting.
"""
