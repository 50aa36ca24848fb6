"""Exponentials and logarithms of our own: as good as numpy's extended precision can tell."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmerge.jit import compiled
from hubmerge.ops.exponential import exponential, logarithm
from hubmerge.ops.sums import total_of


@compiled
def _powers(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = exponential(x[i])


@compiled
def _logarithms(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = logarithm(x[i])


@compiled
def _total(x: Any) -> Any:
    return total_of(x)


def powers(*values: float) -> np.ndarray:
    out = np.empty(len(values))
    _powers(np.array(values, np.float64), out)
    return out


def logarithms(*values: float) -> np.ndarray:
    out = np.empty(len(values))
    _logarithms(np.array(values, np.float64), out)
    return out


def test_numbers_that_everybody_knows() -> None:
    assert powers(0)[0] == 1
    np.testing.assert_allclose(powers(1, -1, math.log(2)), [math.e, 1 / math.e, 2], rtol=4e-16)
    assert logarithms(1, 2, 0.5).tolist() == [0, math.log(2), -math.log(2)]


def test_a_power_too_small_to_matter_is_that_of_minus_700() -> None:
    assert powers(-1e300)[0] == powers(-700)[0] < 1e-303


@given(st.floats(-700, 700))
@settings(deadline=None)
def test_powers_are_within_two_units_in_the_last_place(x: float) -> None:
    assert abs(powers(x)[0] - math.exp(x)) <= 2 * math.ulp(math.exp(x))


@given(st.floats(1e-300, 1e300))
@settings(deadline=None)
def test_logarithms_are_within_three_units_in_the_last_place(x: float) -> None:
    assert abs(logarithms(x)[0] - math.log(x)) <= 3 * math.ulp(math.log(x))


@given(st.floats(-1e-3, 1e-3))
@settings(deadline=None)
def test_near_1_a_logarithm_keeps_its_relative_precision(x: float) -> None:
    assert abs(logarithms(1 + x)[0] - math.log(1 + x)) <= 3 * math.ulp(math.log(1 + x))


@given(st.lists(st.integers(-1000, 1000), max_size=300))
@settings(deadline=None)
def test_a_total_of_whole_numbers_is_exact(values: list[int]) -> None:
    assert _total(np.array(values, np.float64)) == sum(values)
