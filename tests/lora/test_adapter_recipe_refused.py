"""Recipes for adapters that are refused before any factor is read, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapter_folders import write_base, write_lora
from lora_models import factors

import hubmerge
from hubmerge.errors import HubmergeError

SUM = {
    "merge_method": "task_arithmetic",
    "models": [{"model": "./a", "parameters": {"weight": 0.5}}, {"model": "./b"}],
    "output": {"kind": "adapter"},
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Adapters a and b of ranks 2 and 3, and a base."""
    monkeypatch.chdir(tmp_path)
    write_lora(tmp_path / "a", factors(0, 2))
    write_lora(tmp_path / "b", factors(1, 3))
    shapes = {"up": (12, 8), "down": (8, 12), "q": (8, 8)}
    write_base(tmp_path / "base", {f"{name}.weight": np.ones(shape) for name, shape in shapes.items()})
    return tmp_path


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (
            {"output": {"kind": "adapter", "rank": 6}},
            "rank 6 is more than a merge of these adapters has: 5 · output.rank · leave rank out to keep all of it",
        ),
        (
            {"models": [{"model": "./a"}, {"model": "./base"}]},
            (
                "no adapter_config.json, so this is not an adapter · "
                "./base · "
                "basis: and output: {kind: adapter} merge PEFT adapters; leave both out to merge models"
            ),
        ),
        (
            {"merge_method": "magnitude_prune", "parameters": {"density": 0.5}},
            (
                "magnitude_prune adds up factors, and those of 'down' have the ranks 2, 3 · "
                "models · "
                "svd, cat and basis: knots take any ranks"
            ),
        ),
        (
            {"models": [{"model": "./a"}, {"model": "./a/../a"}]},
            "./a and ./a/../a are one and the same adapter · models · name it once, and in one way",
        ),
        (
            {"base_model": "org/other"},
            (
                "base_model is org/other, and the adapters were trained on org/base · "
                "base_model · "
                "leave base_model out, or name what they were trained on"
            ),
        ),
        (
            {"basis": "core", "output": {}, "base_model": "./a"},
            (
                "base_model ./a is among the adapters · "
                "recipe: base_model · "
                "name the model that they were trained on, or leave it out"
            ),
        ),
        (
            {"merge_method": "slerp", "basis": "core"},
            (
                "slerp starts from one of its models, and adapters are changes of one base · "
                "recipe: merge_method · "
                "take a method on deltas: task_arithmetic, ties, dare_ties"
            ),
        ),
        (
            {"merge_method": "sens_merging", "parameters": {"inner": "dare_ties"}},
            (
                "sens_merging merges adapters in a basis that they share, and none is named · "
                "recipe: basis · "
                "write basis: knots or basis: core"
            ),
        ),
        (
            {"merge_method": "sens_merging", "calibration": "./a.txt"},
            "a recipe for adapters takes no calibration · recipe: calibration · remove it; sens_merging and adamerging take it under each of models",
        ),
        (
            {"merge_method": "sens_merging", "parameters": {"temperature": [{"filter": "q", "value": 1}]}},
            (
                "temperature is one value for the whole merge under sens_merging, neither gradient nor filters · "
                "recipe: parameters.temperature · "
                "write one value"
            ),
        ),
        (
            {"models": [{"model": "./a", "calibration": "./a.txt"}]},
            (
                "calibration beside a model is for methods that run each model on its own data, "
                "which a merge of adapters by task_arithmetic does not · "
                "recipe: models[0].calibration · "
                "remove it, or write merge_method: sens_merging or adamerging"
            ),
        ),
        (
            {"merge_method": "della"},
            (
                "della merges adapters in a basis that they share, and none is named · "
                "recipe: basis · "
                "write basis: knots or basis: core"
            ),
        ),
        ({"basis": "pca"}, "basis must be 'knots', 'core' or 'none', got 'pca' · recipe: basis · see docs/recipe.md"),
        (
            {"merge_method": "pleas"},
            (
                "pleas puts whole models together, and merges no adapters · "
                "recipe: merge_method · "
                "take a method on deltas: task_arithmetic, ties, dare_ties"
            ),
        ),
        ({"merge_method": "tys"}, "there is no method 'tys' · recipe: merge_method · the nearest name is ties"),
        (
            {"output": {}, "merge_method": "cat"},
            (
                "cat combines LoRA adapters · "
                "recipe: merge_method · "
                "add output: {kind: adapter}, or basis: knots, core or none for a model"
            ),
        ),
        (
            {"output": {"rank": 2}, "basis": "core"},
            (
                "rank is of an adapter, and the result is a model · "
                "recipe: output.rank · "
                "remove it, or write kind: adapter"
            ),
        ),
        (
            {"dtype": "float16"},
            (
                "a recipe for adapters takes no dtype · "
                "recipe: dtype · "
                "remove it: an adapter's factors are written in float32"
            ),
        ),
        (
            {"models": [{"model": "./base+./a"}]},
            (
                "./base+./a is a base with an adapter, and the recipe merges adapters · "
                "recipe: models[0].model · "
                "write model: ./a; the base is base_model"
            ),
        ),
        (
            {"parameters": {"lambda": [0, 1]}},
            (
                "adapters have no depth for a gradient to run over · "
                "recipe: parameters · "
                'choose by module: [{filter: "layers.0.", value: 0.5}, {value: 1}]'
            ),
        ),
        (
            {"merge_method": "ties"},
            "ties needs density, the share of entries it keeps · recipe: parameters.density · write parameters: {density: 0.2}",
        ),
    ],
)
def test_what_cannot_be_merged_is_refused_before_it_is_read(recipe: dict[str, Any], text: str) -> None:
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan({**SUM, **recipe})
    assert str(refused.value) == text


