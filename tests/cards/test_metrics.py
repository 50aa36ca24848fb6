"""Metrics by hand, and as `evaluate` uses them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards.metrics import compute, ratio_stderr


def test_accuracy_of_three_in_four():
    value, stderr = compute("accuracy", [0, 1, 1, 0], [0, 1, 0, 0])
    assert value == 0.75
    assert stderr == pytest.approx(math.sqrt(0.75 * 0.25 / 4))


def test_perplexity_is_over_tokens_and_not_over_windows():
    # 2 nats over 1 token and 4 nats over 5 tokens: 6 nats over 6 tokens
    value, _ = compute("perplexity", [2.0, 4.0], [1, 5])
    assert value == pytest.approx(math.e)


def test_the_error_of_a_ratio_by_hand():
    # mean 1; residuals 2 - 1 = 1 and 4 - 5 = -1; sqrt(2 / 1 * (1 + 1)) / 6
    assert ratio_stderr([2.0, 4.0], [1, 5]) == pytest.approx((1.0, 2 / 6))


def test_one_window_has_no_standard_error():
    assert compute("perplexity", [1.0], [1]) == (pytest.approx(math.e), None)


def test_bits_per_byte_divide_bits_by_bytes():
    value, stderr = compute("bits_per_byte", [math.log(2), math.log(2)], [1, 1], text_bytes=4)
    assert value == pytest.approx(0.5)
    assert stderr == pytest.approx(0)


def test_a_metric_is_an_evaluate_metric_and_needs_no_script(tmp_path):
    import evaluate

    from cards.metrics import Accuracy

    metric = Accuracy(cache_dir=str(tmp_path))
    assert isinstance(metric, evaluate.Metric)
    metric.add_batch(predictions=[1, 1], references=[1, 0])
    assert metric.compute()["accuracy"] == 0.5


@given(st.lists(st.tuples(st.floats(0.1, 50), st.integers(1, 64)), min_size=2, max_size=20), st.floats(0.1, 10))
def test_the_error_grows_with_the_unit_of_loss(windows, unit):
    totals, counts = zip(*windows, strict=True)
    mean, stderr = ratio_stderr(totals, counts)
    scaled_mean, scaled_stderr = ratio_stderr([unit * total for total in totals], counts)
    assert scaled_mean == pytest.approx(unit * mean)
    assert scaled_stderr == pytest.approx(unit * stderr, abs=1e-9)
