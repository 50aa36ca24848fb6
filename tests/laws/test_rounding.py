"""How far from the truth a merge may be: a few float32 roundings, and one more where it is stored in half precision."""

from __future__ import annotations

import numpy as np
import pytest
from registry import METHODS, OF_EACH_KIND, TELLING, a_model, parents_of, run
from zoo import merge_entries, numbers, random_values, stored_as

ROUNDING = 2.0**-24
"""The largest relative error of one float32 operation."""
WEIGHTS = (0.3, 1.7, 0.9, 0.05)


def values_of(seed: int, count: int) -> list[np.ndarray]:
    """Tensors whose entries differ by ten orders of magnitude."""
    spread = 10.0 ** np.random.default_rng(seed).uniform(-5, 5, 4000)
    return [(random_values((4000,), 10 * seed + i) * spread).astype(np.float32) for i in range(count)]


def weighted(count: int) -> list[dict[str, float]]:
    return [{"weight": weight} for weight in WEIGHTS[:count]]


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_linear_is_within_two_roundings_per_parent_and_three_more(count: int, seed: int) -> None:
    parents, weight = values_of(seed, count), WEIGHTS[:count]
    exact = [w * parent.astype(np.float64) for w, parent in zip(weight, parents, strict=True)]
    truth, size = sum(exact) / sum(weight), sum(np.abs(term) for term in exact) / sum(weight)
    error = np.abs(merge_entries("linear", parents, own=weighted(count)) - truth)
    assert (error <= (2 * count + 3) * ROUNDING * size).all()


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_task_arithmetic_is_within_two_roundings_per_parent_and_four_more(count: int, seed: int) -> None:
    base, *parents = values_of(seed, count + 1)
    deltas = [w * (p.astype(np.float64) - base) for w, p in zip(WEIGHTS, parents, strict=False)]
    truth = base + 0.7 * sum(deltas)
    size = np.abs(base) + 0.7 * sum(np.abs(delta) for delta in deltas)
    merged = merge_entries("task_arithmetic", parents, base=base, own=weighted(count), lambda_=0.7)
    assert (np.abs(merged - truth) <= (2 * count + 4) * ROUNDING * size).all()


@pytest.mark.parametrize("t", [0.1, 0.5, 1.3])
def test_slerp_is_within_four_roundings(t: float) -> None:
    start, end = values_of(1, 2)
    a, b = start.astype(np.float64), end.astype(np.float64)
    angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    terms = np.sin((1 - t) * angle) / np.sin(angle) * a, np.sin(t * angle) / np.sin(angle) * b
    error = np.abs(merge_entries("slerp", [end], base=start, t=t) - sum(terms))
    assert (error <= 4 * ROUNDING * (np.abs(terms[0]) + np.abs(terms[1]))).all()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ties_is_within_ten_roundings_where_the_election_is_clear(seed: int) -> None:
    base, *parents = values_of(seed, 4)
    weight = np.array(WEIGHTS[:3])[:, None]
    terms = weight * np.array([(parent - base).astype(np.float64) for parent in parents])
    clear = np.abs(terms.sum(axis=0)) > 1e-5 * np.abs(terms).sum(axis=0)
    agree = terms * np.sign(terms.sum(axis=0)) > 0
    truth = base + np.where(agree, terms, 0).sum(axis=0) / np.where(agree, weight, 0).sum(axis=0)
    size = np.abs(base) + np.abs(terms).max(axis=0) / min(WEIGHTS[:3])
    error = np.abs(merge_entries("ties", parents, base=base, own=weighted(3)) - truth)
    assert clear.mean() > 0.99
    assert (error <= 10 * ROUNDING * size)[clear].all()


# Every method from and to bfloat16, held against the merge of the same numbers in float32; where a rule's kind differs also
# from bfloat16 to float32, and from float32 to float16.
CASES = [(method, "bfloat16", "bfloat16", "float32") for method in METHODS]
CASES += [(method, "bfloat16", "bfloat16", "bfloat16") for method in OF_EACH_KIND]
CASES += [(method, "float32", "float16", "float32") for method in OF_EACH_KIND]


@pytest.mark.parametrize(("method", "stored", "written", "wide_stored"), CASES)
def test_half_precision_output_is_the_float32_output_rounded_once(
    method: str, stored: str, written: str, wide_stored: str
) -> None:
    models = [a_model(i, stored) for i in range(parents_of(method) + 1)]
    same = models if wide_stored == stored else [{name: numbers(values) for name, values in m.items()} for m in models]
    half = run(method, models[0], models[1:], dtype=written, **TELLING.get(method, {}))
    wide = run(method, same[0], same[1:], dtype="float32", **TELLING.get(method, {}))
    for name, values in wide.items():
        if values.dtype == np.float32:
            assert np.array_equal(half[name], stored_as(values, written)), name
