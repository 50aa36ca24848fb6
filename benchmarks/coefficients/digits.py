"""Specialists of digits merged by AWD and AdaMerging, beside task arithmetic and TIES: `python -m benchmarks.coefficients.digits`.

Two settings, both of hubmerge's demo: a base that saw 200 pictures, and two specialists fine-tuned from it on the pictures of 0 to 4 and of
5 to 9.  In "one head" every model tells ten classes apart, and the merge answers with its merged head.  In "own heads" the base learned
the digit modulo 5, each specialist tells its own five digits apart, and its head answers for its digits, as in the papers.  Accuracy is the
mean of both halves of the 599 pictures that no training saw.  AdaMerging is given 256 training pictures of each half, without labels; in the
rows "on the test pictures" those that it is measured on, as in its paper.
"""

from __future__ import annotations

import copy
import json
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from hubmerge import merge_state_dicts
from hubmerge.demo.digits import HALVES, Digits, load_split
from hubmerge.demo.training import image_processor, new_model, train

__all__ = ["HEADS", "METHODS", "SEEDS", "Setting", "accuracy", "keep", "main", "setting_of"]

RESULT = Path(__file__).parent / "results" / "digits.json"
SEEDS = (0, 1, 2)
HEADS = ("one head", "own heads")
_WIDTHS, _SAMPLES, _BATCH = (16, 32, 64), 256, 32
_BASE, _TUNE = {"epochs": 8, "rate": 3e-3}, {"epochs": 5, "rate": 1e-3}
_TIES = {"inner": "ties", "density": 0.5}

METHODS: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "task arithmetic, lambda .3": ("task_arithmetic", {"lambda": 0.3}, ""),
    "task arithmetic, lambda .5": ("task_arithmetic", {"lambda": 0.5}, ""),
    "task arithmetic, lambda .7": ("task_arithmetic", {"lambda": 0.7}, ""),
    "awd, lambda .3": ("awd", {"lambda": 0.3}, ""),
    "awd, lambda .5": ("awd", {"lambda": 0.5}, ""),
    "awd, lambda .7": ("awd", {"lambda": 0.7}, ""),
    "awd by tensor, lambda .7": ("awd", {"lambda": 0.7, "scope": "tensor"}, ""),
    "ties, density .5": ("ties", {"density": 0.5}, ""),
    "awd with ties, density .5": ("awd", {**_TIES}, ""),
    "adamerging by task": ("adamerging", {"granularity": "task"}, "own"),
    "adamerging by layer": ("adamerging", {}, "own"),
    "adamerging++ by layer": ("adamerging", {**_TIES, "trim_scope": "tensor"}, "own"),
    "awd with adamerging by task": ("awd", {"inner": "adamerging", "granularity": "task"}, "own"),
    "awd with adamerging by layer": ("awd", {"inner": "adamerging"}, "own"),
    "adamerging by task, on the test pictures": ("adamerging", {"granularity": "task"}, "test"),
    "adamerging by layer, on the test pictures": ("adamerging", {}, "test"),
}
"""Row of the table -> method, parameters, and which pictures it is given, if any."""


@dataclass(frozen=True)
class Setting:
    """The models of one seed.  tests: pictures and labels of each half, in the numbers of its own head; own_heads: whether it answers."""

    base: Any
    parents: tuple[Any, ...]
    pictures: tuple[Any, ...]
    tests: tuple[tuple[Any, Any], ...]
    own_heads: bool


def setting_of(seed: int, *, own_heads: bool) -> Setting:
    """Train base and specialists."""
    import torch

    split = load_split(seed)

    def labelled(digits: Digits) -> Digits:
        return Digits(digits.pictures, digits.labels % 5) if own_heads else digits

    base = train(_untrained(seed, own_heads=own_heads), labelled(split.base), seed=seed, **_BASE)
    shares = [split.train.only(members) for members in HALVES.values()]
    parents = [train(copy.deepcopy(base), labelled(share), seed=seed + 1, **_TUNE) for share in shares]
    for parent, members in zip(parents, HALVES.values(), strict=True):
        if own_heads:
            parent.config.id2label = {i: str(digit) for i, digit in enumerate(members)}
    held_out = [labelled(split.held_out.only(members)) for members in HALVES.values()]
    tests = tuple((_tensors(digits), torch.from_numpy(digits.labels)) for digits in held_out)
    return Setting(
        base, tuple(parents), tuple(_tensors(share)[:_SAMPLES] for share in shares), tests, own_heads=own_heads
    )


