"""`align` in the recipe of a method that merges tensor by tensor: what is read, whom it brings into which order, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from bad.models import recipe_faults

from hubmerge.alignment_checks import aligned_models, alignment_method, order_of
from hubmerge.recipe import Recipe

UNLIKE = "remove it, or write merge_method: pleas"


def linear(**changes: Any) -> dict[str, Any]:
    models = [{"model": "./a", "parameters": {"weight": 0.5}}, {"model": "./b", "parameters": {"weight": 0.5}}]
    given = {"merge_method": "linear", "models": models, "align": "weights", **changes}
    return {key: value for key, value in given.items() if value is not None}


def order(**changes: Any) -> tuple[str, list[str]]:
    recipe = Recipe.parse(linear(**changes))
    return str(order_of(recipe)), [str(model) for model in aligned_models(recipe)]


def test_all_models_but_the_base_come_into_its_order_and_without_one_into_the_first_s() -> None:
    assert order() == ("./a", ["./b"])
    assert order(merge_method="slerp", base_model="./b", parameters={"t": 0.5}) == ("./b", ["./a"])
    assert order(merge_method="ties", base_model="./base") == ("./base", ["./a", "./b"])
    assert order(merge_method=None, combine="sign_consensus", base_model="./base") == ("./base", ["./a", "./b"])


def test_an_assembly_aligns_in_its_own_way() -> None:
    assert aligned_models(Recipe.parse(linear(merge_method="pleas", fit="none"))) == ()


def test_units_are_matched_by_weights_unless_the_recipe_says_otherwise() -> None:
    assert alignment_method(Recipe.parse(linear(align={"without": ["res"]}))) == "weights"
    activations = {"align": "activations", "calibration": "./rows.jsonl"}
    assert alignment_method(Recipe.parse(linear(**activations))) == "activations"


def test_the_other_keys_of_a_recipe_go_on_working() -> None:
    recipe = linear(dtype="bfloat16", tokenizer_source="union", chat_template="auto", output={"shard_size": "1GB"})
    assert Recipe.parse(recipe).to_dict() == {**recipe, "align": {"method": "weights"},
                                              "output": {"shard_size": 10**9}}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"align": "identity"},
            "identity leaves all units as they stand, as a recipe without align does · align · remove align, or write align: weights",
        ),
        (
            {"align": "activations"},
            ("units are matched by their activations, which needs data · calibration · "
             "add calibration: with a dataset, a file or a folder; align: weights needs none"),
        ),
        (
            {"align": {"widths": "union"}},
            ("widths: union makes layers wider, and linear writes the base model's shapes · align.widths · "
             "write widths: base or fold, or merge_method: pleas, which makes them wider"),
        ),
        *(
            (
                {"align": way},
                (f"units are brought into one order by pairs, and align: {way} is for methods that put unlike models together · align · "
                 "write align: weights or align: activations, or merge_method: pleas"),
            )
            for way in ("balanced", "zip", "optimal_transport")
        ),
        (
            {"align": {"budget": 1.5}},
            f"budget is for methods that put unlike models together, which linear does not · align.budget · {UNLIKE}",
        ),
        (
            {"align": {"ratio": 0.5}},
            f"ratio is for methods that put unlike models together, which linear does not · align.ratio · {UNLIKE}",
        ),
        (
            {"align": {"min_similarity": 0.2}},
            ("min_similarity is of pairs of units, and weights say only of a whole group how alike it is · align.min_similarity · "
             "remove it, or write method: activations"),
        ),
        (
            {"merge_method": "passthrough", "models": [{"model": "./a"}]},
            "there is no model to bring into the order of ./a · align · list another model, or remove align",
        ),
        (
            {"models": None, "slices": [{"sources": [{"model": "./a", "layer_range": [0, 2]}]}]},
            ("align matches the units of whole models, and slices takes layers of them · slices · "
             "merge whole models into one first, and take layers of that"),
        ),
        (
            {"models": None, "modules": {"text": {"models": [{"model": "./a"}, {"model": "./b"}]}},
             "parameters": {"weight": 1}},
            ("align matches the units of whole models, and modules takes layers of them · modules · "
             "merge whole models into one first, and take layers of that"),
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_with_an_alignment_is_refused_by_name(changes: dict[str, Any], fault: str) -> None:
    assert recipe_faults(linear(**changes)) == [fault]
