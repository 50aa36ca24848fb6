"""Recipes and sentences of other tools -> the parents they name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo_builders import record_of, write_model

from zoo_index.lineage import find_edges
from zoo_index.merge_recipes import find_recipe, parse_recipe, recipe_parents, trained_from

TIES = """\
merge_method: ties
base_model: org/base
models:
  - model: ada/poet
    parameters: {weight: 0.5}
  - model: {model: {path: bob/coder, revision: main}, lora: {path: bob/lora}}
"""
SLICES = """\
merge_method: passthrough
slices:
  - sources: [{model: ada/poet, layer_range: [0, 8]}]
  - sources: [{model: bob/coder+bob/lora, layer_range: [4, 12]}, {model: ada/poet, layer_range: [4, 12]}]
"""
STAGES = """\
name: half
merge_method: linear
models: [{model: ada/poet}, {model: bob/coder}]
---
merge_method: slerp
base_model: half
models: [{model: eve/other}]
"""


@pytest.mark.parametrize(
    ("recipe", "parents"),
    [
        (TIES, ("ada/poet", "bob/coder", "bob/lora", "org/base")),
        (SLICES, ("ada/poet", "bob/coder", "bob/lora")),
        (STAGES, ("ada/poet", "bob/coder", "eve/other")),
        ("merge_method: linear\nmodules: {text: {slices: [{sources: [{model: a/b}]}]}}", ("a/b",)),
        ("merge_method: linear\nmodels: 7\nslices: {a: 1}\nbase_model: [x]", ()),
    ],
)
def test_the_parents_of_a_recipe_in_its_order_each_once(recipe: str, parents: tuple[str, ...]) -> None:
    parsed = parse_recipe(recipe)
    assert parsed is not None
    assert recipe_parents(parsed) == parents


@pytest.mark.parametrize(
    "text", ["", "models: [a]", "- merge_method", "merge_method: [", "a: &a [*a]\nmerge_method: x"]
)
def test_what_is_no_recipe_is_none(text: str) -> None:
    assert parse_recipe(text) is None


def test_the_first_recipe_in_a_card_is_found_among_other_blocks() -> None:
    card = f"# Merge\n```python\nmerge_method\n```\n\n```yaml\n{TIES}```\n\n~~~\n{SLICES}~~~\n"
    found = find_recipe(card)
    assert found is not None
    assert recipe_parents(found)[0] == "ada/poet"
    assert len(recipe_parents(found)) == 4
    assert find_recipe("merge_method: ties without a fence") is None


@pytest.mark.parametrize(
    ("text", "parent"),
    [
        ("This model is a fine-tuned version of [org/base](https://huggingface.co/org/base) on mine.", "org/base"),
        ("This model is a fine-tuned version of [gpt2](https://huggingface.co/gpt2)", "gpt2"),
        ("- **Finetuned from model :** unsloth/tiny", "unsloth/tiny"),
        ("- **Finetuned from model [optional]:** [More Information Needed]", None),
        ("A fine model.", None),
    ],
)
def test_the_sentences_that_tools_write_name_the_parent(text: str, parent: str | None) -> None:
    assert trained_from(text) == parent


def test_every_source_in_a_folder_gives_its_edge(tmp_path: Path) -> None:
    sentence = "This model is a fine-tuned version of [org/root](https://huggingface.co/org/root)."
    card = f"---\nbase_model: ada/poet\nbase_model_relation: merge\n---\n{sentence}\n```yaml\n{SLICES}```\n"
    folder = write_model(tmp_path / "merge", card=card, files={"mergekit_config.yml": TIES})
    edges = {(edge.source, edge.parent, edge.relation, edge.confidence) for edge in record_of(folder).base_models}
    assert edges == {
        *(("mergekit_config", name, "merge", "high") for name in ("ada/poet", "bob/coder", "bob/lora", "org/base")),
        *(("card_recipe", name, "merge", "medium") for name in ("ada/poet", "bob/coder", "bob/lora")),
        ("card", "ada/poet", "merge", "medium"),
        ("card_text", "org/root", "finetune", "low"),
    }


def test_the_hubs_tags_tell_the_relation_once() -> None:
    tags = [
        "base_model:org/base",
        "base_model:finetune:org/base",
        "base_model:other/one",
        "license:mit",
        "x base_model:y",
    ]
    edges = find_edges("me/child", hub_tags=tags)
    assert [(edge.parent, edge.relation, edge.confidence) for edge in edges] == [
        ("org/base", "finetune", "medium"),
        ("other/one", "unknown", "medium"),
    ]


@given(st.text(alphabet="`~yaml\nmerge_method: [{&*a}]|>-", max_size=200))
def test_no_text_breaks_the_search(text: str) -> None:
    found = find_recipe(f"```yaml\nmerge_method: x\n{text}")
    assert found is None or isinstance(recipe_parents(found), tuple)
