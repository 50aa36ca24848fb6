"""mergekit's recipes as people write them, read unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubmerge.dialect import read_yaml
from hubmerge.errors import RecipeError
from hubmerge.recipe import Recipe
from zoo_index import ModelRef


def parsed(text: str) -> Recipe:
    return Recipe.parse(read_yaml(text, ""))


def values(recipe: Recipe, name: str = "model.layers.0.mlp.w", depth: float = 0.0) -> list[dict[str, Any]]:
    """What each parent's parameters are for one tensor."""
    return [recipe.sections[0].scopes.resolve(recipe.method, parent, name, depth) for parent in recipe.parents]


def test_a_card_as_front_ends_dump_it() -> None:
    recipe = parsed(
        "base_model: org/base\ndtype: bfloat16\nmerge_method: ties\nmodels:\n- model: org/base\n- model: org/a\n"
        "  parameters:\n    density: 0.5\n    weight: 0.7\n- model: org/b@v2\n  parameters:\n    density: 0.5\n"
        "    weight: 3e-1\nparameters:\n  int8_mask: 1.0\n  normalize: 0.0\n"
    )
    assert recipe.parents == (ModelRef("org/a"), ModelRef("org/b", "v2"))
    assert values(recipe) == [
        {"weight": 0.7, "density": 0.5, "normalize": False},
        {"weight": 0.3, "density": 0.5, "normalize": False},
    ]
    assert recipe.warnings == ()
    assert recipe.notes == (
        "parameters.int8_mask is ignored: masks are not stored, so that their type is without meaning",
    )


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("0.7", 0.7),
        ('"0.7"', 0.7),
        ("5e-1", 0.5),
        ("+1", 1.0),
        ("1e-10", 1e-10),
        ("-.5", -0.5),
        ("1", 1.0),
        ("'1e-3'", 0.001),
    ],
)
def test_numbers_are_read_in_every_spelling(written: str, number: float) -> None:
    recipe = parsed(f"merge_method: linear\nmodels: [{{model: ./a}}]\nparameters: {{weight: {written}}}")
    assert values(recipe) == [{"weight": number}]


@pytest.mark.parametrize(
    ("written", "switch"),
    [("true", True), ("yes", True), ("on", True), ("1", True), ("1.0", True), ('"true"', True), ("false", False),
     ("no", False), ("off", False), ("0", False), ("0.0", False), ('"false"', False)],
)  # fmt: skip
def test_switches_are_read_in_every_spelling(written: str, switch: bool) -> None:
    recipe = parsed(f"merge_method: linear\nmodels: [{{model: ./a}}]\nparameters: {{normalize: {written}}}")
    assert values(recipe) == [{"normalize": switch}]


@pytest.mark.parametrize(
    ("written", "reference"),
    [
        ("org/a", "org/a"), ("org/a@main", "org/a@main"), ("'./my models/a'", "./my models/a"), ("./a/", "./a"),
        ("a/b/c", "./a/b/c"), ("../a/./", "../a"), ("/tmp/a//b/", "/tmp/a/b"), ("~/a/", "~/a"), ("./.hidden", "./.hidden"),
        ("./~a", "./~a"), ("./", "."), ("'C:\\models\\a'", "C:\\models\\a"), ("C:/models/a/", "C:/models/a"),
        ("org/a+org/l", "org/a+org/l"), ("./a/+./l/", "./a+./l"), ("{path: org/a}", "org/a"),
        ("{path: org/a, revision: v1}", "org/a@v1"), ("{model: org/a}", "org/a"), ("{model: org/a, lora: null}", "org/a"),
        ("{model: {path: org/a, revision: x}, lora: {path: ./l}}", "org/a@x+./l"),
    ],
)  # fmt: skip
def test_a_model_is_named_by_text_or_mapping_and_a_folder_has_one_spelling(written: str, reference: str) -> None:
    recipe = parsed(f"merge_method: linear\nmodels:\n- model: {written}")
    assert str(recipe.models[0].model) == reference
    assert Recipe.parse(recipe.to_dict()).models == recipe.models