def test_what_is_wrong_with_adapters_and_their_base(here: Path) -> None:
    write_lora(here / "other", factors(2, 2), base_model_name_or_path="org/other")
    with pytest.raises(hubmerge.PlanError) as refused:
        hubmerge.build_plan({**SUM, "models": [{"model": "./a"}, {"model": "./other"}]})
    assert str(refused.value).startswith(
        "the adapters were trained on different models (./a on org/base, ./other on org/other) · models · "
    )
    write_lora(here / "odd", {"gate": (np.ones((1, 8)), np.ones((8, 1)))})
    with pytest.raises(hubmerge.PlanError) as refused:
        hubmerge.build_plan(
            {**SUM, "basis": "core", "models": [{"model": "./odd"}], "base_model": "./base", "output": {}}
        )
    assert str(refused.value) == (
        "the adapter changes 'gate.weight', for which the base has no tensor · ./base · is this the base it was trained on?"
    )
    write_lora(here / "silent", factors(2, 2), base_model_name_or_path=None)
    with pytest.raises(hubmerge.PlanError, match="neither the recipe nor an adapter says of which base"):
        hubmerge.build_plan({**SUM, "basis": "core", "models": [{"model": "./silent"}], "output": {}})


def test_a_base_that_may_be_the_same_under_another_name(here: Path) -> None:
    """A folder in the recipe for a model of the Hub is written as the adapters have it, a name of the Hub for a folder as the recipe has it."""
    local = hubmerge.build_plan({**SUM, "base_model": "./base"})
    assert local.warnings == (
        "the adapters say that they were trained on org/base; base_model ./base is taken for the same model",
    )
    assert local.base_model == "org/base"
    write_lora(here / "here", factors(2, 2), base_model_name_or_path=str(here / "base"))
    named = hubmerge.build_plan({**SUM, "models": [{"model": "./here"}], "base_model": "org/base@v1"})
    assert (named.base_model, named.base_revision) == ("org/base", "v1")
    assert not hubmerge.build_plan({**SUM, "models": [{"model": "./here"}], "base_model": "./base"}).warnings
    write_lora(here / "at", factors(2, 2), revision="v2")
    with pytest.raises(
        hubmerge.PlanError, match="base_model is at revision v1, and the adapters were trained on org/base at v2"
    ):
        hubmerge.build_plan({**SUM, "models": [{"model": "./at"}], "base_model": "org/base@v1"})
