"""Declared parents: who says so, and how far it is believed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo_index.lineage import Edge, find_edges, same_name


def told(child: str = "me/child", **documents: Any) -> list[tuple[str, str, str, str]]:
    return [(e.parent, e.relation, e.source, e.confidence) for e in find_edges(child, **documents)]


def test_a_card_with_one_base_is_a_finetune() -> None:
    assert told(card={"base_model": "org/base"}) == [("org/base", "finetune", "card", "medium")]


def test_a_card_with_several_bases_and_no_relation_is_a_merge() -> None:
    assert told(card={"base_model": ["a/x", "b/y"]}) == [
        ("a/x", "merge", "card", "medium"),
        ("b/y", "merge", "card", "medium"),
    ]


def test_a_stated_relation_is_believed_and_an_invented_one_is_not() -> None:
    assert told(card={"base_model": "a/x", "base_model_relation": "quantized"})[0][1] == "quantized"
    assert told(card={"base_model": "a/x", "base_model_relation": "cousin"})[0][1] == "finetune"


def test_tags_and_files_tell_the_relation_that_the_card_leaves_out() -> None:
    assert told(card={"base_model": "a/x", "tags": ["mergekit"]})[0][1] == "merge"
    assert (
        told(card={"base_model": "a/x"}, config={"quantization_config": {"quant_method": "awq"}})[0][1] == "quantized"
    )
    assert told(card={"base_model": "a/x"}, adapter_config={"peft_type": "LORA"})[0][1] == "adapter"


def test_an_adapter_config_is_read_whatever_the_card_says() -> None:
    documents = {"adapter_config": {"base_model_name_or_path": "a/x", "revision": "abc"}, "card": {"tags": []}}
    edges = find_edges("me/child", **documents)
    assert edges == (
        Edge(
            child="me/child", parent="a/x", relation="adapter", source="adapter_config", confidence="high", commit="abc"
        ),
    )


def test_every_source_keeps_its_own_edge_the_most_trusted_first() -> None:
    assert told(
        card={"base_model": "a/x"}, adapter_config={"base_model_name_or_path": "a/x"}, config={"_name_or_path": "b/y"}
    ) == [
        ("a/x", "adapter", "adapter_config", "high"),
        ("a/x", "adapter", "card", "medium"),
        ("b/y", "unknown", "config", "low"),
    ]


def test_a_manifest_names_parents_with_their_commits_and_adapters() -> None:
    manifest = {
        "parents": [
            {"reference": "org/base", "role": "base", "commit": "c0"},
            {"reference": "org/base", "role": "parent", "commit": "c0", "adapter": "org/lora", "adapter_commit": "c1"},
            "nonsense",
        ]
    }
    edges = find_edges("me/child", manifest=manifest)
    assert [(e.parent, e.relation, e.commit, e.confidence) for e in edges] == [
        ("org/base", "merge", "c0", "high"),
        ("org/lora", "merge", "c1", "high"),
    ]


@pytest.mark.parametrize("parent", ["me/child", "Me/Child", "me/child/"])
def test_an_edge_to_the_model_itself_is_dropped(parent: str) -> None:
    assert told(card={"base_model": parent}) == []
    assert told("me/child@v1", card={"base_model": parent}) == []


def test_a_path_is_believed_less_than_a_name() -> None:
    assert told(card={"base_model": "/home/me/base"})[0][3] == "low"
    assert told(adapter_config={"base_model_name_or_path": "./base"})[0][3] == "medium"


def test_a_name_given_twice_in_a_card_is_one_finetune() -> None:
    assert told(card={"base_model": ["a/x", "a/x"]}) == [("a/x", "finetune", "card", "medium")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["reference", "adapter", "x"]), inner),
    max_leaves=6,
)
keys = st.sampled_from(
    ["base_model", "base_model_relation", "tags", "parents", "base_model_name_or_path", "_name_or_path"]
)


@given(st.dictionaries(keys, json_values), st.dictionaries(keys, json_values), st.dictionaries(keys, json_values))
def test_documents_with_any_values_give_edges_without_an_error(a: Any, b: Any, c: Any) -> None:
    edges = find_edges("me/child", manifest=a, adapter_config=b, card=c, config=a)
    assert all(edge.parent and edge.parent.casefold() != "me/child" for edge in edges)
    assert len({(edge.parent.casefold(), edge.source) for edge in edges}) == len(edges)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("org/name", "Org/Name", True),
        ("gpt2", "openai-community/gpt2", True),
        ("org/name@v1", "org/name", True),
        ("./zoo/base", "/data/zoo/base", True),
        ("zoo/base", "/data/zoo/base", True),
        ("/data/a/base", "/data/b/base", False),
        ("/base", "/data/base", False),
        ("org/base", "org/base2", False),
        ("", "org/base", False),
    ],
)
def test_two_names_can_mean_one_model(left: str, right: str, same: bool) -> None:
    assert same_name(left, right) is same
    assert same_name(right, left) is same
