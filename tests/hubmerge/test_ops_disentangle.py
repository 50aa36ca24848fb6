"""What task vectors have in common: worked by hand, against a descent over whole vectors, and where there is nothing to divide by."""

from __future__ import annotations

import numpy as np
import pytest

from hubmerge.ops.disentangle import Unit, disentangled

PAPER = {"alpha": 0.1, "step": 0.01, "iterations": 300}


def inner(*vectors: tuple[float, ...]) -> np.ndarray:
    return np.array(vectors, float) @ np.array(vectors, float).T


def descended(taus: np.ndarray, alpha: float, step: float, iterations: int) -> np.ndarray:
    """The redundant vector by plain descent over all its entries."""
    count, delta = len(taus), np.zeros(taus.shape[1])
    for _ in range(iterations):
        gradient = np.zeros_like(delta)
        for i in range(count):
            for j in range(count):
                if i != j:
                    u, v = taus[i] - delta, taus[j] - delta
                    a, b = np.linalg.norm(u), np.linalg.norm(v)
                    cosine = u @ v / (a * b)
                    towards = (v / (a * b) - cosine * u / a**2) + (u / (a * b) - cosine * v / b**2)
                    gradient -= np.sign(cosine) * towards / (count * (count - 1))
        length = np.linalg.norm(delta)
        if length > 0:
            gradient += alpha * delta / length
        delta = delta - step * gradient
    return delta


def test_the_first_step_is_worked_by_hand() -> None:
    # u = (1, 0), v = (1, 1): cos = 1 / sqrt 2; its derivative by u is (0, 1 / sqrt 2), by v (1, -1) / (2 sqrt 2): together
    # (1, 1) / (2 sqrt 2), so that delta = 0.01 (1, 1) / (2 sqrt 2), which is 0.01 / (2 sqrt 2) of the second vector
    found = disentangled(inner((1, 0), (1, 1)), alpha=0.1, step=0.01, iterations=1)
    np.testing.assert_allclose(found.shared, (0, 0.01 / (2 * np.sqrt(2))), atol=1e-15)
    assert found.norm == pytest.approx(0.005)
    assert found.before[0][1] == pytest.approx(np.sqrt(0.5))
    assert found.norms == pytest.approx((1, np.sqrt(2)))


@pytest.mark.parametrize(("count", "seed", "common"), [(2, 0, 0.5), (3, 1, 0.3), (8, 2, 0.2), (3, 3, 0.0)])
def test_the_descent_on_coefficients_is_the_descent_on_whole_vectors(count: int, seed: int, common: float) -> None:
    rng = np.random.default_rng(seed)
    taus = (rng.normal(size=(count, 200)) + common * rng.normal(size=200)) / 10
    found = disentangled(taus @ taus.T, **PAPER)
    expected = descended(taus, **PAPER)
    np.testing.assert_allclose(np.array(found.shared) @ taus, expected, atol=1e-6 * np.abs(expected).max(), rtol=0)
    left = taus - expected
    lengths = np.linalg.norm(left, axis=1)
    np.testing.assert_allclose(found.after, left @ left.T / np.outer(lengths, lengths), atol=1e-6)
    assert found.norm == pytest.approx(np.linalg.norm(expected))


def test_what_tasks_share_goes_and_their_cosines_with_it() -> None:
    found = disentangled(inner((1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 1)), **PAPER)
    assert np.all(np.array(found.before)[np.triu_indices(3, 1)] == pytest.approx(0.5))
    assert np.abs(np.array(found.after)[np.triu_indices(3, 1)]).max() < 0.02
    assert len({round(share, 12) for share in found.shared}) == 1  # the tasks are alike


@pytest.mark.parametrize("gram", [
    inner((1, 2)),  # alone
    inner((1, 2), (0, 0)),  # the other learned nothing
    inner((1, 0), (0, 3)),  # at a right angle
    inner((1, 2), (1, 2), (1, 2)),  # all the same
    inner((1.0,), (-3.0,), (2.0,)),  # a single entry: its cosines are 1 and -1 whatever is subtracted
    np.zeros((2, 2)),
    np.array([[1.0, np.nan], [np.nan, 1.0]]),
])  # fmt: skip
@pytest.mark.parametrize("unit", ["one", "norm"])
def test_nothing_is_subtracted_where_nothing_can_be_gained(gram: np.ndarray, unit: str) -> None:
    found = disentangled(gram, **PAPER, unit=unit)
    np.testing.assert_allclose(found.shared, np.zeros(len(gram)), atol=1e-12)
    assert np.isfinite(found.after).all()


def test_a_task_that_learned_nothing_takes_no_part() -> None:
    two, three = disentangled(inner((1, 0), (1, 1)), **PAPER), disentangled(inner((1, 0), (0, 0), (1, 1)), **PAPER)
    assert three.shared == (two.shared[0], 0.0, two.shared[1])
    assert three.taken == (True, False, True)


def test_tasks_that_are_the_same_share_one_coefficient() -> None:
    found = disentangled(inner((1, 1), (1, 1), (1, 0)), **PAPER)
    assert found.shared[0] == pytest.approx(found.shared[1], rel=1e-12)
    assert abs(found.after[0][2]) < 0.05


def test_measured_in_their_own_norm_vectors_of_any_length_give_the_same() -> None:
    gram = inner((1, 0, 2), (1, 1, 0), (0, 1, -1))
    one, other = (disentangled(gram * scale, **PAPER, unit="norm") for scale in (1.0, 1e-10))
    np.testing.assert_allclose(one.shared, other.shared, rtol=1e-9)
    as_they_are = disentangled(gram * 1e-10, **PAPER)
    assert as_they_are.norm > 1000 * max(as_they_are.norms)  # what the paper's step does to vectors so short


@pytest.mark.parametrize(("scale", "unit"), [(0.07, "one"), (0.06, "norm")])
def test_of_themselves_only_vectors_too_short_for_the_step_are_measured_in_their_own_norm(
    scale: float, unit: Unit
) -> None:
    gram = scale * inner((1, 0), (1, 1), (1, 0), (1, -1))  # mean square 1.5 * scale, and a tenth of it beside 0.01
    assert disentangled(gram, **PAPER, unit="auto") == disentangled(gram, **PAPER, unit=unit)
