"""dare, della, breadcrumbs and their kin: which entries survive, and what is made of them, against numpy written out."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from zoo import bfloat16, merge_entries, merge_tensors, numbers, random_values

from hubmerge import RecipeError, build_plan
from hubmerge.staged import random_key

MASK = 0xFFFFFFFF


def draws(seed: int, place: int, tensor: str, count: int) -> np.ndarray:
    """The random bits of one parent's tensor, in Python's whole numbers."""
    key = int.from_bytes(hashlib.sha256(f"{seed}\n{place}\n{tensor}".encode()).digest()[:8], "little")
    found = []
    for index in range(count):
        x = (index + key) & MASK
        for multiplier, shifts in (((0x7FEB352D, 0x846CA68B), (16, 15, 16)), ((0x21F0AAAD, 0xD35A2D97), (16, 15, 15))):
            x ^= x >> shifts[0]
            x = x * multiplier[0] & MASK
            x ^= x >> shifts[1]
            x = x * multiplier[1] & MASK
            x ^= x >> shifts[2]
            x = (x + (key >> 32)) & MASK if shifts[2] == 16 else x
        found.append(x)
    return np.array(found, np.float64)


def rescaled(delta: np.ndarray, kept: np.ndarray, how: str, density: float) -> np.ndarray:
    thinned = np.where(kept, delta, 0.0)
    factors = {"l1": np.abs(delta).sum() / max(np.abs(thinned).sum(), 1e-30), "inverse": 1 / density, "none": 1.0}
    return thinned * factors[how]


def random_reference(deltas: list[np.ndarray], density: list[float], how: str, seed: int) -> list[np.ndarray]:
    rows = []
    for place, (delta, share) in enumerate(zip(deltas, density, strict=True)):
        kept = draws(seed, place, "w", delta.size).reshape(delta.shape) < share * 2**32
        rows.append(rescaled(delta, kept, how, share))
    return rows


def ranks(row: np.ndarray) -> np.ndarray:
    """From 0; equal magnitudes have the mean of their ranks."""
    size = np.abs(row)
    return np.array([(size < one).sum() + ((size == one).sum() - 1) / 2 for one in size])


def della_reference(deltas: list[np.ndarray], density: float, epsilon: float, how: str) -> list[np.ndarray]:
    out = []
    for place, delta in enumerate(deltas):
        rows = np.atleast_2d(delta)
        n = rows.shape[1]
        rank = np.array([ranks(row) for row in rows])
        chance = density - epsilon + 2 * epsilon * (rank / (n - 1) if n > 1 else 0.5)
        kept = draws(0, place, "w", delta.size).reshape(rows.shape) < chance * 2**32
        out.append(rescaled(delta, kept.reshape(delta.shape), how, density))
    return out


def breadcrumbs_reference(delta: np.ndarray, density: float, gamma: float) -> np.ndarray:
    n = delta.size
    kept, top = int(density * n), int(gamma * n)
    first = max(0, n - kept - top)
    order = np.argsort(np.abs(delta).ravel(), kind="stable")[first : first + kept]
    mask = np.zeros(n, bool)
    mask[order] = True
    return np.where(mask.reshape(delta.shape), delta, 0.0)


def consensus(deltas: list[np.ndarray], weight: list[float], normalize: bool) -> np.ndarray:
    votes = np.array([w * d for w, d in zip(weight, deltas, strict=True)])
    sign = np.where(votes.sum(axis=0) >= 0, 1, -1)
    agree = votes * sign > 0
    shares = (agree * np.array(weight).reshape(-1, *[1] * deltas[0].ndim)).sum(axis=0)
    total = np.where(agree, votes, 0).sum(axis=0)
    return total / np.where(shares == 0, 1, shares) if normalize else total


BASE = random_values((24, 40), 99)
PARENTS = [(BASE + random_values((24, 40), seed, 0.1)).astype(np.float32) for seed in (1, 2)]
DELTAS = [(parent - BASE).astype(np.float64) for parent in PARENTS]
WEIGHT = [0.6, 1.3]


def merged(method: str, **parameters: Any) -> np.ndarray:
    own = [{"weight": weight} for weight in WEIGHT]
    return merge_entries(method, PARENTS, base=BASE, own=own, lambda_=0.7, **parameters) - BASE


@pytest.mark.parametrize("how", ["l1", "inverse", "none"])
def test_dare_keeps_what_its_counter_says(how: str) -> None:
    thinned = random_reference(DELTAS, [0.3, 0.3], how, 0)
    expected = 0.7 * sum(w * d for w, d in zip(WEIGHT, thinned, strict=True))
    np.testing.assert_allclose(merged("dare_linear", density=0.3, rescale=how), expected, rtol=1e-5, atol=1e-6)
    expected = 0.7 * consensus(thinned, WEIGHT, False)
    np.testing.assert_allclose(merged("dare_ties", density=0.3, rescale=how), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", ["l1", "none"])
def test_della_keeps_by_the_ranks_of_a_row(how: str) -> None:
    thinned = della_reference(DELTAS, 0.4, 0.25, how)
    given: dict[str, Any] = {"density": 0.4, "epsilon": 0.25, "rescale": how}
    expected = 0.7 * sum(w * d for w, d in zip(WEIGHT, thinned, strict=True))
    np.testing.assert_allclose(merged("della_linear", **given), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(merged("della", **given), 0.7 * consensus(thinned, WEIGHT, True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(300,), (1, 1), (7, 1), (3, 4, 25), (2, 700)])
@pytest.mark.parametrize("levels", [2, 40, 10**9])
def test_della_ranks_rows_of_any_shape_and_equal_magnitudes_alike(shape: tuple[int, ...], levels: int) -> None:
    delta = np.round(random_values(shape, 5) * levels) / levels
    delta[..., 0] *= 1e6  # an outlier must not spoil the bins
    delta = delta.astype(np.float32)
    found = merge_entries("della_linear", [delta], base=np.zeros(shape), density=0.5, epsilon=0.3, rescale=False)
    rows = delta.reshape(-1, shape[-1]).astype(np.float64)
    rank = np.array([ranks(row) for row in rows])
    chance = 0.2 + 0.6 * (rank / (shape[-1] - 1) if shape[-1] > 1 else 0.5)
    kept = draws(0, 0, "w", delta.size).reshape(rows.shape) < chance * 2**32
    assert np.array_equal(found.reshape(rows.shape), np.where(kept, rows, 0))


@pytest.mark.parametrize(("density", "gamma"), [(0.5, 0.2), (0.9, 0.3), (0.3, 0.0), (0.001, 0.01), (1.0, 0.4)])
@pytest.mark.parametrize("rescale", [True, False])
def test_breadcrumbs_drop_both_ends(density: float, gamma: float, rescale: bool) -> None:
    thinned = DELTAS if density == 1 else [breadcrumbs_reference(delta, density, gamma) for delta in DELTAS]
    if rescale:
        thinned = [rescaled(d, t != 0, "l1", 1) if t.any() else t for d, t in zip(DELTAS, thinned, strict=True)]
    given: dict[str, Any] = {"density": density, "gamma": gamma, "rescale": rescale}
    expected = 0.7 * sum(w * d for w, d in zip(WEIGHT, thinned, strict=True))
    np.testing.assert_allclose(merged("breadcrumbs", **given), expected, rtol=1e-5, atol=1e-6)
    expected = 0.7 * consensus(thinned, WEIGHT, False)
    np.testing.assert_allclose(merged("breadcrumbs_ties", **given), expected, rtol=1e-5, atol=1e-6)


def test_breadcrumbs_worked_by_hand() -> None:
    # ten magnitudes: the two largest are dropped, half of ten stay, the three smallest are dropped
    delta = [1, -2, 3, -4, 5, -6, 7, -8, 9, -10]
    found = merge_entries("breadcrumbs", [delta], base=[0] * 10, density=0.5, gamma=0.2)
    assert found.tolist() == [0, 0, 0, -4, 5, -6, 7, -8, 0, 0]
    # gamma gives way where density needs the entries: all but the largest stay
    found = merge_entries("breadcrumbs", [delta], base=[0] * 10, density=0.9, gamma=0.5)
    assert found.tolist() == [1, -2, 3, -4, 5, -6, 7, -8, 9, 0]
    # entries that tie with the last kept one stay as well
    found = merge_entries("breadcrumbs", [[1, 1, 1, 2, 2, 3]], base=[0] * 6, density=0.34, gamma=0.2)
    assert found.tolist() == [0, 0, 0, 2, 2, 0]


def sce_reference(deltas: list[np.ndarray], share: float) -> np.ndarray:
    values = np.array(deltas, np.float32)
    variance = values.var(axis=0, dtype=np.float32)
    wanted = int(np.count_nonzero(variance) * share)
    if share < 1:
        threshold = np.sort(variance.ravel())[-wanted] if wanted else np.inf
        values = np.where(variance >= threshold, values, 0)
    energy = (values.astype(np.float64) ** 2).reshape(len(deltas), -1).mean(axis=1)
    weight = energy / energy.sum() if energy.sum() >= 1e-6 else np.full(len(deltas), 1 / len(deltas))
    sign = np.where(values.sum(axis=0) >= 0, 1, -1)
    erased = (values * sign > 0) * weight.reshape(-1, *[1] * deltas[0].ndim)
    return (values * erased).sum(axis=0) / np.maximum(erased.sum(axis=0), 1e-6)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.07, 0.0])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_sce_selects_weighs_and_erases(share: float, scale: float) -> None:
    deltas = [random_values((30, 20), seed, 0.1 * scale * seed) for seed in (1, 2, 3)]
    found = merge_entries("sce", deltas, base=np.zeros((30, 20)), select_topk=share)
    np.testing.assert_allclose(found, sce_reference(deltas, share), rtol=2e-4, atol=1e-9 * scale)


def test_sce_worked_by_hand() -> None:
    # variances 1, 0, 4, 0.25; the larger half of the three that are not 0, int(1.5): the third entry
    deltas = [[2, 3, 4, 1], [0, 3, 0, 0]]
    assert merge_entries("sce", deltas, base=[0] * 4, select_topk=0.5).tolist() == [0, 0, 4, 0]
    # all of them: energies 30 and 9, so (30 * 3 + 9 * 3) / 39 where both agree
    found = merge_entries("sce", deltas, base=[0] * 4)
    np.testing.assert_allclose(found, [2, 3, 4, 1], rtol=1e-6)


@pytest.mark.parametrize(("method", "own"), [("dare_linear", {}), ("della_linear", {"epsilon": 0.2})])
@pytest.mark.parametrize("density", [0.1, 0.5, 0.73])
def test_the_kept_share_is_the_density_whatever_the_index_parent_or_tensor(
    method: str, own: dict[str, Any], density: float
) -> None:
    # 40,000 draws: four standard deviations of a share are at most 0.01
    epsilon = min(own.get("epsilon", 0.0), density / 2, (1 - density) / 2)
    given = {"epsilon": epsilon} if own else {}
    zero = {"a": np.zeros((200, 200), np.float32), "b": np.zeros((200, 200), np.float32)}
    rows = [{name: random_values((200, 200), 2 * place + i) for i, name in enumerate("ab")} for place in range(2)]
    kept = []
    for weights in ((1, 0), (0, 1)):
        one = merge_tensors(
            method,
            rows,
            base=zero,
            density=density,
            rescale=False,
            own=[{"weight": w} for w in weights],
            **given,
        )
        kept += [one["a"] != 0, one["b"] != 0]
    for mask in kept:
        assert abs(mask.mean() - density) < 0.01
        for pair in (mask[:, :-1] & mask[:, 1:], mask[:-1] & mask[1:], mask[:, ::2], mask[::2]):
            chance = density**2 if pair.shape in {(200, 199), (199, 200)} else density
            assert abs(pair.mean() - chance) < 0.015
    for i, first in enumerate(kept):
        for second in kept[:i]:
            assert abs((first & second).mean() - density**2) < 0.012


def test_another_seed_drops_other_entries_and_the_same_seed_the_same() -> None:
    assert len({int(random_key(*row)) for row in [(0, 0, "w"), (1, 0, "w"), (0, 1, "w"), (0, 0, "v")]}) == 4
    assert int(random_key(0, 0, "w")) == int.from_bytes(hashlib.sha256(b"0\n0\nw").digest()[:8], "little")


def test_a_share_below_a_millionth_still_has_its_probability() -> None:
    # the limit is a whole multiple of 2^-32
    found = merge_entries("dare_linear", [np.ones(4000)], base=np.zeros(4000), density=1e-12, rescale=False)
    assert np.count_nonzero(found) <= 1


def test_bfloat16_parents_are_thinned_like_their_numbers() -> None:
    base, parent = bfloat16(BASE), bfloat16(PARENTS[0])
    found = merge_tensors("della_linear", [{"w": parent}], base={"w": base}, density=0.5, epsilon=0.2, dtype="float32")[
        "w"
    ]
    delta = (numbers(parent) - numbers(base)).astype(np.float64)
    (thinned,) = della_reference([delta], 0.5, 0.2, "l1")
    np.testing.assert_allclose(found - numbers(base), thinned, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("density", "epsilon", "allowed"), [(0.9, 0.15, 0.1), (0.1, 0.1, 0.1), (0.5, 0.6, 0.5)])
def test_probabilities_outside_0_and_1_are_refused_by_the_recipe(
    density: float, epsilon: float, allowed: float
) -> None:
    recipe = {"merge_method": "della", "base_model": "./none", "models": [{"model": "./nor_this"}]}
    with pytest.raises(RecipeError) as refused:
        build_plan({**recipe, "parameters": {"density": density, "epsilon": epsilon}})
    assert str(refused.value) == (
        f"density {density:g} with epsilon {epsilon:g} gives probabilities from {density - epsilon:.4g} to "
        f"{density + epsilon:.4g} · recipe: parameters.epsilon · they must be inside (0, 1): epsilon below {allowed:g}, or another density"
    )


@pytest.mark.parametrize("density", [-0.5, 20, 1.2])
def test_a_density_that_mergekit_takes_for_another_one_is_refused(density: float) -> None:
    recipe = {"merge_method": "dare_ties", "base_model": "./none", "models": [{"model": "./nor_this"}]}
    with pytest.raises(RecipeError, match=r"density must be in \[0, 1\], got"):
        build_plan({**recipe, "parameters": {"density": density}})


@pytest.mark.parametrize(
    "rest", [{}, {"rescale": "l1"}, {"rescale": "none"}, {"rescale": "inverse"}, {"trim_scope": "model"}]
)
@pytest.mark.parametrize("method", ["ties", "dare_ties", "dare_linear", "breadcrumbs", "breadcrumbs_ties"])
def test_a_parent_of_density_0_adds_nothing(method: str, rest: dict[str, Any]) -> None:
    """As the last entry of a gradient can be: mergekit takes it, too."""
    if ("trim_scope" in rest and method != "ties") or (rest.get("rescale") == "inverse" and "dare" not in method):
        pytest.skip("not a parameter of this method")
    both = [{"weight": 0.6, "density": 0.5}, {"weight": 1.3, "density": 0}]
    rest = {**rest, "normalize": False}
    found = merge_entries(method, PARENTS, base=BASE, own=both, **rest)
    alone = merge_entries(method, PARENTS[:1], base=BASE, own=both[:1], **rest)
    np.testing.assert_array_equal(found, alone)
    assert (found != BASE).any()
