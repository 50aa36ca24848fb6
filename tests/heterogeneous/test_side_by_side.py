"""Models that are run on one batch side by side: what is held of it, in which order it is seen, and how far they are run."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from hubmerge.heterogeneous import sample_parts as parts
from hubmerge.heterogeneous.least_squares import Normal
from hubmerge.heterogeneous.side_by_side import shown_together


class Chain(nn.Module):
    """Modules used in an order, each of which adds its number; `given` holds what they gave, without keeping it."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order = order
        self.given: list[weakref.ref[torch.Tensor]] = []
        for place, name in enumerate(sorted(set(order)), 1):
            self.add_module(name, Adds(place))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in self.order:
            x = self.get_submodule(name)(x)
            self.given.append(weakref.ref(x))
        return x


class Adds(nn.Module):
    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.number


def shown(models: Any, places: Any) -> list[tuple[int, list[float]]]:
    found = shown_together(models, places, {"x": torch.zeros(1)})
    return [(number, [float(each) for each in values]) for number, values in found]


def test_places_are_shown_as_the_models_come_to_them_inputs_and_outputs() -> None:
    left, right = Chain("abc"), Chain("abc")
    places = [("b", False), ("a", True), ("a", False), ("b", True)]
    assert shown([left, right], [places, places]) == [(2, [0, 0]), (1, [1, 1]), (0, [1, 1]), (3, [3, 3])]
    assert [len(model.given) for model in (left, right)] == [
        1,
        1,
    ]  # c is never computed, and b's output was not put away


def test_of_models_with_one_order_nothing_is_held_and_of_others_what_the_other_lacks_yet() -> None:
    left, right, alive = Chain("abc"), Chain("abc"), []
    places = [(name, True) for name in "abc"]
    for _ in shown_together([left, right], [places, places], {"x": torch.zeros(1)}):
        gc.collect()
        alive.append(sum(each() is not None for each in left.given))
    assert alive == [0, 1, 1]  # what goes into the next module
    turned = Chain("cba")
    assert shown([left, turned], [places, places]) == [(1, [3, 5]), (0, [1, 6]), (2, [6, 3])]


def test_places_of_one_model_may_have_other_names_and_a_module_is_looked_at_the_first_time() -> None:
    assert shown([Chain("aab"), Chain("ba")], [[("a", True)], [("b", True)]]) == [(0, [1, 2])]


def test_a_module_that_is_not_used_is_told() -> None:
    idle = Chain("ab")
    idle.order = "a"
    with pytest.raises(RuntimeError, match=r"^a module is not used by its model$"):
        shown([idle], [[("b", False)]])


def test_a_layer_is_looked_at_in_as_many_samples_as_make_the_bytes_that_are_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    linear, fed = nn.Linear(3, 5), torch.zeros(10, 4, 3)
    batch = {"input_ids": torch.zeros(10, 4)}
    monkeypatch.setattr(parts, "MOST", 3 * 8 * 4 * (3 + 5) + 1)  # three samples of 4 rows of 3 and 5 numbers
    found = parts.sample_parts(batch, [fed], linear, "linear", fed)
    assert [(part.start, part.stop) for part in found] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert found[3].of(torch.arange(20)).tolist() == [18, 19]  # two entries for a sample, as for a multiple choice
    assert found[1].of(torch.arange(20).view(2, 10), 1).tolist() == [[3, 4, 5], [13, 14, 15]]
    convolution, image = nn.Conv2d(2, 5, 3, stride=2, padding=1), torch.zeros(10, 2, 4, 4)  # 2 x 2 places
    monkeypatch.setattr(parts, "MOST", 5 * 8 * 4 * (2 * 9 + 5))
    (first, second) = parts.sample_parts({"pixel_values": image}, [image], convolution, "convolution", image)
    assert (first.stop, second.stop) == (5, 10)
    monkeypatch.setattr(parts, "MOST", 1)
    assert len(parts.sample_parts(batch, [fed], linear, "linear", fed)) == 10
    assert len(parts.sample_parts({**batch, "pixel_values": torch.zeros(3)}, [fed], linear, "linear", fed)) == 1
    assert len(parts.sample_parts(batch, [torch.zeros(7)], linear, "linear", fed)) == 1


def test_the_equations_of_parts_are_those_of_the_whole() -> None:
    x, y = torch.arange(12.0).view(6, 2), torch.arange(6.0).view(6, 1)
    whole, both = Normal.of(x, y), Normal.of(x[:4], y[:4]).take_in(Normal.of(x[4:], y[4:]))
    assert (both.rows, torch.equal(both.gram, whole.gram), torch.equal(both.cross, whole.cross)) == (6, True, True)
