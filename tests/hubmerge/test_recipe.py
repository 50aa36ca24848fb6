"""Recipes that are wrong: every mistake is one fault, and all of them are told at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bad.models import recipe_faults

from hubmerge.dialect import read_yaml
from hubmerge.errors import RecipeError
from hubmerge.recipe import Recipe, load_recipe

TWO = [{"model": "./a"}, {"model": "./b"}]
DOCS = "see docs/recipe.md"


def linear(**changes: Any) -> dict[str, Any]:
    return {"merge_method": "linear", "models": TWO, **changes}


def ties(*models: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"merge_method": "ties", "base_model": "./c", "models": list(models) or TWO, **changes}


def test_all_mistakes_are_told_at_once_each_with_its_place() -> None:
    text = """
        merge_method: ties
        base_modle: ./base
        models:
        - model: ./a
          parameters: {wieght: 0.5, density: 20}
        - modell: ./b
          weight: 0.3
        - ./c
        dtype: int8
        output: {shard_size: big, knd: dense}
        paramters: {lambda: much}
    """
    assert recipe_faults(read_yaml(text, "")) == [
        "unknown key 'modell' · models[1].modell · did you mean model?",
        "unknown key 'weight' · models[1].weight · weight goes under parameters:",
        "unknown key 'knd' · output.knd · did you mean kind?",
        "unknown key 'base_modle' · base_modle · did you mean base_model?",
        "unknown key 'paramters' · paramters · did you mean parameters?",
        "a model is a mapping, got './c' · models[2] · write `- model: ./c`",
        f"expected float32, float16, bfloat16 or float64, got 'int8' · dtype · {DOCS}",
        f"expected a size like 500MB or 5GB, got 'big' · output.shard_size · {DOCS}",
        "unknown parameter 'wieght' · models[0].parameters.wieght · did you mean weight?",
        "density must be in [0, 1], got 20 · models[0].parameters.density · 20 % is 0.2",
        "lambda must be a number from -3.4e38 to 3.4e38, got 'much' · parameters.lambda · lambda: scale of the merged delta",
    ]


@pytest.mark.parametrize(
    ("raw", "faults"),
    [
        (None, [f"the recipe is empty · recipe · {DOCS}"]),
        (["./a"], [f"a recipe is a mapping of keys to values, got ['./a'] · recipe · {DOCS}"]),
        ("hello", [f"a recipe is a mapping of keys to values, got 'hello' · recipe · {DOCS}"]),
        ({"models": TWO}, ["merge_method is missing · merge_method · `hubmerge methods` lists them"]),
        (linear(merge_method=None), ["merge_method is missing · merge_method · `hubmerge methods` lists them"]),
        (linear(merge_method=["linear"]), [f"merge_method must be text, got ['linear'] · merge_method · {DOCS}"]),
        ({"merge_metod": "linear", "modles": TWO}, [
            "unknown key 'merge_metod' · merge_metod · did you mean merge_method?",
            "unknown key 'modles' · modles · did you mean models?",
        ]),
        (linear(merge_method="liner"), ["unknown merge_method 'liner' · merge_method · did you mean linear or dare_linear?"]),
        (linear(merge_method="Linear"), ["unknown merge_method 'Linear' · merge_method · did you mean linear?"]),
        (linear(merge_method="qwerty"), ["unknown merge_method 'qwerty' · merge_method · `hubmerge methods` lists them"]),
        (linear(**{"base-model": "./a"}), ["unknown key 'base-model' · base-model · did you mean base_model?"]),
        (linear(zzz=1), [
            ("unknown key 'zzz' · zzz · known here: merge_method, sparsify, combine, align, fit, calibration, labels, zoo, probe, basis, "
            "missing, other_bases, models, slices, modules, base_model, parameters, dtype, out_dtype, tokenizer_source, tokenizer, chat_template, "
            "output, seed, name")
        ]),
        (linear(gate_mode="hidden", experts=[]), [
            "unknown key 'gate_mode' · gate_mode · mixtures of experts (mergekit-moe) are not made from recipes",
            "unknown key 'experts' · experts · mixtures of experts (mergekit-moe) are not made from recipes",
        ]),
        (linear(density=0.5), ["unknown key 'density' · density · density goes under parameters:"]),
        ({"merge_method": "linear", "slices": [{"sources": []}]}, [
            "no sources are listed · slices[0].sources · write one `- {model: org/name, layer_range: [0, 8]}` line for each"
        ]),
        (linear(dtype="auto"), [f"expected float32, float16, bfloat16 or float64, got 'auto' · dtype · {DOCS}"]),
        (linear(dtype="bf16"), ["expected float32, float16, bfloat16 or float64, got 'bf16' · dtype · write bfloat16"]),
        (linear(out_dtype="torch.half"), ["expected float32, float16, bfloat16 or float64, got 'torch.half' · out_dtype · write float16"]),
        (linear(out_dtype="int64"), [f"expected float32, float16, bfloat16 or float64, got 'int64' · out_dtype · {DOCS}"]),
        (linear(seed=-1), [f"seed must be greater than or equal to 0, got -1 · seed · {DOCS}"]),
        (linear(seed=True), [f"seed must be a whole number, got True · seed · {DOCS}"]),
        (linear(name=7), [f"name must be text, got 7 · name · {DOCS}"]),
        (linear(output="dense"), [f"output must be a mapping of names to values, got 'dense' · output · {DOCS}"]),
        (linear(output={"kind": "lora"}), [f"kind must be 'dense' or 'adapter', got 'lora' · output.kind · {DOCS}"]),
        (linear(parameters=[1]), [f"parameters must be a mapping of names to values, got [1] · parameters · {DOCS}"]),
        ({5: 1, **linear()}, ["a key is text, got 5 · recipe · put it in quotes"]),
        ({True: 1, **linear()}, ["a key is text, got True · recipe · YAML reads on, off, yes and no as true and false"]),
    ],
)  # fmt: skip
def test_a_mistake_in_the_frame_of_a_recipe_is_one_fault(raw: Any, faults: list[str]) -> None:
    assert recipe_faults(raw) == faults


@pytest.mark.parametrize(
    ("models", "faults"),
    [
        (None, ["no models are listed · models · write one `- model: org/name` line for each"]),
        ([], ["no models are listed · models · write one `- model: org/name` line for each"]),
        ("./a", ["models must be a list, got './a' · models · write one `- model: org/name` line for each"]),
        ({"model": "./a"}, ["models must be a list, got {'model': './a'} · models · write one `- model: org/name` line for each"]),
        ([None], ["a model is a mapping, got None · models[0] · write `- model: org/name`"]),
        ([{"model": None}], [f"model is missing · models[0].model · {DOCS}"]),
        ([{"parameters": {"weight": 1}}], [f"model is missing · models[0].model · {DOCS}"]),
        ([{"model": 5}], [f"expected a model's name, got 5 · models[0].model · {DOCS}"]),
        ([{"model": "./a", "parameters": 0.5}],
         [f"parameters must be a mapping of names to values, got 0.5 · models[0].parameters · {DOCS}"]),
        ([{"model": "org/a", "revision": "v1"}], ["unknown key 'revision' · models[0].revision · write model: org/name@revision"]),
        ([{"model": {"pth": "x"}}], [f"expected path and revision, or model and lora, got {{'pth': 'x'}} · models[0].model · {DOCS}"]),
        ([{"model": {"path": "org/a", "revision": 1}}],
         [f"model: a revision is text, got 1; put it in quotes · models[0].model · {DOCS}"]),
        ([{"model": "a b"}], ["'a b' is neither org/name nor a folder · models[0].model · start a folder with ./, ../, ~ or /"]),
        ([{"model": "~nobody-of-this-name/a"}],
         ["'~nobody-of-this-name/a' names the home folder of nobody here · models[0].model · write the folder's path out"]),
        ([{"model": "./a"}, {"model": "./b"}, {"model": "./a/."}, {"model": ".//b/"}], [
            "./a is listed twice · models · list each model once, with its weight",
            "./b is listed twice · models · list each model once, with its weight",
        ]),
    ],
)  # fmt: skip
def test_a_mistake_in_the_list_of_models_is_one_fault(models: Any, faults: list[str]) -> None:
    assert recipe_faults({"merge_method": "linear", "models": models}) == faults


@pytest.mark.parametrize(
    ("raw", "faults"),
    [
        ({"merge_method": "ties", "models": TWO}, [
            ("ties merges what parents learned on top of a base, and none is named · base_model · "
            "add base_model: the model they were all trained from; a recipe of LoRA adapters alone needs none, but basis: knots or core")
        ]),
        ({"merge_method": "slerp", "models": TWO}, [
            ("parameter t is missing · parameters · slerp needs it: 0 is the base model, 1 the other parent; "
            "outside [0, 1] extrapolates"),
            ("slerp starts from a base model, and none is named · base_model · "
            "add base_model: the model they were all trained from"),
        ]),
        ({"merge_method": "slerp", "base_model": "./b", "models": [{"model": "./a", "parameters": {"t": 1}}, TWO[1]]},
         ["parameter t is missing · parameters · move it from the models to the top-level parameters"]),
        ({"merge_method": "slerp", "base_model": "./b", "models": TWO, "parameters": {"tt": 1}},
         ["unknown parameter 'tt' · parameters.tt · did you mean t?"]),
        ({"merge_method": "slerp", "base_model": "./b", "models": TWO, "t": 0.5},
         ["unknown key 't' · t · t goes under parameters:"]),
        ({"merge_method": "slerp", "base_model": "./b", "models": [*TWO, {"model": "./c"}], "parameters": {"t": 1}},
         ["slerp takes 2 models, the base among them; the recipe has 3 · models · given: ./b, ./a, ./c"]),
        ({"merge_method": "ties", "base_model": "./a", "models": [{"model": "./a/"}]},
         ["ties takes at least 1 model beside the base; the recipe has 0 · models · list models other than base_model"]),
        ({"merge_method": "passthrough", "models": TWO},
         ["passthrough takes 1 model; the recipe has 2 · models · given: ./a, ./b"]),
        (linear(base_model="./c"), [
            ("base_model ./c is not among the models, and linear averages all it is given · base_model · "
            "list it under models with a weight, or remove base_model")
        ]),
        (linear(tokenizer_source="./x/"),
         ["./x is none of the models · tokenizer_source · write union, base, or one of ./a, ./b"]),
        (linear(tokenizer_source=5), [f"expected a model's name, got 5 · tokenizer_source · {DOCS}"]),
    ],
)  # fmt: skip
def test_a_choice_of_models_that_a_method_cannot_take_is_refused_without_looking_at_them(
    raw: Any, faults: list[str]
) -> None:
    assert recipe_faults(raw) == faults


@pytest.mark.parametrize(
    ("density", "fault"),
    [
        (20, "density must be in [0, 1], got 20 · {} · 20 % is 0.2"),
        ("70%", "density must be in [0, 1], got '70%' · {} · 70 % is 0.7"),
        (-0.5, "density must be in [0, 1], got -0.5 · {} · density: kept share of a delta's entries, the largest ones; 0 keeps none"),
        (True, "density must be in [0, 1], got True · {} · density: kept share of a delta's entries, the largest ones; 0 keeps none"),
        ([0.1, 50], "density must be in [0, 1], got 50 · {} · 50 % is 0.5"),
        ([{"filter": "mlp", "vale": 1}], f"expected filter and value, got filter, vale · {{}} · {DOCS}"),
    ],
)  # fmt: skip
def test_a_density_that_is_none_is_refused_wherever_it_stands(density: Any, fault: str) -> None:
    assert recipe_faults(ties({"model": "./a", "parameters": {"density": density}}, TWO[1])) == [
        fault.format("models[0].parameters.density")
    ]
    assert recipe_faults(ties(parameters={"density": density})) == [fault.format("parameters.density")]


@pytest.mark.parametrize(
    "weight", [True, "yes please", float("nan"), float("inf"), "nan", 1e39, -1e39, 10**400, [1, None], {}, [[1]]]
)
def test_a_weight_that_float32_does_not_hold_is_refused(weight: Any) -> None:
    (fault,) = recipe_faults(linear(parameters={"weight": weight}))
    assert fault.startswith(
        ("weight must be a number from -3.4e38 to 3.4e38, got ", "expected filter and value, got an empty")
    )
    assert "· parameters.weight ·" in fault
    assert len(fault) < 250


@pytest.mark.parametrize("normalize", [2, "maybe", 0.5, None])
def test_a_switch_is_on_or_off(normalize: Any) -> None:
    faults = [] if normalize is None else [
        f"normalize must be true or false, got {normalize!r} · parameters.normalize · normalize: divide the weights by their sum"
    ]  # fmt: skip
    if faults:
        assert recipe_faults(linear(parameters={"normalize": normalize})) == faults
    else:
        assert Recipe.parse(linear(parameters={"normalize": normalize})).warnings == ()


def test_weights_that_cancel_are_a_fault_of_the_recipe() -> None:
    models = [{"model": "./a", "parameters": {"weight": 2}}, {"model": "./b", "parameters": {"weight": "-2"}}]
    assert recipe_faults(linear(models=models)) == [
        (
            "weights [2.0, -2.0] sum to zero, so they cannot be normalised · parameters.weight · "
            "change the weights, or set normalize: false to add them as they are"
        )
    ]
    Recipe.parse(linear(models=models, parameters={"normalize": False}))


def test_small_weights_are_weights() -> None:
    Recipe.parse(linear(parameters={"weight": 1e-10}))


def test_what_a_method_ignores_is_a_warning_and_what_no_method_knows_a_fault() -> None:
    recipe = Recipe.parse(
        ties({"model": "./a", "parameters": {"normalize": False, "t": 1}}, parameters={"int8_mask": True})
    )
    assert recipe.warnings == (
        "models[0].parameters.normalize is ignored: ties has one normalize for all models, under the top-level parameters",
        "models[0].parameters.t is ignored: ties does not use it",
    )
    assert recipe_faults(ties(parameters={"dropout": 0.1})) == [
        (
            "unknown parameter 'dropout' · parameters.dropout · "
            "ties knows weight, lambda, normalize, elect, divide, undecided, density, rescale, trim_scope"
        )
    ]


@pytest.mark.parametrize(("value", "word"), [(True, "l1"), (False, "none"), ("l1", "l1"), ("false", "none"), (1, "l1")])
def test_a_rescaling_may_be_said_as_mergekit_says_it(value: Any, word: str) -> None:
    recipe = Recipe.parse(ties(parameters={"rescale": value}))
    assert recipe.warnings == ()
    assert recipe.sections[0].scopes.resolve(recipe.method, recipe.parents[0], "w", 0.0) == {"rescale": word}


def test_the_only_model_of_a_merge_can_say_what_all_models_share() -> None:
    recipe = Recipe.parse({"merge_method": "passthrough", "models": [{"model": "./a", "parameters": {"scale": 2}}]})
    assert recipe.warnings == ()
    assert recipe.sections[0].scopes.resolve(recipe.method, recipe.parents[0], "w", 0.0) == {"scale": 2.0}


def test_a_fault_of_a_file_begins_with_the_files_name(tmp_path: Any) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("merge_method: lineer\nmodels: [{model: ./a}]")
    with pytest.raises(RecipeError) as refused:
        load_recipe(path)
    assert refused.value.where == f"{path}: merge_method"


def test_numbers_of_numpy_in_a_mapping_are_numbers() -> None:
    models = [{"model": "org/a", "parameters": {"weight": np.float32(0.5)}}, {"model": "org/b"}]
    written = {"merge_method": "linear", "models": models, "seed": np.int64(3)}
    recipe = load_recipe(written)
    assert recipe.to_dict()["models"][0] == {"model": "org/a", "parameters": {"weight": 0.5}}
    assert recipe.seed == 3
