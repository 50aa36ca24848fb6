"""Recipes for unlike models: `align`, `fit`, `calibration` and `labels`, as `merge_method: pleas` reads them."""

from __future__ import annotations

from typing import Any

import pytest
from bad.models import recipe_faults

from hubmerge import RecipeError
from hubmerge.assemblies import ASSEMBLIES
from hubmerge.assembly_stages import AssemblyStages, stages_of
from hubmerge.recipe import Recipe
from hubmerge.recipe_calibration import Calibration
from zoo_index.reference import ModelRef

TWO = [{"model": "./a"}, {"model": "./b"}]
A, B = ModelRef("./a"), ModelRef("./b")
DOCS = "see docs/recipe.md"
KEPT = "remove it: the merge has that of base_model, by default the first model's"


def pleas(**changes: Any) -> dict[str, Any]:
    return {"merge_method": "pleas", "models": TWO, "calibration": "data.jsonl", **changes}


def stages(**changes: Any) -> AssemblyStages:
    recipe = Recipe.parse(pleas(**changes))
    return stages_of(ASSEMBLIES["pleas"], recipe)


def test_what_a_recipe_leaves_out_is_the_assembly_s_own() -> None:
    assert stages() == AssemblyStages(
        align="activations", widths="base", budget=None, ratio=None, min_similarity=0.0, without=(),
        fit="least_squares", inputs="auto", ridge="auto", follow="confident", calibration=Calibration(data="./data.jsonl"),
        labels=None,
        base=A, weights=(1.0, 1.0),
    )  # fmt: skip


def test_everything_a_recipe_says_is_read() -> None:
    given = stages(
        align={"method": "weights", "widths": "union", "budget": 1.2, "min_similarity": 0.1, "without": ["ff0", "ff1"]},
        fit={"method": "least_squares", "inputs": "merged", "ridge": 0.01, "follow": "all"},
        calibration={"data": "org/name@v1", "column": "body", "split": "test", "subset": "en", "samples": 600, "max_length": 128,
                     "batch": 8, "seed": 3},
        labels="disjoint", base_model="./b", parameters={"weight": 0.5},
        models=[{"model": "./a", "parameters": {"weight": 2}}, {"model": "./b"}],
    )  # fmt: skip
    calibration = Calibration(
        data="org/name@v1", column="body", split="test", subset="en", samples=600, max_length=128, batch=8, seed=3
    )
    assert given == AssemblyStages(
        align="weights", widths="union", budget=1.2, ratio=None, min_similarity=0.1, without=("ff0", "ff1"),
        fit="least_squares", inputs="merged", ridge=0.01, follow="all", calibration=calibration, labels="disjoint",
        base=B, weights=(2.0, 0.5),
    )  # fmt: skip


@pytest.mark.parametrize(
    "word",
    [{"align": "identity"}, {"align": {"method": "identity"}}, {"fit": "none"}, {"fit": {"ridge": 2}}, {"align": {}}],
)
def test_a_recipe_is_the_same_after_it_was_written_out(word: dict[str, Any]) -> None:
    recipe = Recipe.parse(pleas(**word))
    assert Recipe.parse(recipe.to_dict()) == recipe


def test_a_word_is_a_stage_s_method() -> None:
    assert Recipe.parse(pleas(align="weights", fit="none")) == Recipe.parse(
        pleas(align={"method": "weights"}, fit={"method": "none"})
    )


def test_without_activations_and_without_a_fit_no_data_is_needed() -> None:
    given = stages(align="weights", fit="none", calibration=None)
    assert (given.calibration, given.needs_data) == (None, False)


