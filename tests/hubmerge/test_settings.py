"""A parameter's value over depth and by tensor name, against numbers worked by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubmerge.settings import Setting, parse_setting


def parsed(raw: Any) -> Setting:
    return parse_setting(raw, lambda leaf: leaf)


@pytest.mark.parametrize(
    ("gradient", "depth", "value"),
    [
        ([0.2, 0.8], 0.0, 0.2),
        ([0.2, 0.8], 1.0, 0.8),
        ([0.2, 0.8], 0.5, 0.5),
        ([0, 1, 0], 0.25, 0.5),  # halfway up the first slope
        ([0, 1, 0], 0.5, 1),
        ([0, 1, 0], 0.75, 0.5),
        ([0, 0.5, 0.3, 0.7, 1], 0.375, 0.4),  # position 1.5 of 4: between 0.5 and 0.3
        ([1.0], 0.0, 1.0),
        ([1.0], 1.0, 1.0),
        ([3, 1], 0.25, 2.5),
    ],
)
def test_a_gradient_is_linear_between_its_values(gradient: list[float], depth: float, value: float) -> None:
    assert parsed(gradient).resolve("w", depth) == pytest.approx(value, abs=1e-15)


@pytest.mark.parametrize(("depth", "value"), [(0.0, True), (0.49, True), (0.5, False), (0.99, False), (1.0, True)])
def test_a_gradient_of_booleans_takes_the_lower_neighbour(depth: float, value: bool) -> None:
    assert parsed([True, False, True]).resolve("w", depth) is value


def test_the_first_filter_that_is_part_of_the_name_wins() -> None:
    setting = parsed([{"filter": "mlp.down", "value": 1}, {"filter": "mlp", "value": [2, 4]}, {"value": 3}])
    assert setting.resolve("layers.0.mlp.down_proj.weight", 1.0) == 1
    assert setting.resolve("layers.0.mlp.up_proj.weight", 0.5) == 3.0
    assert setting.resolve("layers.0.mlp.up_proj.weight", 0.0) == 2
    assert setting.resolve("norm.weight", 0.0) == 3


def test_a_filter_is_plain_text_and_layers_1_is_part_of_layers_10() -> None:
    setting = parsed([{"filter": "layers.1", "value": 1}, {"filter": "*", "value": 2}])
    assert setting.resolve("model.layers.10.w", 0.0) == 1
    assert setting.resolve("model.layers.2.w", 0.0) == 2
    assert parsed([{"filter": "m.p", "value": 1}]).resolve("mlp", 0.0) is None


def test_filters_that_choose_nothing_are_named() -> None:
    names = ["layers.0.mlp.up", "layers.0.mlp.down", "norm"]
    by_part = parsed([{"filter": part, "value": 1} for part in ("mlp", "mlp.up", "mpl", "norm")])
    assert by_part.idle_filters(names, "tensor") == (
        "filter 'mlp.up' is never reached: what stands before it takes its tensors",
        "filter 'mpl' is part of no tensor's name",
    )
    halves = parsed([{"filter": "up", "value": 1}, {"filter": "mlp", "value": 2}, {"filter": "down", "value": 3}])
    assert halves.idle_filters(names, "tensor") == (
        "filter 'down' is never reached: what stands before it takes its tensors",
    )


@pytest.mark.parametrize("first", [{"value": 7}, {"filter": "*", "value": 7}, {"filter": None, "value": 7}, 7])
def test_a_filter_after_a_value_for_all_is_never_reached(first: Any) -> None:
    setting = parsed([first, {"filter": "norm", "value": 1}])
    assert setting.resolve("norm", 0.0) == 7
    assert setting.idle_filters(["norm"], "module") == (
        "filter 'norm' is never reached: what stands before it takes its modules",
    )


@pytest.mark.parametrize("last", [{"value": 7}, {"filter": "*", "value": 7}, {"filter": None, "value": 7}, 7])
def test_what_no_filter_takes_goes_to_the_row_without_one(last: Any) -> None:
    assert parsed([{"filter": "mlp", "value": 1}, last]).resolve("norm", 0.0) == 7


def test_a_row_without_filter_takes_everything_after_it_too() -> None:
    assert parsed([5, {"filter": "mlp", "value": 1}]).resolve("mlp", 0.0) == 5


def test_without_a_row_that_fits_there_is_no_value() -> None:
    assert parsed({"filter": "mlp", "value": 1}).resolve("norm", 0.5) is None


def test_constant_gradient_and_filters_are_told_apart() -> None:
    assert (parsed(1).is_constant, parsed([1]).is_constant, parsed([1, 2]).is_constant) == (True, True, False)
    assert (parsed([1, 2]).has_gradient, parsed([1]).has_gradient) == (True, False)
    assert not parsed({"filter": "a", "value": 1}).is_constant
    assert parsed({"value": 1}).is_constant


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ({}, "expected filter and value, got an empty mapping"),
        ({"filter": "a"}, "expected filter and value, got filter"),
        ({"filtr": "a", "value": 1}, "expected filter and value, got filtr, value"),
        ([{"filter": 3, "value": 1}], "filter must be a part of a tensor's name, got 3"),
    ],
)
def test_a_value_of_no_known_form_is_refused(raw: Any, fault: str) -> None:
    with pytest.raises(ValueError, match="^" + fault.replace("*", r"\*") + "$"):
        parsed(raw)


@pytest.mark.parametrize("raw", [[], [{"filter": "w", "value": []}, {"value": 2}], {"value": []}])
def test_an_empty_list_is_no_value_and_hides_what_comes_after_it(raw: Any) -> None:
    assert parsed(raw).resolve("w", 0.5) is None


values = st.floats(-1e6, 1e6)


@given(st.lists(values, min_size=1, max_size=9), st.floats(0, 1))
def test_a_gradient_never_leaves_the_range_of_its_values(gradient: list[float], depth: float) -> None:
    slack = 1e-9 * max(map(abs, gradient))
    assert min(gradient) - slack <= parsed(gradient).resolve("w", depth) <= max(gradient) + slack


@given(values, st.integers(1, 9), st.floats(0, 1))
def test_a_gradient_of_equal_values_is_that_value(value: float, count: int, depth: float) -> None:
    assert parsed([value] * count).resolve("w", depth) == value


@given(st.lists(values, min_size=1, max_size=9), st.data())
def test_at_its_own_places_a_gradient_has_exactly_its_values(gradient: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(gradient) - 1))
    depth = place / (len(gradient) - 1) if len(gradient) > 1 else 0.0
    spread = max(gradient) - min(gradient)
    assert parsed(gradient).resolve("w", depth) == pytest.approx(gradient[place], abs=1e-12 * spread)
