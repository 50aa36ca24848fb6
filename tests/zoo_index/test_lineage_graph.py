"""A family's statements, some of them wrong -> ancestors, descendants, common ancestor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo_index import CommonAncestor, Edge, Lineage, LineageGraph
from zoo_index.lineage import Confidence, find_edges
from zoo_index.lineage_drawing import draw_tree

CARDS: dict[str, Mapping[str, Any]] = {
    "org/base": {},
    "ada/poet": {"card": {"base_model": "org/base"}},
    "bob/coder": {"card": {"base_model": "ORG/Base"}},
    "ada/lora": {"adapter_config": {"base_model_name_or_path": "ada/poet", "revision": "c" * 40}},
    "eve/merge": {"card": {"base_model": ["ada/poet", "bob/coder"], "tags": ["merge"]}},
    "eve/remerge": {"card": {"base_model": ["eve/merge", "ada/poet"]}},
}
"""A base, two fine-tunes, an adapter, a merge of both, a merge of the merge."""


def edges_of(family: Mapping[str, Mapping[str, Any]]) -> list[Edge]:
    return [edge for child, documents in family.items() for edge in find_edges(child, **documents)]


def graph_of(
    family: Mapping[str, Mapping[str, Any]], renames: Mapping[str, str] | None = None, adapters: Sequence[str] = ()
) -> LineageGraph:
    kinds = {name: "adapter" if name in adapters else "model" for name in family}
    return LineageGraph(kinds, edges_of(family), renames or {})


FAMILY = graph_of(CARDS, adapters=["ada/lora"])


def up(lineage: Lineage) -> list[tuple[str, int]]:
    return [(relative.reference, relative.distance) for relative in lineage.ancestors]


def down(lineage: Lineage) -> list[tuple[str, int]]:
    return [(relative.reference, relative.distance) for relative in lineage.descendants]


def test_ancestors_and_descendants_come_nearest_first() -> None:
    assert up(FAMILY.lineage("eve/remerge")) == [("ada/poet", 1), ("eve/merge", 1), ("org/base", 2), ("bob/coder", 2)]
    assert down(FAMILY.lineage("org/base")) == [
        ("ada/poet", 1), ("bob/coder", 1), ("ada/lora", 2), ("eve/merge", 2), ("eve/remerge", 2),
    ]  # fmt: skip
    assert [child.link.relation for child in FAMILY.lineage("ada/poet").children] == ["adapter", "merge", "merge"]
    assert FAMILY.lineage("ada/lora").parents[0].link.commit == "c" * 40


def test_a_parent_that_the_catalog_has_not_is_named_as_such() -> None:
    graph = graph_of({"me/child": {"card": {"base_model": "far/parent"}}})
    lineage = graph.lineage("me/child")
    assert [(r.reference, r.in_catalog) for r in lineage.ancestors] == [("far/parent", False)]
    assert lineage.unknown == ("far/parent",)
    assert down(graph.lineage("far/parent")) == [("me/child", 1)]
    assert graph.lineage("far/parent").in_catalog is False


@pytest.mark.parametrize(
    ("models", "ancestor", "distances"),
    [
        (["ada/poet", "bob/coder"], "org/base", (1, 1)),
        (["bob/coder", "ada/poet"], "org/base", (1, 1)),
        (["ada/lora", "bob/coder"], "org/base", (2, 1)),  # through the fine-tune that the adapter belongs to
        (["eve/merge", "bob/coder"], "org/base", (2, 1)),  # not bob/coder itself: it would have no task vector
        (["org/base", "eve/merge"], "org/base", (0, 2)),  # unless nothing else is common
        (["ada/poet", "bob/coder", "eve/remerge"], "org/base", (1, 1, 2)),
        (["eve/merge", "eve/remerge"], "ada/poet", (1, 1)),
    ],
)
def test_the_common_ancestor_is_the_nearest_that_can_be_a_base(
    models: list[str], ancestor: str, distances: tuple[int, ...]
) -> None:
    found = FAMILY.common_ancestor(models)
    assert found == CommonAncestor(ancestor, True, tuple(zip(models, distances, strict=True)), "medium")


def test_the_reason_counts_the_steps_and_tells_the_least_trusted() -> None:
    family = {**CARDS, "dan/old": {"config": {"_name_or_path": "org/base"}}}
    found = graph_of(family).common_ancestor(["dan/old", "eve/merge", "org/base"])
    assert found is not None
    assert found.reason == "dan/old is 1 step away; eve/merge is 2 steps away; org/base is it; low confidence"
    assert found.to_json()["distances"] == {"dan/old": 1, "eve/merge": 2, "org/base": 0}


def test_without_a_common_ancestor_there_is_none() -> None:
    graph = graph_of({**CARDS, "other/base": {}, "other/child": {"card": {"base_model": "other/base"}}})
    assert graph.common_ancestor(["ada/poet", "other/child"]) is None
    assert graph.common_ancestor(["ada/poet"]) is None


def test_an_adapter_or_a_quantised_model_is_never_the_common_ancestor() -> None:
    family = {
        "org/base": {},
        "org/packed": {"card": {"base_model": "org/base", "base_model_relation": "quantized"}},
        "a/one": {"card": {"base_model": "org/packed"}},
        "a/two": {"card": {"base_model": "org/packed"}},
    }
    found = graph_of(family).common_ancestor(["a/one", "a/two"])
    assert found is not None
    assert found.reference == "org/base"


def test_of_two_equally_near_the_older_is_taken() -> None:
    manifest = {"parents": [{"reference": "org/base"}, {"reference": "ada/poet"}, {"reference": "bob/coder"}]}
    family = {**CARDS, "m/one": {"manifest": manifest}, "m/two": {"manifest": manifest}}
    found = graph_of(family).common_ancestor(["m/one", "m/two"])
    assert found is not None
    assert found.reference == "org/base"


def test_the_most_trusted_source_is_followed_and_others_are_kept_and_shown() -> None:
    documents = {
        "adapter_config": {"base_model_name_or_path": "org/base"},
        "card": {"base_model": "other/model", "base_model_relation": "finetune"},
    }
    lineage = graph_of({"org/base": {}, "me/lora": documents}).lineage("me/lora")
    assert up(lineage) == [("org/base", 1)]
    assert [(link.parent, link.doubted) for link in lineage.links] == [("org/base", False), ("other/model", True)]
    assert lineage.contradictions == ("me/lora: adapter_config.json names org/base, the card names other/model",)


def test_a_folder_of_somebodys_machine_contradicts_nothing() -> None:
    documents = {"card": {"base_model": "org/base"}, "config": {"_name_or_path": "/content/checkpoint-500"}}
    lineage = graph_of({"me/child": documents}).lineage("me/child")
    assert up(lineage) == [("org/base", 1)]
    assert [link.doubted for link in lineage.links] == [False, True]
    assert lineage.contradictions == ()


def test_two_words_for_one_relation_are_a_contradiction_and_the_more_trusted_wins() -> None:
    documents = {
        "adapter_config": {"base_model_name_or_path": "org/base"},
        "card": {"base_model": "org/base", "base_model_relation": "merge"},
    }
    lineage = graph_of({"me/lora": documents}).lineage("me/lora")
    assert lineage.links[0].relation == "adapter"
    assert lineage.links[0].sources == ("adapter_config", "card")
    assert lineage.contradictions == (
        "me/lora: its relation to org/base is told in several ways: adapter (adapter_config.json), merge (the card)",
    )


def test_a_cycle_is_reported_and_its_least_trusted_step_not_followed() -> None:
    family = {
        "a/x": {"card": {"base_model": "a/y"}},
        "a/y": {"card": {"base_model": "a/z"}},
        "a/z": {"config": {"_name_or_path": "a/x"}},
    }
    lineage = graph_of(family).lineage("a/x")
    assert up(lineage) == [("a/y", 1), ("a/z", 2)]
    assert len(lineage.cycles) == 1
    assert set(lineage.cycles[0]) == {"a/x", "a/y", "a/z"}
    assert lineage.cycles[0][0] == lineage.cycles[0][-1]
    assert [link.child for link in lineage.links if link.doubted] == ["a/z"]


def test_equally_trusted_steps_of_a_cycle_are_all_doubted() -> None:
    graph = graph_of({"a/x": {"card": {"base_model": "a/y"}}, "a/y": {"card": {"base_model": "a/x"}}})
    assert up(graph.lineage("a/x")) == []
    assert graph.common_ancestor(["a/x", "a/y"]) is None


def test_a_renamed_parent_is_the_model_of_today() -> None:
    family = {
        "new/base": {},
        "a/one": {"card": {"base_model": "old/base"}},
        "a/two": {"card": {"base_model": "new/base"}},
    }
    graph = graph_of(family, renames={"old/base": "mid/base", "mid/base": "new/base"})
    assert up(graph.lineage("a/one")) == [("new/base", 1)]
    found = graph.common_ancestor(["a/one", "a/two"])
    assert found is not None
    assert found.reference == "new/base"
    assert graph.resolve("Old/Base@main") == "new/base"


def test_renames_that_lead_in_a_circle_end() -> None:
    graph = graph_of({"a/one": {"card": {"base_model": "x/a"}}}, renames={"x/a": "x/b", "x/b": "x/a"})
    assert len(graph.lineage("a/one").ancestors) == 1


def test_the_hubs_tag_tells_a_renamed_parent() -> None:
    documents = {
        "card": {"base_model": "old/base"},
        "hub_tags": ["base_model:new/base", "base_model:finetune:new/base"],
    }
    lineage = graph_of({"a/one": documents}).lineage("a/one")
    assert up(lineage) == [("new/base", 1)]
    assert lineage.contradictions == ()


@pytest.mark.parametrize(
    ("written", "means"),
    [("gpt2", "openai-community/gpt2"), ("BERT-base-uncased", "google-bert/bert-base-uncased"), ("mine", "mine")],
)
def test_names_without_an_owner_mean_the_models_that_were_given_one(written: str, means: str) -> None:
    catalogued = [means] if "/" in means else []
    graph = graph_of({name: {} for name in catalogued})
    assert graph.resolve(written.lower()).casefold() == means.casefold()


def test_a_path_is_the_one_folder_that_ends_in_it() -> None:
    graph = graph_of({"/data/zoo/base": {}, "/data/a/twin": {}, "/data/b/twin": {}})
    assert graph.resolve("./zoo/base", "me/child") == "/data/zoo/base"
    assert graph.resolve("zoo/base", "me/child") == "/data/zoo/base"
    assert graph.resolve("/data/zoo/base", "me/child") == "/data/zoo/base"
    assert (
        graph.resolve("/elsewhere/zoo/base", "me/child") == "/elsewhere/zoo/base (a folder unknown here, of me/child)"
    )
    assert graph.resolve("./twin", "me/child") == "./twin (a folder unknown here, of me/child)"


def test_a_name_without_an_owner_in_a_folders_card_is_the_folder_beside_it() -> None:
    of_base, of_low = ({"card": {"base_model": name}} for name in ("base", "low"))
    folders = {"/zoo/base": of_base, "/zoo/low": of_base, "/zoo/high": of_base, "/else/base": {}, "/else/own": of_low}
    graph = graph_of({**folders, "org/far": of_base})
    assert up(graph.lineage("/zoo/low")) == [("/zoo/base", 1), ("base", 2)]  # a folder is not its own base
    found = graph.common_ancestor(["/zoo/low", "/zoo/high"])
    assert found is not None
    assert found.reference == "/zoo/base"
    assert up(graph.lineage("/else/own")) == [("low", 1)]
    assert up(graph.lineage("org/far")) == [("base", 1)]


def test_the_same_path_in_two_models_is_no_common_ancestor() -> None:
    graph = graph_of({"a/one": {"card": {"base_model": "./output"}}, "a/two": {"card": {"base_model": "./output"}}})
    assert graph.common_ancestor(["a/one", "a/two"]) is None


def test_a_statement_that_is_only_a_path_does_not_make_the_others_doubtful() -> None:
    documents = {"manifest": {"parents": [{"reference": "./base"}]}, "card": {"base_model": "org/base"}}
    assert ("org/base", 1) in up(graph_of({"me/merge": documents}).lineage("me/merge"))


def test_a_model_that_only_names_itself_under_an_old_name_has_no_parent() -> None:
    graph = graph_of({"new/me": {"card": {"base_model": "old/me"}}}, renames={"old/me": "new/me"})
    assert graph.lineage("new/me").ancestors == ()


NAMES = [f"org/m{number}" for number in range(7)]
LEVELS: tuple[Confidence, ...] = ("high", "medium", "low")
random_edges = st.lists(
    st.builds(
        lambda child, parent, level, source: Edge(
            child=child, parent=parent, relation="finetune", source=source, confidence=level
        ),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        st.sampled_from(LEVELS),
        st.sampled_from(["card", "manifest", "config"]),
    ),
    max_size=20,
)


@given(random_edges)
def test_whatever_is_declared_no_model_is_its_own_ancestor_and_up_mirrors_down(edges: list[Edge]) -> None:
    graph = LineageGraph(dict.fromkeys(NAMES, "model"), edges, {})
    lineages = {name: graph.lineage(name) for name in NAMES}
    for name, lineage in lineages.items():
        above = {relative.reference for relative in lineage.ancestors}
        assert name not in above
        assert above == {other for other in NAMES if name in {r.reference for r in lineages[other].descendants}}


@given(random_edges, st.permutations(NAMES[:3]))
def test_the_common_ancestor_is_above_all_and_the_order_of_the_models_is_no_matter(
    edges: list[Edge], models: list[str]
) -> None:
    graph = LineageGraph(dict.fromkeys(NAMES, "model"), edges, {})
    found, sorted_found = graph.common_ancestor(models), graph.common_ancestor(sorted(models))
    assert (found and found.reference) == (sorted_found and sorted_found.reference)
    if found is not None:
        for name, distance in found.distances:
            above = {name: 0, **{r.reference: r.distance for r in graph.lineage(name).ancestors}}
            assert above[found.reference] == distance


def test_a_lineage_of_thousands_of_steps_is_walked_and_drawn() -> None:
    family = {f"org/m{n}": {"card": {"base_model": f"org/m{n - 1}"}} for n in range(1, 3000)}
    graph = graph_of(family)
    lineage = graph.lineage("org/m2999")
    assert up(lineage)[-1] == ("org/m0", 2999)
    assert len(list(draw_tree(lineage))) == 2 + 2999
    found = graph.common_ancestor(["org/m2999", "org/m2998"])
    assert found is not None
    assert found.reference == "org/m2997"


def test_a_model_that_is_alone_is_said_to_be() -> None:
    assert list(draw_tree(FAMILY.lineage("org/base")))[1] == "  became"
    assert list(draw_tree(graph_of({"me/alone": {}}).lineage("me/alone"))) == [
        "me/alone",
        "  no parents and no children are declared",
    ]