def _untrained(seed: int, *, own_heads: bool) -> Any:
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    model = new_model(_WIDTHS, seed)
    if not own_heads:
        return model
    fields = {key: getattr(model.config, key) for key in ("embedding_size", "hidden_sizes", "depths", "layer_type")}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ResNetForImageClassification(ResNetConfig(**fields, num_labels=5))


def _tensors(digits: Digits) -> Any:
    from PIL import Image

    pictures = [Image.fromarray(picture).convert("RGB") for picture in digits.pictures]
    return image_processor()(pictures, return_tensors="pt")["pixel_values"]


def accuracy(setting: Setting, state: Mapping[str, Any]) -> tuple[float, ...]:
    """The share of held-out pictures of each half that a model with these tensors is right about."""
    import torch

    model, found = copy.deepcopy(setting.base).eval(), []
    for parent, (pictures, labels) in zip(setting.parents, setting.tests, strict=True):
        model.load_state_dict(dict(state))
        if setting.own_heads:
            model.classifier.load_state_dict(parent.classifier.state_dict())
        with torch.no_grad():
            answers = model(pixel_values=pictures).logits.argmax(dim=-1)
        found.append(float((answers == labels).float().mean()))
    return tuple(found)


def _rows(setting: Setting) -> Iterator[tuple[str, tuple[float, ...], float]]:
    """Every row's name, accuracies on both halves, and seconds."""
    yield "base", accuracy(setting, setting.base.state_dict()), 0.0
    for name, parent in zip(HALVES, setting.parents, strict=True):
        yield f"specialist {name}", accuracy(setting, parent.state_dict()), 0.0
    states = [parent.state_dict() for parent in setting.parents]
    given = {"own": setting.pictures, "test": tuple(pictures for pictures, _ in setting.tests)}
    for name, (method, parameters, data) in METHODS.items():
        begun = time.perf_counter()
        if data:
            rows = [[{"pixel_values": part} for part in pictures.split(_BATCH)] for pictures in given[data]]
            merged = merge_state_dicts(method, setting.parents, setting.base, parameters, calibration=rows)
        else:
            merged = merge_state_dicts(method, states, setting.base.state_dict(), parameters)
        yield name, accuracy(setting, merged), time.perf_counter() - begun


def main(heads: str, seeds: Sequence[int]) -> None:
    """Measure a setting, print every row, and write it into the result after each seed, beside what is there of others."""
    warnings.filterwarnings("ignore", message="running statistics")
    for seed in seeds:
        rows = []
        for name, accuracies, seconds in _rows(setting_of(seed, own_heads=heads == "own heads")):
            row = {"seed": seed, "accuracy": round(float(np.mean(accuracies)), 4), "seconds": round(seconds, 1)}
            rows.append((name, row))
            sys.stdout.write(f"{heads}, seed {seed}: {name}: {row['accuracy']:.4f} ({seconds:.1f} s)\n")
            sys.stdout.flush()
        keep(heads, rows)


def keep(heads: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Put the rows of one seed into the result, in the place of what is there of this seed."""
    content = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {"settings": {}}
    content["versions"] = {name: version(name) for name in ("torch", "transformers", "numpy", "scikit-learn")}
    own = content["settings"].setdefault(heads, {})
    for name, row in rows:
        others = [each for each in own.get(name, []) if each["seed"] != row["seed"]]
        own[name] = sorted([*others, dict(row)], key=lambda each: each["seed"])
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    asked = [int(seed) for seed in sys.argv[1:]] or list(SEEDS)
    for setting in HEADS:
        main(setting, asked)