@pytest.mark.parametrize("name", ["my models/a", ".hidden", "org/model-", "a+b+c"])
def test_a_name_that_no_hub_model_can_have_is_a_folders_where_there_is_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = {"merge_method": "linear", "models": [{"model": name}]}
    with pytest.raises(RecipeError) as refused:
        Recipe.parse(raw)
    assert refused.value.where == "recipe: models[0].model"
    Path(name).mkdir(parents=True)
    recipe = Recipe.parse(raw)
    assert recipe.references == (ModelRef(f"./{name}"),)
    assert Recipe.parse(recipe.to_dict()) == recipe


@pytest.mark.parametrize("name", ["a b" * 2000, "a\0b c", "\ud800"])
def test_a_name_that_no_folder_can_have_is_a_fault_like_any_other(name: str) -> None:
    with pytest.raises(RecipeError) as refused:
        Recipe.parse({"merge_method": "linear", "models": [{"model": name}]})
    assert refused.value.hint == "start a folder with ./, ../, ~ or /"


def test_a_folder_can_be_given_as_a_path() -> None:
    recipe = Recipe.parse({"merge_method": "linear", "models": [{"model": Path("a")}, {"model": Path("/b/c")}]})
    assert [str(entry.model) for entry in recipe.models] == ["./a", "/b/c"]


def test_a_folder_with_a_plus_in_its_name_goes_in_and_comes_out_as_a_mapping() -> None:
    recipe = parsed(
        "merge_method: linear\nmodels:\n- model: {path: ./a+b}\n- model: {model: {path: ./c}, lora: {path: ./l+m}}"
    )
    assert [entry["model"] for entry in recipe.to_dict()["models"]] == [
        {"model": {"path": "./a+b"}},
        {"model": {"path": "./c"}, "lora": {"path": "./l+m"}},
    ]
    assert Recipe.parse(recipe.to_dict()) == recipe


def test_keys_without_a_value_are_left_out() -> None:
    assert parsed("merge_method: linear\nmodels:\n- model: ./a\n  parameters:\nparameters:\nbase_model: null\n"
                  "dtype: ~\nslices:\noutput:\nseed:\ntokenizer_source: null\n").to_dict() == {
        "merge_method": "linear", "models": [{"model": "./a"}],
    }  # fmt: skip


def test_a_value_on_a_model_comes_before_the_same_value_at_the_top() -> None:
    recipe = parsed(
        "merge_method: ties\nbase_model: ./c\nmodels:\n- model: ./a\n  parameters: {weight: [{filter: mlp, value: 0.9}]}\n"
        "- model: ./b\nparameters: {weight: 0.4, density: [0.2, 0.6]}\n"
    )
    assert [row["weight"] for row in values(recipe, "layers.0.mlp.w")] == [0.9, 0.4]
    # the model's filter does not match: the top level speaks
    assert [row["weight"] for row in values(recipe, "layers.0.attn.w")] == [0.4, 0.4]
    assert [row["density"] for row in values(recipe, depth=0.5)] == [0.4, 0.4]


@pytest.mark.parametrize(
    ("head", "parents"),
    [
        ("merge_method: ties\nbase_model: ./c\nmodels: [{model: ./a}, {model: ./b}]", "./a ./b"),
        ("merge_method: ties\nbase_model: ./b\nmodels: [{model: ./a}, {model: ./b}, {model: ./c}]", "./a ./c"),
        ("merge_method: task_arithmetic\nbase_model: ./a/\nmodels: [{model: ./a}, {model: ./b}]", "./b"),
        ("merge_method: slerp\nbase_model: ./b\nparameters: {t: 0.3}\nmodels: [{model: ./a}, {model: ./b}]", "./b ./a"),
        ("merge_method: slerp\nbase_model: ./b\nparameters: {t: 0.3}\nmodels: [{model: ./a}]", "./b ./a"),
        ("merge_method: linear\nbase_model: ./b\nmodels: [{model: ./a}, {model: ./b}]", "./a ./b"),
        (
            "merge_method: linear\nbase_model: ./c\nparameters: {weight: 1}\nmodels: [{model: ./a}, {model: ./b}]",
            "./a ./b ./c",
        ),
        ("merge_method: passthrough\nbase_model: ./c\nmodels: [{model: ./a}]", "./a"),
    ],
)
def test_the_base_listed_or_not_first_or_second_is_found(head: str, parents: str) -> None:
    assert " ".join(map(str, parsed(head).parents)) == parents