@pytest.mark.parametrize(
    ("data", "read"),
    [
        ("train.parquet", "./train.parquet"), ("sets/train.CSV", "./sets/train.CSV"), ("~/data.txt", "~/data.txt"),
        ("./pictures", "./pictures"), ("org/name", "org/name"), (" imdb ", "imdb"), ("org/name@main", "org/name@main"),
    ],
)  # fmt: skip
def test_data_that_ends_as_a_data_file_does_is_a_file(data: str, read: str) -> None:
    recipe = Recipe.parse(pleas(calibration=data))
    assert recipe.calibration == Calibration(data=read)


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"align": "activation"}, [("align must be activations, weights, balanced, zip, optimal_transport or identity, got 'activation' · align · "
          f"{DOCS}")]),
        ({"align": 3}, ["align is a word or a mapping, got 3 · align · write align: activations"]),
        ({"align": {"methd": "weights"}}, ["unknown key 'methd' · align.methd · did you mean method?"]),
        ({"align": {"method": "actvations"}},
         [("method must be 'activations', 'weights', 'balanced', 'zip', 'optimal_transport' or 'identity', got 'actvations' · "
          f"align.method · {DOCS}")]),
        ({"align": {"widths": "union", "budget": 0.5}},
         [f"budget must be greater than or equal to 1, got 0.5 · align.budget · {DOCS}"]),
        ({"align": {"widths": "union", "budget": True}}, [f"budget must be a number, got True · align.budget · {DOCS}"]),
        ({"align": {"widths": "union", "ratio": 1.5}},
         [f"ratio must be less than or equal to 1, got 1.5 · align.ratio · {DOCS}"]),
        ({"align": {"without": "ff0"}}, [f"without must be a list, got 'ff0' · align.without · {DOCS}"]),
        ({"align": {"budget": 1.2}}, [("budget says how much wider the merge may be, and widths: base makes nothing wider · "
          "align.budget · add widths: union, or remove it")]),
        ({"align": {"widths": "base", "ratio": 0}}, [("ratio says how much wider the merge may be, and widths: base makes "
          "nothing wider · align.ratio · add widths: union, or remove it")]),
        ({"align": {"widths": "union", "budget": 1.2, "ratio": 0.2}},
         ["budget and ratio both say how many units stay separate · align.ratio · keep one of them"]),
        ({"fit": "yes"}, [f"fit must be least_squares, regmean or none, got 'yes' · fit · {DOCS}"]),
        ({"fit": {"ridge": 0}}, [f"ridge must be a number above 0, or auto, got 0 · fit.ridge · {DOCS}"]),
        ({"fit": {"ridge": "atuo"}}, [f"ridge must be a number above 0, or auto, got 'atuo' · fit.ridge · {DOCS}"]),
        ({"fit": {"method": "none", "inputs": "merged", "ridge": 1}}, [
            "inputs is of no use where nothing is fitted · fit.inputs · remove it",
            "ridge is of no use where nothing is fitted · fit.ridge · remove it",
        ]),
        ({"calibration": 5}, [f"data is a dataset on the Hub, a file or a folder, got 5 · calibration.data · {DOCS}"]),
        ({"calibration": "my data"},
         ["'my data' is neither org/name nor a folder · calibration.data · start a folder with ./, ../, ~ or /"]),
        ({"calibration": {"samples": 0, "smaples": 1}}, [
            "unknown key 'smaples' · calibration.smaples · did you mean samples?",
            "data is missing · calibration.data · write data: org/name, data: ./file.jsonl or data: ./folder",
            f"samples must be greater than or equal to 1, got 0 · calibration.samples · {DOCS}",
        ]),
        ({"calibration": {"data": "./x.npz", "samples": 10**30, "batch": 2**31}}, [
            f"samples must be less than 2147483648, got 1000000000000000000000000000000 · calibration.samples · {DOCS}",
            f"batch must be less than 2147483648, got 2147483648 · calibration.batch · {DOCS}",
        ]),
        ({"calibration": None}, [("pleas matches units by their activations and fits layers to what the parents compute, "
          "which needs data · calibration · add calibration: with a dataset, a file or a folder; align: weights with "
          "fit: none needs none")]),
        ({"calibration": None, "align": "weights"}, [("pleas fits layers to what the parents compute, which needs data · "
          "calibration · add calibration: with a dataset, a file or a folder; align: weights with fit: none needs none")]),
        ({"labels": "same"}, [f"labels must be 'shared', 'disjoint' or 'none', got 'same' · labels · {DOCS}"]),
        ({"models": TWO[:1]}, ["pleas takes at least 2 models; the recipe has 1 · models · given: ./a"]),
        ({"models": [*TWO, TWO[0]]}, ["./a is listed twice · models · list each model once, with its weight"]),
        ({"models": None}, ["no models are listed · models · write one `- model: org/name` line for each"]),
        ({"base_model": "./c"}, [("base_model ./c is not among the models · base_model · "
          "list it under models, or leave base_model out: then it is the first model")]),
        ({"parameters": {"weight": [0, 1]}}, [("weight is one number for a whole model under pleas, neither gradient nor "
          "filters · parameters.weight · write weight: 0.5")]),
        ({"parameters": {"weight": 0}}, ["all weights are 0 · parameters.weight · give one model at least 1"]),
        ({"parameters": {"wieght": 1}}, ["unknown parameter 'wieght' · parameters.wieght · did you mean weight?"]),
        ({"parameters": {"calibration": "x"}},
         ["calibration is no parameter · parameters.calibration · calibration stands at the top of the recipe"]),
        ({"models": [{"model": "./a", "parameters": {"weight": -1}}, TWO[1]]}, [("weight must be in [0, inf), got -1 · "
          "models[0].parameters.weight · weight: the model's share where units are averaged, divided by the sum of all")]),
        ({"merge_method": "plaes"}, ["unknown merge_method 'plaes' · merge_method · did you mean pleas?"]),
        ({"merge_method": "PLeaS"}, ["unknown merge_method 'PLeaS' · merge_method · did you mean pleas?"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_recipe_for_unlike_models_is_one_fault(changes: dict[str, Any], faults: list[str]) -> None:
    assert recipe_faults(pleas(**changes)) == faults


def test_keys_that_mean_nothing_to_an_assembly_are_refused_by_name() -> None:
    keys = {"sparsify": "random", "combine": "sce", "tokenizer_source": "union", "chat_template": "auto"}
    assert recipe_faults(pleas(**keys, tokenizer={"source": "base"})) == [
        "pleas takes no sparsify · sparsify · remove it: there are no deltas from a common ancestor to thin",
        "pleas takes no combine · combine · remove it: merge_method says already how models become one",
        f"pleas takes no tokenizer_source · tokenizer_source · {KEPT}",
        f"pleas takes no tokenizer · tokenizer · {KEPT}",
        f"pleas takes no chat_template · chat_template · {KEPT}",
    ]
    layers = [{"sources": [{"model": "./a", "layer_range": [0, 2]}]}]
    assert recipe_faults(pleas(models=None, slices=layers)) == [
        "pleas takes no slices · slices · list whole models under models: their layers are matched, not stacked"
    ]
    assert recipe_faults(pleas(models=None, modules={"encoder": {"models": TWO}})) == [
        "pleas takes no modules · modules · list whole models under models"
    ]


def test_methods_that_merge_tensor_by_tensor_do_not_take_the_keys_of_assemblies() -> None:
    """But for `align`, and for `calibration` beside it."""
    unlike = "is for methods that put unlike models together, which linear does not"
    names = "pleas or transport"
    raw = pleas(merge_method="linear", fit="none", labels="shared")
    assert recipe_faults(raw) == [
        f"fit {unlike} · fit · remove it, or write merge_method: {names}",
        f"calibration {unlike} · calibration · remove it, add align: activations, or write merge_method: {names} or mal",
        f"labels {unlike} · labels · remove it, or write merge_method: {names}",
    ]
    assert recipe_faults({**raw, "align": "weights"}) == [
        f"fit {unlike} · fit · remove it, or write merge_method: {names}",
        f"labels {unlike} · labels · remove it, or write merge_method: {names}",
    ]


def test_the_models_of_an_assembly_are_all_its_parents_in_their_order() -> None:
    recipe = Recipe.parse(pleas(base_model="./b"))
    assert recipe.assembly is ASSEMBLIES["pleas"]
    assert recipe.references == recipe.parents == (A, B)
    assert Recipe.parse({"merge_method": "linear", "models": TWO, "parameters": {"weight": 1}}).assembly is None


def test_a_parameter_of_other_methods_is_ignored_with_a_warning() -> None:
    recipe = Recipe.parse(pleas(parameters={"density": 0.5}))
    assert recipe.warnings == ("parameters.density is ignored: pleas does not use it",)


def test_an_assembly_is_no_method_on_tensors() -> None:
    with pytest.raises(RecipeError) as refused:
        _ = Recipe.parse(pleas()).method
    assert str(refused.value) == (
        "pleas puts unlike models together, and has no rule that merges tensor by tensor · merge_method · "
        "`hubmerge methods` lists the methods that have one"
    )
