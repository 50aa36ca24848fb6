"""The method `awd`: worked by hand, against a descent over all weights in numpy, and with tasks that share nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_ops_disentangle import PAPER, descended
from zoo import Tensors, merge_entries, merge_tensors, random_values, recipe, write_model

from hubmerge import build_plan, merge, merge_state_dicts, verify_merge
from hubmerge.errors import RecipeError
from hubmerge.io.reader import InputFiles
from hubmerge.methods.weight_disentanglement import equivalent_weights
from hubmerge.prologue import pooled_states

SHAPES = {"a": (6, 5), "b": (7,), "one": (1,)}
ORDER = tuple(SHAPES)


def models(count: int = 3) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """A base, and parents that learned something in common beside their own."""
    base = {name: random_values(shape, i) for i, (name, shape) in enumerate(SHAPES.items())}
    common = {name: random_values(shape, 10 + i, 0.2) for i, (name, shape) in enumerate(SHAPES.items())}
    parents = [
        {
            name: base[name] + common[name] + random_values(SHAPES[name], 20 + 10 * k + i, 0.3)
            for i, name in enumerate(ORDER)
        }
        for k in range(count)
    ]
    return base, parents


def deltas(base: Tensors, parents: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Task vectors, float64 (parents, entries), tensor after tensor."""
    return np.array([np.concatenate([(p[n] - base[n]).ravel() for n in ORDER]) for p in parents], np.float64)


def flat(tensors: Tensors) -> np.ndarray:
    return np.concatenate([tensors[name].ravel() for name in ORDER])


def test_two_tasks_of_two_entries_are_worked_by_hand() -> None:
    # see test_ops_disentangle: delta = 0.01 / (2 sqrt 2) * (1, 1), subtracted from both, (1, 0) + (1, 1) - 2 delta
    merged = merge_entries("awd", [[1, 0], [1, 1]], base=[0, 0], iterations=1)
    delta = 0.01 / (2 * np.sqrt(2))
    np.testing.assert_allclose(merged, [2 - 2 * delta, 1 - 2 * delta], rtol=1e-6)


def test_it_is_a_descent_over_all_weights_of_the_model() -> None:
    base, parents = models()
    taus = deltas(base, parents)
    expected = flat(base) + 0.4 * (taus - descended(taus, **PAPER)).sum(axis=0)
    merged = merge_tensors("awd", parents, base=base, lambda_=0.4)
    np.testing.assert_allclose(flat(merged), expected, rtol=1e-6, atol=1e-6)


def test_weights_are_of_what_is_left_and_may_be_negative() -> None:
    base, parents = models()
    taus, weights = deltas(base, parents), np.array([0.5, -1.0, 2.0])
    left = taus - descended(taus, **PAPER)
    own = [{"weight": weight} for weight in weights.tolist()]
    merged = merge_tensors("awd", parents, base=base, own=own)
    np.testing.assert_allclose(flat(merged), flat(base) + weights @ left, rtol=1e-6, atol=1e-6)
    shared = merge_tensors("awd", parents, base=base, own=own, normalize=True)
    np.testing.assert_allclose(flat(shared), flat(base) + weights @ left / 1.5, rtol=1e-6, atol=1e-6)


def test_a_tensor_of_its_own_is_measured_in_its_own_norm() -> None:
    base, parents = models()
    merged = merge_tensors("awd", parents, base=base, scope="tensor")
    for name in ORDER:
        taus = np.array([(parent[name] - base[name]).ravel() for parent in parents], np.float64)
        unit = np.sqrt((taus**2).sum(axis=1).mean())
        redundant = descended(taus / unit, **PAPER) * unit if taus.shape[1] > 1 else 0
        expected = base[name].ravel() + (taus - redundant).sum(axis=0)
        np.testing.assert_allclose(merged[name].ravel(), expected, rtol=1e-6, atol=1e-6, err_msg=name)


def ties(left: np.ndarray, density: float, groups: list[slice]) -> np.ndarray:
    """mergekit's TIES of rows that were disentangled, trimmed in each group of entries."""
    for row in left:
        for group in groups:
            size = row[group].size
            kept = max(1, int(density * size))
            row[group][np.abs(row[group]) < np.sort(np.abs(row[group]))[size - kept]] = 0
    sign = np.where(left.sum(axis=0) >= 0, 1, -1)
    agreeing = (left * sign > 0).sum(axis=0)
    return np.where(left * sign > 0, left, 0).sum(axis=0) / np.maximum(agreeing, 1)


