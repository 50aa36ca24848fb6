"""The published forms of TIES, each against the method written out with numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from zoo import bfloat16, merge_entries, merge_tensors, numbers, random_values, recipe, write_model

from hubmerge import RecipeError, VerifyError, build_plan, merge, verify_merge
from hubmerge.io.input_files import InputFiles
from hubmerge.prologue import pooled_states
from hubmerge.published import check_weights

NAMES = ("model.layers.0.w", "model.layers.0.b", "model.layers.1.w", "embed")
SHAPES = {"model.layers.0.w": (8, 6), "model.layers.0.b": (6,), "model.layers.1.w": (5, 7), "embed": (9, 4)}
POOLS = {
    "tensor": [[name] for name in NAMES],
    "layer": [["model.layers.0.w", "model.layers.0.b"], ["model.layers.1.w"], ["embed"]],
    "model": [list(NAMES)],
}
DENSITY, WEIGHT = (0.3, 0.55), (0.4, 1.7)


def a_model(seed: int) -> dict[str, np.ndarray]:
    return {name: bfloat16(random_values(SHAPES[name], 10 * seed + i, 1 + i)) for i, name in enumerate(NAMES)}


def trimmed(deltas: dict[str, np.ndarray], density: float, scope: str, rescale: bool) -> dict[str, np.ndarray]:
    """One parent's deltas with the smaller ones set to 0, pool by pool."""
    kept = {}
    for pool in POOLS[scope]:
        magnitudes = np.concatenate([np.abs(deltas[name]).ravel() for name in pool])
        threshold = np.sort(magnitudes)[-max(1, int(density * magnitudes.size) + (scope == "model"))]
        for name in pool:
            kept[name] = np.where(np.abs(deltas[name]) >= threshold, deltas[name], 0.0)
            if rescale and np.abs(kept[name]).sum() > 0:
                kept[name] *= np.abs(deltas[name]).sum() / np.abs(kept[name]).sum()
    return kept


def elected(deltas: list[np.ndarray], elect: str, divide: str, undecided: str, normalize: bool) -> np.ndarray:
    """Sign election and average, with whole arrays."""
    values, weight = np.array(deltas), np.array(WEIGHT).reshape(-1, *[1] * deltas[0].ndim)
    votes = values * (weight if elect == "weighted" else 1)
    sign = np.sign(votes.sum(axis=0))
    sign[sign == 0] = {"plus": 1, "minus": -1, "none": 0}[undecided]
    agree = votes * sign > 0
    total = np.where(agree, values * weight, 0).sum(axis=0)
    shares = np.where(agree, weight if divide == "weights" else 1.0, 0).sum(axis=0)
    return total / np.where(shares == 0, 1, shares) if normalize else total


