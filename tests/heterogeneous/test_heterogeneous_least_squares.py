"""Least squares of one layer, against numpy and against the sums written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hubmerge.heterogeneous.least_squares import (
    Normal,
    best_ridge,
    gathered,
    means_of,
    patches,
    solved,
    summed,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5))
Y = X @ RNG.normal(size=(5, 3)) + 0.1 * RNG.normal(size=(40, 3))
PRIOR = RNG.normal(size=(5, 3))
ALL = torch.ones(5, 3, dtype=torch.bool)


def normal(rows: slice = slice(None)) -> Normal:
    return Normal.of(torch.tensor(X[rows]), torch.tensor(Y[rows]))


def assert_equal(left: Normal, right: Normal) -> None:
    assert left.rows == right.rows
    for name in ("gram", "cross", "x", "y", "yy"):
        torch.testing.assert_close(getattr(left, name), getattr(right, name), rtol=1e-12, atol=1e-12)


def ridged(x: np.ndarray, y: np.ndarray, prior: np.ndarray, ridge: float) -> np.ndarray:
    """The formula: the ridge in units of the mean square of the inputs, towards `prior`."""
    mu = ridge * np.mean(np.square(x).sum(0))
    return np.linalg.solve(x.T @ x + mu * np.eye(x.shape[1]), x.T @ y + mu * prior)


def test_a_ridge_of_next_to_nothing_gives_what_numpy_finds() -> None:
    found = solved(normal(), torch.tensor(PRIOR), ALL, 1e-12)
    np.testing.assert_allclose(found, np.linalg.lstsq(X, Y, rcond=None)[0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 1e3])
def test_a_ridge_pulls_towards_the_weights_given(ridge: float) -> None:
    found = solved(normal(), torch.tensor(PRIOR), ALL, ridge)
    np.testing.assert_allclose(found, ridged(X, Y, PRIOR, ridge), rtol=1e-9)
    np.testing.assert_allclose(solved(normal(), torch.tensor(PRIOR), ALL, 1e12), PRIOR, rtol=1e-9)


def test_weights_that_are_not_allowed_stay_and_the_others_make_up_for_them() -> None:
    allowed = ALL.clone()
    allowed[0, :2] = allowed[3, 2] = False
    found = solved(normal(), torch.tensor(PRIOR), allowed, 1e-12).numpy()
    assert found[0, :2].tolist() == PRIOR[0, :2].tolist()
    assert found[3, 2] == PRIOR[3, 2]
    rest = np.linalg.lstsq(X[:, 1:], Y[:, :2] - X[:, :1] @ PRIOR[:1, :2], rcond=None)[0]
    np.testing.assert_allclose(found[1:, :2], rest, rtol=1e-8)
    free = [0, 1, 2, 4]
    rest = np.linalg.lstsq(X[:, free], Y[:, 2] - X[:, 3] * PRIOR[3, 2], rcond=None)[0]
    np.testing.assert_allclose(found[free, 2], rest, rtol=1e-8)


def test_an_output_without_inputs_and_inputs_of_nothing_stay_as_they_are() -> None:
    allowed = ALL.clone()
    allowed[:, 1] = False
    found = solved(normal(), torch.tensor(PRIOR), allowed, 1e-3)
    assert found[:, 1].tolist() == PRIOR[:, 1].tolist()
    silent = Normal.of(torch.zeros(4, 5), torch.ones(4, 3))
    assert solved(silent, torch.tensor(PRIOR), ALL, 1e-3).tolist() == PRIOR.tolist()


def test_an_input_that_is_always_zero_keeps_its_weights() -> None:
    x = X.copy()
    x[:, 2] = 0
    found = solved(Normal.of(torch.tensor(x), torch.tensor(Y)), torch.tensor(PRIOR), ALL, 1e-3)
    np.testing.assert_allclose(found[2], PRIOR[2], rtol=1e-12)


def test_parts_add_up_and_can_be_taken_away() -> None:
    assert_equal(normal(slice(0, 15)) + normal(slice(15, 40)), normal())
    assert_equal(normal() - normal(slice(0, 15)), normal(slice(15, 40)))


def test_folds_are_gathered_into_the_first_to_the_bit_and_used_up() -> None:
    folds = [normal(slice(k, None, 4)) for k in range(4)]
    first = folds[0].gram.clone()
    whole, means = summed(folds), means_of(folds)
    assert torch.equal(folds[0].gram, first)  # a sum changes none of its parts
    found = gathered(folds)
    assert folds == []
    assert found.rows == whole.rows == 40
    assert all(torch.equal(getattr(found, name), getattr(whole, name)) for name in ("gram", "cross", "x", "y", "yy"))
    np.testing.assert_allclose(means[0], X.mean(0))
    np.testing.assert_allclose(means[1], Y.mean(0))


def test_sums_about_the_means_are_those_of_centred_rows() -> None:
    x, y = X + 3, Y - 2
    found = Normal.of(torch.tensor(x), torch.tensor(y)).centred
    assert_equal(found, Normal.of(torch.tensor(x - x.mean(0)), torch.tensor(y - y.mean(0))))


def test_parts_about_the_means_of_all_add_up_to_the_whole_about_its_own() -> None:
    parts = [normal(slice(0, 15)), normal(slice(15, 40))]
    means = torch.tensor(X.mean(0)), torch.tensor(Y.mean(0))
    first, second = (part.about(*means) for part in parts)
    assert_equal(first + second, normal().centred)
    assert not torch.allclose(parts[0].centred.gram + parts[1].centred.gram, normal().centred.gram)


def test_the_error_is_the_sum_of_squares() -> None:
    found = normal().error(torch.tensor(PRIOR))
    np.testing.assert_allclose(found, np.square(X @ PRIOR - Y).sum(0), rtol=1e-9)


def test_the_best_ridge_is_the_one_that_predicts_what_was_left_out() -> None:
    ridges = (1e-5, 1e-2, 1e-1, 1.0, 1e2)
    random, chosen = np.random.default_rng(1), []
    for noise in (0.01, 3.0):
        y = X @ (PRIOR + 0.3 * random.normal(size=(5, 3))) + noise * random.normal(size=(40, 3))
        slices = [slice(k, None, 4) for k in range(4)]
        folds = [Normal.of(torch.tensor(X[part]), torch.tensor(y[part])) for part in slices]
        errors = []
        for ridge in ridges:
            kept = [np.delete(np.arange(40), np.arange(40)[part]) for part in slices]
            found = [ridged(X[rows], y[rows], PRIOR, ridge) for rows in kept]
            pairs = zip(slices, found, strict=True)
            errors.append(sum(np.square(X[part] @ weight - y[part]).sum() for part, weight in pairs))
        chosen.append(best_ridge(folds, torch.tensor(PRIOR), ALL, ridges))
        assert chosen[-1] == ridges[int(np.argmin(errors))]
    assert chosen[0] < chosen[1]


def test_of_many_inputs_only_the_first_fold_is_left_out() -> None:
    ridges, random = (1e-5, 1e2), np.random.default_rng(3)
    y = X @ PRIOR + random.normal(size=(40, 3))
    y[10:] = X[10:] @ (PRIOR + 1.0)  # all but the first fold say that the prior is wrong
    folds = [Normal.of(torch.tensor(X[low : low + 10]), torch.tensor(y[low : low + 10])) for low in range(0, 40, 10)]
    assert best_ridge(folds, torch.tensor(PRIOR), ALL, ridges) == 1e-5
    assert best_ridge(folds, torch.tensor(PRIOR), ALL, ridges, left_out=1) == 1e2


def test_the_best_ridge_leaves_alone_what_is_not_allowed() -> None:
    allowed = ALL.clone()
    allowed[2:, 0] = False
    folds = [normal(slice(k, None, 4)) for k in range(4)]
    ridges = (1e-3, 1e-1, 10.0)
    errors = []
    for ridge in ridges:
        error = 0.0
        for k, fold in enumerate(folds):
            rest = [each for other, each in enumerate(folds) if other != k]
            total = rest[0] + rest[1] + rest[2]
            mu = ridge * float(total.gram.diagonal().mean())  # the scale of all inputs, also where some are held
            weight = PRIOR.copy()
            for output, inputs in ((0, [0, 1]), (1, list(range(5))), (2, list(range(5)))):
                gram, cross = total.gram.numpy(), total.cross.numpy()
                missing = cross[inputs, output] - gram[inputs] @ PRIOR[:, output]
                left = gram[np.ix_(inputs, inputs)] + mu * np.eye(len(inputs))
                weight[inputs, output] += np.linalg.solve(left, missing)
            error += float(fold.error(torch.tensor(weight)).sum())
        errors.append(error)
    assert best_ridge(folds, torch.tensor(PRIOR), allowed, ridges) == ridges[int(np.argmin(errors))]


@pytest.mark.parametrize(("stride", "padding"), [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((2, 1), (0, 2))])
def test_patches_times_a_kernel_are_the_convolution(stride: tuple[int, int], padding: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 6, 7, generator=random, dtype=torch.float64)
    kernel = torch.randn(4, 3, 3, 2, generator=random, dtype=torch.float64)
    wanted = torch.nn.functional.conv2d(images, kernel, stride=stride, padding=padding)
    rows = patches(images, (3, 2), stride, padding)
    found = (rows @ kernel.reshape(4, -1).T).reshape(2, *wanted.shape[2:], 4).movedim(-1, 1)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