@pytest.mark.parametrize("trim_scope", ["tensor", "model"])
def test_ties_trims_and_elects_what_is_left(trim_scope: str) -> None:
    base, parents = models()
    taus = deltas(base, parents)
    groups = [slice(0, 30), slice(30, 37), slice(37, 38)] if trim_scope == "tensor" else [slice(0, 38)]
    expected = flat(base) + 0.7 * ties(taus - descended(taus, **PAPER), 0.4, groups)
    given: dict[str, Any] = {"inner": "ties", "density": 0.4, "lambda": 0.7, "trim_scope": trim_scope}
    np.testing.assert_allclose(
        flat(merge_state_dicts("awd", parents, base=base, parameters=given)), expected, rtol=1e-6, atol=1e-6
    )


def found_by(given: dict[str, Any], jobs: int = 1) -> dict[str, Any]:
    plan = build_plan(given)
    with InputFiles(plan.parents) as files:  # type: ignore[union-attr]
        return pooled_states(plan, files, jobs)  # type: ignore[arg-type]


@pytest.mark.parametrize("scope", ["model", "tensor"])
def test_with_task_arithmetic_it_is_task_arithmetic_with_other_weights_to_the_byte(tmp_path: Path, scope: str) -> None:
    base, parents = models()
    places = [write_model(tmp_path / f"p{i}", parent) for i, parent in enumerate(parents)]
    origin = write_model(tmp_path / "base", base)
    given = recipe("awd", places, base=origin, scope=scope, lambda_=0.4)
    states, again = found_by(given), found_by(given, jobs=3)
    assert states == again
    weights = {name: equivalent_weights(state, (1.0,) * 3) for name, state in states.items()}
    own: list[dict[str, Any]] = [
        {"weight": weights["model"][k]}
        if scope == "model"
        else {"weight": [{"filter": name, "value": weights[f"tensor {name}"][k]} for name in reversed(ORDER)]}
        for k in range(3)
    ]
    merge(given, tmp_path / "awd")
    merge(recipe("task_arithmetic", places, base=origin, lambda_=0.4, own=own), tmp_path / "plain")
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("awd", "plain"))
    assert one == other
    assert verify_merge(tmp_path / "awd", reload=False).level == "exact"


@pytest.mark.parametrize("inner", ["task_arithmetic", "ties"])
def test_alone_or_beside_one_that_learned_nothing_a_parent_is_merged_by_the_inner_method(inner: str) -> None:
    base, (parent, _) = models(2)
    plain = merge_state_dicts(inner, [parent], base=base)
    for parents in ([parent], [parent, {name: values.copy() for name, values in base.items()}]):
        merged = merge_state_dicts("awd", parents, base=base, parameters={"inner": inner})
        for name in ORDER:
            np.testing.assert_array_equal(merged[name], plain[name], err_msg=name)


def test_values_that_hold_for_the_whole_model_must_not_differ_between_tensors(tmp_path: Path) -> None:
    base, parents = models(2)
    places = [write_model(tmp_path / f"p{i}", parent) for i, parent in enumerate(parents)]
    origin = write_model(tmp_path / "base", base)
    given = recipe("awd", places, base=origin, alpha=[{"filter": "one", "value": 0.2}, {"value": 0.1}])
    with pytest.raises(RecipeError) as refused:
        build_plan(given)
    assert str(refused.value) == (
        "awd looks at all tensors of the model together, but their alpha differs: 0.1 for 'a', 0.2 for 'one' · "
        "parameters.alpha · give them one value, or scope: tensor"
    )
    assert build_plan({**given, "parameters": {**given["parameters"], "scope": "tensor"}})


def test_a_trim_of_the_whole_model_needs_one_redundant_vector(tmp_path: Path) -> None:
    base, parents = models(2)
    places = [write_model(tmp_path / f"p{i}", parent) for i, parent in enumerate(parents)]
    origin = write_model(tmp_path / "base", base)
    with pytest.raises(RecipeError) as refused:
        build_plan(recipe("awd", places, base=origin, inner="ties", trim_scope="model", scope="tensor"))
    assert str(refused.value) == (
        "trim_scope: model trims what is left of the whole model, which scope: tensor does not know before it is merged · "
        "recipe: parameters.trim_scope · choose trim_scope: tensor, or scope: model"
    )