@pytest.mark.parametrize("scope", ["tensor", "layer", "model"])
@pytest.mark.parametrize(
    ("elect", "divide"), [("weighted", "weights"), ("plain", "weights"), ("plain", "count"), ("weighted", "count")]
)
@pytest.mark.parametrize("rescale", [True, False])
def test_every_form_agrees_with_whole_arrays_of_float64(scope: str, elect: str, divide: str, rescale: bool) -> None:
    base, parents = a_model(0), [a_model(1), a_model(2)]
    given = {"trim_scope": scope, "elect": elect, "divide": divide, "rescale": rescale, "lambda_": 0.7}
    own = [{"weight": w, "density": d} for w, d in zip(WEIGHT, DENSITY, strict=True)]
    merged = merge_tensors("ties", parents, base=base, own=own, dtype="float32", **given)
    deltas = [{n: (numbers(p[n]) - numbers(base[n])).astype(np.float64) for n in NAMES} for p in parents]
    kept = [trimmed(one, d, scope, rescale) for one, d in zip(deltas, DENSITY, strict=True)]
    for name in NAMES:
        expected = numbers(base[name]) + 0.7 * elected([one[name] for one in kept], elect, divide, "plus", True)
        np.testing.assert_allclose(merged[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("undecided", ["plus", "minus", "none"])
@pytest.mark.parametrize("normalize", [True, False])
def test_an_undecided_entry_takes_the_sign_that_was_asked_for(undecided: str, normalize: bool) -> None:
    # whole numbers below 4 and equal weights: many sums are exactly 0
    deltas = [np.round(random_values((40, 30), seed, 1.5)) for seed in range(2)]
    merged = merge_entries("ties", deltas, base=np.zeros((40, 30)), undecided=undecided, normalize=normalize)
    opposite = deltas[0] == -deltas[1]
    values, sign = np.array(deltas), np.sign(sum(deltas))
    sign[sign == 0] = {"plus": 1, "minus": -1, "none": 0}[undecided]
    agree = values * sign > 0
    total, count = np.where(agree, values, 0).sum(axis=0), agree.sum(axis=0)
    assert (opposite & (deltas[0] != 0)).sum() > 50
    np.testing.assert_allclose(merged, total / np.maximum(count, 1) if normalize else total, rtol=1e-6)


def test_the_form_of_the_authors_worked_by_hand(tmp_path: Path) -> None:
    # deltas of one model: 8 and 1 in the first tensor, 5 and 6 in the second; the authors' code keeps one more than half of all
    # four: what is not below the (4 - 2)-th smallest, 5
    base = {"a": np.zeros(2, "float32"), "b": np.zeros(2, "float32")}
    parent = {"a": np.array([8, 1], "float32"), "b": np.array([-5, -6], "float32")}
    own = {"density": 0.5, "elect": "plain", "divide": "count"}
    merged = merge_tensors("ties", [parent], base=base, trim_scope="model", **own)
    assert (merged["a"].tolist(), merged["b"].tolist()) == ([8, 0], [-5, -6])
    merged = merge_tensors("ties", [parent], base=base, trim_scope="tensor", **own)
    assert (merged["a"].tolist(), merged["b"].tolist()) == ([8, 0], [0, -6])
    small = {"a": np.array([8, 7], "float32"), "b": np.array([-5, -6], "float32")}
    merged = merge_tensors("ties", [small], base=base, trim_scope="model", **own)
    assert (merged["a"].tolist(), merged["b"].tolist()) == ([8, 7], [0, -6])


def test_plain_votes_are_counted_without_weights_and_an_average_by_count_keeps_them() -> None:
    # 3 against -2: plain votes elect plus, 3 * 0.5 against -2 * 4 minus
    own = [{"weight": 0.5}, {"weight": 4}]
    assert merge_entries("ties", [[3], [-2]], base=[0], own=own, elect="plain").tolist() == [3]
    assert merge_entries("ties", [[3], [-2]], base=[0], own=own, elect="plain", divide="count").tolist() == [1.5]
    assert merge_entries("ties", [[3], [-2]], base=[0], own=own).tolist() == [-2]


def pooled_recipe(place: Path, **parameters: object) -> dict[str, object]:
    base, *parents = (write_model(place / f"m{i}", a_model(i)) for i in range(3))
    return recipe("ties", parents, base=base, density=0.4, trim_scope="model", **parameters)


def test_a_model_scope_gives_the_same_bytes_on_any_number_of_threads_and_derived_again(tmp_path: Path) -> None:
    plan = build_plan(pooled_recipe(tmp_path))
    with InputFiles(plan.parents) as files:
        one, three = (pooled_states(plan, files, jobs) for jobs in (1, 3))
    assert one == three
    assert list(one) == ["model"]
    merge(pooled_recipe(tmp_path), tmp_path / "one", jobs=1)
    merge(pooled_recipe(tmp_path), tmp_path / "three", jobs=3)
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "three/model.safetensors").read_bytes()
    assert verify_merge(tmp_path / "three", reload=False).level == "exact"


@pytest.mark.parametrize("method", ["ties", "dare_ties"])
def test_weights_made_again_for_a_published_recipe_are_those_of_the_merge(tmp_path: Path, method: str) -> None:
    given = {**pooled_recipe(tmp_path), "merge_method": method, "seed": 7}
    given["parameters"] = {"density": 0.4} | ({"trim_scope": "layer"} if method == "ties" else {})
    manifest = merge(given, tmp_path / "out")
    check_weights(build_plan(given), manifest, "here")
    with pytest.raises(VerifyError):
        check_weights(build_plan({**given, "parameters": {"density": 0.3}}), manifest, "here")


def test_another_seed_drops_other_entries(tmp_path: Path) -> None:
    given = {**pooled_recipe(tmp_path), "merge_method": "dare_ties", "parameters": {"density": 0.4}}
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        merge({**given, "seed": seed}, tmp_path / name)
    one, again, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "again", "other"))
    assert one == again
    assert one != other


def test_tensors_that_are_trimmed_together_need_one_density(tmp_path: Path) -> None:
    given = pooled_recipe(tmp_path)
    given["parameters"]["density"] = [{"filter": "embed", "value": 0.5}, {"value": 0.2}]
    with pytest.raises(RecipeError) as refused:
        build_plan(given)
    assert str(refused.value) == (
        "trim_scope: model trims all tensors of the model together, but their densities differ: [0.2, 0.2] for "
        "'model.layers.0.w', [0.5, 0.5] for 'embed' · parameters.density · give them one density, or trim_scope: tensor"
    )


def test_layers_may_have_their_own_density(tmp_path: Path) -> None:
    base, parent = a_model(0), a_model(1)
    merged = merge_tensors("ties", [parent], base=base, dtype="float32", trim_scope="layer", density=[0.9, 0.2])
    deltas = {n: (numbers(parent[n]) - numbers(base[n])).astype(np.float64) for n in NAMES}
    for density, names in ((0.9, ("model.layers.0.w", "model.layers.0.b", "embed")), (0.2, ("model.layers.1.w",))):
        kept = trimmed(deltas, density, "layer", False)
        for name in names:
            np.testing.assert_allclose(
                merged[name], numbers(base[name]) + kept[name], rtol=1e-5, atol=1e-6, err_msg=name
            )


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("trim_scope", "global", "'tensor', 'layer' or 'model'"),
    ("elect", "sum", "'weighted' or 'plain'"),
    ("rescale", "inverse", "'l1' or 'none'"),
])  # fmt: skip
def test_another_word_is_refused_with_those_that_there_are(
    tmp_path: Path, name: str, value: str, expected: str
) -> None:
    with pytest.raises(RecipeError, match=f"{name} must be {expected}, got '{value}'"):
        build_plan(pooled_recipe(tmp_path) | {"parameters": {name: value}})
