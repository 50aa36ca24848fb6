"""How merges of image classifiers are scored, against numbers worked by hand."""

from __future__ import annotations

from math import log
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.heterogeneous.examples import Examples
from benchmarks.heterogeneous.scoring import Outputs, accuracy, ensemble, outputs_of, renormalised, scores
from benchmarks.heterogeneous.settings import ALL, SETTINGS

SPLIT = next(setting for setting in SETTINGS if (setting.name, setting.model) == ("split", "resnet"))
SAME = next(setting for setting in SETTINGS if (setting.name, setting.model) == ("same", "resnet"))


def outputs(*lines: dict[int, float]) -> Outputs:
    """For image n the n-th line: digit -> output; -inf for the others."""
    table = np.full((len(lines), 10), -np.inf, np.float32)
    for row, line in zip(table, lines, strict=True):
        row[list(line)] = list(line.values())
    return lambda pixels: table[pixels[:, 0, 0, 0].astype(int)]


def images(*labels: int) -> Examples:
    """Images of one pixel, which is their number."""
    pixels = np.arange(len(labels), dtype=np.float32).reshape(-1, 1, 1, 1)
    return Examples(pixels, np.array(labels))


def test_with_the_task_known_only_its_labels_compete() -> None:
    given = outputs({1: 2, 4: 1, 7: 3}, {1: 2, 4: 1, 7: 0})
    shown = images(1, 4)
    assert accuracy(given, shown, (1, 4)) == 50
    assert accuracy(given, shown, (1, 4, 7)) == 0


def test_a_model_that_knows_none_of_the_labels_has_no_accuracy() -> None:
    assert accuracy(outputs({1: 2.0}), images(5), (5, 6)) is None


def test_an_answer_that_is_not_a_number_is_wrong() -> None:
    given = outputs({1: 2, 4: 1}, {1: float("nan"), 4: 1})
    assert accuracy(given, images(1, 1), (1, 4)) == 50


def test_scores_are_of_each_task_their_mean_and_of_all_digits_together() -> None:
    given = outputs({0: 3, 6: 4}, {0: 3, 6: 2}, {0: 3, 6: 2}, {0: 3, 7: 4}, {0: 1, 6: 2, 7: 4})
    found = scores(given, SPLIT, {"mnist": images(0, 0, 6, 6, 7)})
    assert found == {"0 to 4": 100, "5 to 9": pytest.approx(200 / 3), "mean": pytest.approx(250 / 3), "joint": 40}


def test_who_knows_half_of_the_digits_has_no_mean_and_is_wrong_on_the_others_together() -> None:
    found = scores(outputs({0: 3, 1: 2}, {0: 3, 1: 2}), SPLIT, {"mnist": images(0, 6)})
    assert found == {"0 to 4": 100, "5 to 9": None, "mean": None, "joint": 50}


def test_one_task_is_its_own_mean() -> None:
    assert scores(outputs({0: 1, 1: 0}), SAME, {"mnist": images(0)}) == {"MNIST": 100, "mean": 100}


def test_an_ensemble_with_shared_labels_is_the_mean_of_probabilities() -> None:
    first = outputs(dict.fromkeys(ALL, -1e9) | {3: log(9), 8: 0})  # .9 and .1
    second = outputs(dict.fromkeys(ALL, -1e9) | {3: 0, 8: log(3)})  # .25 and .75
    mean = ensemble([first, second], "shared")(images(3).inputs)
    assert mean[0, [3, 8]].tolist() == pytest.approx([0.575, 0.425])
    assert mean[0].sum() == pytest.approx(1)


def test_an_ensemble_with_disjoint_labels_is_the_logits_side_by_side() -> None:
    joined = ensemble([outputs({0: 2, 1: -3}), outputs({5: 7, 6: 1})], "disjoint")(images(0).inputs)
    assert joined[0, [0, 1, 5, 6]].tolist() == [2, -3, 7, 1]
    assert np.isneginf(joined[0, [2, 3, 4, 7, 8, 9]]).all()


def test_disjoint_labels_must_be_disjoint() -> None:
    with pytest.raises(ValueError, match=r"^two parents know the same label$"):
        ensemble([outputs({0: 2, 1: -3}), outputs({1: 7})], "disjoint")(images(0).inputs)


def test_a_models_outputs_go_by_their_names() -> None:
    import torch

    class Model:
        config = SimpleNamespace(id2label={0: "7", 1: "3"})
        main_input_name = "pixel_values"

        def __call__(self, pixel_values: object) -> SimpleNamespace:
            return SimpleNamespace(logits=torch.tensor([[0.5, 1.5]]).repeat(len(pixel_values), 1))  # type: ignore[arg-type]

    found = outputs_of(Model())(np.zeros((300, 1, 1, 1), np.float32))  # more than are run at once
    assert found[:, 7].tolist() == [0.5] * 300
    assert found[:, 3].tolist() == [1.5] * 300
    assert np.isneginf(found[:, [0, 1, 2, 4, 5, 6, 8, 9]]).all()


def test_statistics_are_estimated_again_in_a_copy_as_the_mean_over_batches() -> None:
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(1, momentum=0.3)

        def forward(self, pixel_values: torch.Tensor) -> Any:
            return self.norm(pixel_values)

    base: Any = Model().eval()
    base.norm.running_mean.fill_(9.0)
    batches = [{"pixel_values": torch.tensor(values).reshape(2, 1, 1, 1)} for values in ([1.0, 3.0], [4.0, 8.0])]
    anew = renormalised(base, batches)
    assert anew.norm.running_mean.tolist() == [4.0]  # of 2 and 6
    assert anew.norm.running_var.tolist() == [5.0]  # of 2 and 8, which divide by n - 1
    assert anew.norm.momentum == 0.3
    assert not anew.training
    assert base.norm.running_mean.tolist() == [9.0]
