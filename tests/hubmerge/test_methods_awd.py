"""The method `awd`: worked by hand, against a descent over all weights in numpy, and with tasks that share nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_ops_disentangle import PAPER, descended
from zoo import Tensors, random_values, recipe, write_model

from hubmerge import MergedState, build_plan, merge, merge_state_dicts, read_manifest, verify_merge
from hubmerge.disentangled_record import DisentangledRecord
from hubmerge.disentangled_words import disentangled_lines, mean_cosine
from hubmerge.errors import RecipeError
from hubmerge.io.input_files import InputFiles
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
    # the third parent is the base, and takes no part
    parents = [{"w": np.array(row, np.float32)} for row in ([1, 0], [1, 1], [0, 0])]
    merged = merge_state_dicts("awd", parents, base=parents[2] | {}, parameters={"iterations": 1})
    delta = 0.01 / (2 * np.sqrt(2))
    np.testing.assert_allclose(merged["w"], [2 - 2 * delta, 1 - 2 * delta], rtol=1e-6)


def test_it_is_a_descent_over_all_weights_of_the_model() -> None:
    base, parents = models()
    taus = deltas(base, parents)
    expected = flat(base) + 0.4 * (taus - descended(taus, **PAPER)).sum(axis=0)
    merged = merge_state_dicts("awd", parents, base=base, parameters={"lambda": 0.4})
    np.testing.assert_allclose(flat(merged), expected, rtol=1e-6, atol=1e-6)


def test_weights_are_of_what_is_left_and_may_be_negative() -> None:
    base, parents = models()
    taus, weights = deltas(base, parents), np.array([0.5, -1.0, 2.0])
    left = taus - descended(taus, **PAPER)
    merged = merge_state_dicts("awd", parents, base=base, parameters={"weight": weights})
    np.testing.assert_allclose(flat(merged), flat(base) + weights @ left, rtol=1e-6, atol=1e-6)
    shared = merge_state_dicts("awd", parents, base=base, parameters={"weight": weights, "normalize": True})
    np.testing.assert_allclose(flat(shared), flat(base) + weights @ left / 1.5, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 0.1])
def test_by_tensor_only_those_too_short_for_the_step_are_measured_in_their_own_norm(scale: float) -> None:
    base, parents = models()
    parents = [{name: base[name] + scale * (own[name] - base[name]) for name in ORDER} for own in parents]
    merged = merge_state_dicts("awd", parents, base=base, parameters={"scope": "tensor"})
    for name in ORDER:
        taus = np.array([(parent[name] - base[name]).ravel() for parent in parents], np.float64)
        unit = np.sqrt((taus**2).sum(axis=1).mean())
        unit = unit if unit < np.sqrt(0.1) else 1  # under scale 1 both matrix and vector are longer, under 0.1 none is
        redundant = descended(taus / unit, **PAPER) * unit if taus.shape[1] > 1 else 0
        expected = base[name].ravel() + (taus - redundant).sum(axis=0)
        np.testing.assert_allclose(merged[name].ravel(), expected, rtol=1e-6, atol=1e-6, err_msg=name)


def ties(left: np.ndarray, density: float, groups: list[slice]) -> np.ndarray:
    """TIES of rows that were disentangled, trimmed in each group of entries."""
    for row in left:
        for group in groups:
            size = row[group].size
            kept = max(1, int(density * size) + (len(groups) == 1))  # the whole model keeps one more
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


def test_what_was_subtracted_is_recorded_and_told_with_the_weights_it_comes_to(tmp_path: Path) -> None:
    base, parents = models()
    places = [write_model(tmp_path / f"p{i}", parent) for i, parent in enumerate(parents)]
    given = recipe("awd", places, base=write_model(tmp_path / "base", base))
    manifest = merge(given, tmp_path / "out")
    assert read_manifest(tmp_path / "out") == manifest
    assert (manifest.format_version, manifest.reproducible, manifest.whole_only) == (6, "exact", "")
    record = manifest.disentangled
    assert record is not None
    (pool,) = record.pools
    taus = deltas(base, parents)
    redundant = descended(taus, **PAPER)
    assert mean_cosine(pool.after) < mean_cosine(pool.before)
    assert pool.norm == pytest.approx(np.linalg.norm(redundant))
    assert pool.weights == pytest.approx([1 - 3 * share for share in pool.shared])
    cosine = float(taus[0] @ taus[1] / np.linalg.norm(taus[0]) / np.linalg.norm(taus[1]))
    assert pool.before[0][1] == pytest.approx(cosine)
    told = ", ".join(f"{place} {weight:.4g}" for place, weight in zip(places, pool.weights, strict=True))
    lengths = (
        f"the redundant vector has length {pool.norm:.4g}, the deltas {min(pool.norms):.4g} to {max(pool.norms):.4g}"
    )
    assert disentangled_lines(record) == (
        f"mean |cosine| between deltas {mean_cosine(pool.before):.4f} before, {mean_cosine(pool.after):.4f} after; {lengths}",
        f"it is task arithmetic with these weights: {told}",
    )


def test_by_tensor_and_with_ties_less_can_be_said(tmp_path: Path) -> None:
    base, parents = models()
    places = [write_model(tmp_path / f"p{i}", parent) for i, parent in enumerate(parents)]
    given = recipe("awd", places, base=write_model(tmp_path / "base", base), scope="tensor", inner="ties")
    record = merge(given, tmp_path / "out").disentangled
    assert record is not None
    assert [pool.name for pool in record.pools] == ["tensor a", "tensor b", "tensor one"]
    assert {pool.weights for pool in record.pools} == {None}
    (line,) = disentangled_lines(record)
    assert line.startswith("mean |cosine| between deltas, mean of 3 tensors, ")


def test_a_step_too_long_for_short_deltas_is_told() -> None:
    pool = {"name": "model", "norms": (1e-4, 1e-4), "norm": 50.0, "shared": (1.0, 1.0), "weights": None}
    pool |= {"before": ((1.0, 0.7), (0.7, 1.0)), "after": ((1.0, 1.0), (1.0, 1.0))}
    record = DisentangledRecord.model_validate({"inner": "ties", "parents": ("a", "b"), "pools": (pool,)})
    assert disentangled_lines(record)[-1] == (
        "warning: the descent made the deltas more alike: its step is too long for deltas so short; lower step, or write unit: norm"
    )


def test_in_memory_the_weights_it_comes_to_are_told_by_tensor() -> None:
    base, parents = models()
    merged = merge_state_dicts("awd", parents, base=base, parameters={"weight": [1, 0.5, 2]})
    assert isinstance(merged, MergedState)
    plain = merge_state_dicts(
        "task_arithmetic", parents, base=base, parameters={"weight": list(merged.coefficients["a"])}
    )
    for name in ORDER:
        np.testing.assert_array_equal(merged[name], plain[name])
    assert merged.state["model"]["after"][0][0] == pytest.approx(1)


@pytest.mark.parametrize("inner", ["task_arithmetic", "ties"])
def test_beside_parents_that_learned_nothing_a_parent_is_merged_by_the_inner_method(inner: str) -> None:
    base, (parent, *_) = models()
    parents = [parent, *({name: values.copy() for name, values in base.items()} for _ in range(2))]
    plain = merge_state_dicts(inner, parents, base=base)
    merged = merge_state_dicts("awd", parents, base=base, parameters={"inner": inner})
    for name in ORDER:
        np.testing.assert_array_equal(merged[name], plain[name], err_msg=name)


def test_alone_a_parent_keeps_all_that_it_learned() -> None:
    base, (parent, *_) = models()
    merged = merge_state_dicts("awd", [parent], base=base)
    np.testing.assert_allclose(flat(merged), flat(parent), rtol=1e-6, atol=1e-6)


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


def test_slices_of_different_models_have_no_redundant_vector_in_common(tmp_path: Path) -> None:
    layers = {f"model.layers.{i}.w": random_values((2, 2), i) for i in range(2)}
    places = [write_model(tmp_path / f"p{i}", {name: v + i for name, v in layers.items()}) for i in range(4)]
    base, *others = map(str, places)
    given = {
        "merge_method": "awd",
        "base_model": base,
        "slices": [
            {
                "sources": [{"model": model, "layer_range": [i, i + 1]} for model in (base, *others[:2])]
                if i
                else [{"model": model, "layer_range": [i, i + 1]} for model in (base, *others[1:])]
            }
            for i in range(2)
        ],
    }
    with pytest.raises(RecipeError) as refused:
        build_plan(given)
    assert str(refused.value) == (
        "awd looks at all tensors of the model together, but 'model.layers.0.w' and 'model.layers.1.w' are merged of different models · "
        "parameters.scope · write scope: tensor, or give every slice the same models in one order"
    )


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