@pytest.mark.parametrize("dtype", ["float32", "torch.float32"])
def test_types_go_by_their_names_in_torch(dtype: str) -> None:
    assert parsed(f"merge_method: linear\nmodels: [{{model: ./a}}]\ndtype: {dtype}").dtype == "float32"


def test_parameters_of_mergekits_other_methods_are_known_by_name() -> None:
    names = [
        "epsilon",
        "gamma",
        "select_topk",
        "filter_wise",
        "nuslerp_flatten",
        "nuslerp_row_wise",
        "tol",
        "max_iter",
        "density",
    ]
    rows = "".join(f"\n  {name}: 1" for name in names)
    recipe = parsed(f"merge_method: linear\nmodels: [{{model: ./a}}]\nparameters:{rows}")
    assert recipe.warnings == tuple(f"parameters.{name} is ignored: linear does not use it" for name in names)


numbers = st.floats(0.01, 100).map(lambda x: round(x, 3))
shares = st.floats(0.01, 1).map(lambda x: round(x, 3))
words = st.sampled_from(["mlp", "self_attn", "layers.1.", "*"])


def settings_of(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = leaf | st.lists(leaf, min_size=1, max_size=4)
    return some | st.lists(st.fixed_dictionaries({"filter": words, "value": some}), min_size=1, max_size=3)


folders = st.text("abc._-+ ~é", min_size=1, max_size=6).filter(lambda name: name not in {".", ".."})
references = folders.map(lambda name: {"path": f"./{name}"}) | st.sampled_from(
    ["org/a", "org/a@v1", "org/b+./l", "/x/y/"]
)
entries = st.fixed_dictionaries(
    {"model": references},
    optional={
        "parameters": st.fixed_dictionaries(
            {}, optional={"weight": settings_of(numbers), "density": settings_of(shares)}
        )
    },
)
recipes = st.fixed_dictionaries(
    {
        "models": st.lists(entries, min_size=1, max_size=4),
        "merge_method": st.just("ties"),
        "base_model": st.just("org/base"),
    },
    optional={
        "parameters": st.fixed_dictionaries({}, optional={"normalize": st.booleans(), "lambda": settings_of(numbers)}),
        "dtype": st.sampled_from(["bfloat16", "torch.float16", None]),
        "output": st.fixed_dictionaries({}, optional={"shard_size": st.integers(1, 10**12) | st.just("5 GB")}),
        "seed": st.integers(0, 2**64 - 1),
        "name": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        "tokenizer_source": st.sampled_from(["base", "union", "org/base", None]),
    },
)


parts = st.fixed_dictionaries(
    {
        "sources": st.lists(
            st.fixed_dictionaries(
                {
                    "model": st.sampled_from(["org/base", "org/a", "org/b@v1"]),
                    "layer_range": st.sampled_from([[0, 3], ["2", 5.0]]),
                },
                optional={"parameters": st.fixed_dictionaries({}, optional={"weight": settings_of(numbers)})},
            ),
            min_size=2,
            max_size=3,
            unique_by=lambda row: row["model"],
        ).filter(lambda rows: {"org/base"} < {row["model"] for row in rows})
    },
    optional={
        "parameters": st.fixed_dictionaries({}, optional={"density": settings_of(shares)}),
        "base_model": st.just("org/base"),
    },
)


@given(st.lists(parts, min_size=1, max_size=3), st.booleans())
def test_slices_and_modules_written_out_and_read_again_are_the_same(slices: list[Any], in_module: bool) -> None:
    form = {"modules": {"default": {"slices": slices}}} if in_module else {"slices": slices}
    recipe = Recipe.parse({"merge_method": "ties", "base_model": "org/base", **form})
    again = Recipe.parse(recipe.to_dict())
    assert (again, again.to_dict(), again.sections) == (recipe, recipe.to_dict(), recipe.sections)
    assert [len(section.parents(recipe.method)) for section in recipe.sections] == [
        len(row["sources"]) - 1 for row in slices
    ]


@given(recipes)
def test_a_recipe_written_out_and_read_again_is_the_same(raw: dict[str, Any]) -> None:
    unique = {str(Recipe.parse({**raw, "models": [entry]}).models[0].model): entry for entry in raw["models"]}
    recipe = Recipe.parse({**raw, "models": list(unique.values())})
    again = Recipe.parse(recipe.to_dict())
    assert again == recipe
    assert again.to_dict() == recipe.to_dict()
    assert again.sections == recipe.sections
