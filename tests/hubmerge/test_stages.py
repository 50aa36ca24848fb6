"""`sparsify` and `combine` in a recipe: any stage before any rule on deltas, and presets of the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import merge_tensors, random_values, read_model, write_model

from hubmerge import RecipeError, build_plan, merge, verify_merge
from hubmerge.recipe import Recipe
from hubmerge.stages import method_of, stage_names


def written(place: Path, **keys: Any) -> dict[str, Any]:
    """A recipe over three models of one matrix, the first of them the base."""
    names = ("base", "a", "b")
    folders = [write_model(place / name, {"w": random_values((6, 8), i)}) for i, name in enumerate(names)]
    return {"base_model": str(folders[0]), "models": [{"model": str(folder)} for folder in folders[1:]], **keys}


def merged(place: Path, name: str, **keys: Any) -> np.ndarray:
    merge(written(place, **keys), place / name)
    return read_model(place / name)["w"]


@pytest.mark.parametrize(
    ("preset", "stages"),
    [
        ({"merge_method": "ties"}, {"combine": "sign_consensus", "sparsify": "magnitude"}),
        ({"merge_method": "breadcrumbs"}, {"combine": "weighted_sum", "sparsify": "breadcrumbs"}),
        ({"merge_method": "della_linear"}, {"merge_method": "task_arithmetic", "sparsify": "della"}),
        ({"merge_method": "dare_linear"}, {"combine": "task_arithmetic", "sparsify": "random"}),
        ({"merge_method": "task_arithmetic"}, {"combine": "weighted_sum"}),
    ],
)
def test_a_preset_is_its_stages(tmp_path: Path, preset: dict[str, Any], stages: dict[str, Any]) -> None:
    given = {"parameters": {"density": 0.5, "weight": 0.7}} if "sparsify" in stages else {}
    one, other = merged(tmp_path, "one", **preset, **given), merged(tmp_path, "other", **stages, **given)
    assert np.array_equal(one, other)


def test_a_stage_may_be_a_mapping_with_its_parameters(tmp_path: Path) -> None:
    name = merged(tmp_path, "name", combine="weighted_sum", sparsify="magnitude", parameters={"density": 0.25})
    mapping = merged(tmp_path, "mapping", combine="weighted_sum", sparsify={"method": "magnitude", "density": 0.25})
    assert np.array_equal(name, mapping)
    recipe = Recipe.parse(written(tmp_path, combine="weighted_sum", sparsify={"method": "magnitude", "density": 0.25}))
    assert (recipe.sparsify, recipe.parameters) == ("magnitude", {"density": 0.25})
    assert Recipe.parse(recipe.to_dict()) == recipe


def test_a_stage_goes_before_a_method_that_measures_deltas(tmp_path: Path) -> None:
    # model_stock of trimmed deltas is model_stock of models whose deltas were trimmed before
    given = written(tmp_path)
    base = random_values((6, 8), 0)
    trimmed = []
    for i in (1, 2):
        delta = random_values((6, 8), i) - base
        threshold = np.sort(np.abs(delta).ravel())[-24]
        trimmed.append({"w": base + np.where(np.abs(delta) >= threshold, delta, 0).astype(np.float32)})
    merge(
        {**given, "merge_method": "model_stock", "sparsify": {"method": "magnitude", "density": 0.5}}, tmp_path / "out"
    )
    expected = merge_tensors("model_stock", trimmed, base={"w": base})["w"]
    np.testing.assert_allclose(read_model(tmp_path / "out")["w"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stage", stage_names())
@pytest.mark.parametrize("rule", ["sce", "sign_consensus"])
def test_every_stage_runs_before_every_rule_and_density_1_changes_nothing(
    tmp_path: Path, stage: str, rule: str
) -> None:
    plain = merged(tmp_path, "plain", combine=rule)
    assert np.array_equal(merged(tmp_path, "whole", combine=rule, sparsify=stage), plain)
    assert not np.array_equal(merged(tmp_path, "half", combine=rule, sparsify={"method": stage, "density": 0.5}), plain)


def test_a_merge_by_stages_is_named_in_its_manifest_and_can_be_verified(tmp_path: Path) -> None:
    manifest = merge(
        written(tmp_path, merge_method="task_arithmetic", sparsify={"method": "della", "density": 0.5}),
        tmp_path / "out",
    )
    assert manifest.method == "task_arithmetic+della"
    assert verify_merge(tmp_path / "out", reload=False).level == "exact"


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        (
            {"merge_method": "ties", "sparsify": "random"},
            (
                "merge_method ties sets the stage sparsify already: magnitude · sparsify · "
                "remove it, or write combine: weighted_sum or sign_consensus instead of merge_method"
            ),
        ),
        (
            {"merge_method": "ties", "combine": "weighted_sum"},
            (
                "merge_method ties says already how deltas are combined · combine · "
                "keep one of the two; beside combine, sparsify says what goes before"
            ),
        ),
        (
            {"sparsify": "random"},
            "merge_method is missing · merge_method · sparsify needs it, or combine: weighted_sum or sign_consensus",
        ),
        (
            {"combine": "weighted_sum", "sparsify": "magnitud"},
            "unknown stage 'magnitud' · sparsify · did you mean magnitude?",
        ),
        (
            {"combine": "sign_concensus"},
            "unknown combine rule 'sign_concensus' · combine · did you mean sign_consensus?",
        ),
        (
            {"merge_method": "iso_c", "sparsify": "magnitude"},
            (
                "iso_c takes no stage: it does not merge deltas entry by entry · sparsify · "
                "remove it, or write combine: weighted_sum or sign_consensus instead of merge_method"
            ),
        ),
        (
            {"combine": "weighted_sum", "sparsify": {"density": 0.5}},
            "the stage has no method · sparsify · write method: magnitude, random, della, breadcrumbs",
        ),
        (
            {
                "combine": "weighted_sum",
                "sparsify": {"method": "random", "density": 0.5},
                "parameters": {"density": 0.2},
            },
            "density stands under sparsify and under parameters · sparsify.density · keep one of them",
        ),
    ],
)
def test_stages_that_do_not_go_together_are_refused(tmp_path: Path, keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(RecipeError) as refused:
        build_plan(written(tmp_path, **keys))
    told = [str(one).replace("recipe: ", "") for one in refused.value.faults]
    assert fault in told


def test_a_composed_method_explains_its_stage_and_its_rule() -> None:
    method = method_of("task_arithmetic", "random", None)
    assert method.name == "task_arithmetic+random"
    assert "with probability `density`" in method.explanation
    assert "sum(weight * delta)" in method.explanation
    assert list(method.parameters.model_fields) == ["weight", "lambda_", "normalize", "density", "rescale"]
