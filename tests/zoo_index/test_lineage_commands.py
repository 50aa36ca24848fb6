"""`hubmerge zoo` with the Hub and lineage, as a user meets it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hub import HubServer, Reply
from hypothesis import given
from hypothesis import strategies as st
from zoo_builders import llama_config, llama_tensors, write_adapter, write_model
from zoo_running import Run

from zoo_index import LineageGraph
from zoo_index.lineage import find_edges
from zoo_index.lineage_drawing import draw_mermaid, draw_tree


@pytest.fixture
def family(hub: HubServer, tmp_path: Path) -> HubServer:
    """On the Hub: a base that was renamed, two fine-tunes, an adapter, a merge of both, a merge of the merge."""
    base = llama_tensors(llama_config(), seed=1)
    random = np.random.default_rng(2)

    def put(repo: str, card: str, *, files: dict[str, object] | None = None) -> None:
        weights = {n: (v + 0.05 * random.standard_normal(v.shape)).astype("float32") for n, v in base.items()}
        hub.add(repo, write_model(tmp_path / "made" / repo, tensors=weights, card=f"---\n{card}\n---\n", files=files))

    put("acme/base", "license: mit")
    put("ada/poet", "base_model: acme/base")
    put("ada/coder", "base_model: acme/base")
    put("ada/merge", "base_model: [ada/poet, ada/coder]\ntags: [merge]")
    parents = [{"reference": "ada/merge", "commit": "d" * 40}, {"reference": "ada/poet", "commit": None}]
    put("ada/remerge", "license: mit", files={"hubmerge.json": {"parents": parents}})
    adapter = write_adapter(tmp_path / "made" / "lora", base="ada/poet")
    hub.add("ada/lora", adapter)
    hub.move("acme/base", "acme/base-v1")
    return hub


def test_sync_of_an_author_and_a_renamed_parent_then_its_lineage(run: Run, family: HubServer) -> None:
    synced = run("sync", "--author", "ada", "--repo", "acme/base")
    assert synced.code == 0
    assert "renamed  acme/base -> acme/base-v1" in synced.out.splitlines()
    assert synced.out.splitlines()[-1] == "6 added · 0 updated · 0 unchanged · 0 removed · 1 renamed"
    assert family.log.weight_bytes_sent() == 0
    family.log.clear()
    tree = run("lineage", "ada/merge")
    assert tree.out.splitlines() == [
        "ada/merge",
        "  made from",
        "    ada/coder · merge; medium confidence: the card, the Hub's tag",
        "      acme/base-v1 · finetune; medium confidence: the card, the Hub's tag",
        "    ada/poet · merge; medium confidence: the card, the Hub's tag",
        "      acme/base-v1 · finetune; medium confidence: the card, the Hub's tag",
        "  became",
        "    ada/remerge · merge; high confidence: hubmerge.json, at dddddddddddd",
    ]
    assert len(family.log) == 0  # a question asks the catalog only


def test_several_models_give_a_line_for_the_recipe(run: Run, family: HubServer) -> None:
    run("sync", "--author", "ada", "--repo", "acme/base")
    several = run("lineage", "ada/poet", "ada/coder")
    assert several.out.splitlines()[-2:] == [
        "common ancestor: ada/poet is 1 step away; ada/coder is 1 step away; medium confidence",
        "base_model: acme/base-v1",
    ]
    assert run("lineage", "ada/poet", "ada/coder", "--format", "quiet").out == "acme/base-v1\n"
    told = json.loads(run("lineage", "ada/poet", "ada/coder", "--json").out)
    assert told["common_ancestor"]["reference"] == "acme/base-v1"
    assert told["common_ancestor"]["distances"] == {"ada/poet": 1, "ada/coder": 1}
    assert [one["reference"] for one in told["models"]] == ["ada/poet", "ada/coder"]
    one = run("lineage", "acme/base-v1", "ada/merge")
    assert one.out.splitlines()[-1] == "base_model: acme/base-v1"
    assert "acme/base-v1 is one of the models: as base_model it has no task vector of its own" in one.err


def test_lineage_as_json_is_complete(run: Run, family: HubServer) -> None:
    run("sync", "--author", "ada")
    told = json.loads(run("lineage", "ada/lora", "--json").out)
    assert list(told) == [
        "reference", "in_catalog", "ancestors", "descendants", "links", "unknown", "contradictions", "cycles",
    ]  # fmt: skip
    assert told["ancestors"] == [
        {
            "reference": "ada/poet", "distance": 1, "in_catalog": True, "relation": "adapter",
            "source": "adapter_config", "confidence": "high",
        },
        {
            "reference": "acme/base", "distance": 2, "in_catalog": False, "relation": "finetune",
            "source": "card", "confidence": "medium",
        },
    ]  # fmt: skip
    assert told["unknown"] == ["acme/base"]
    assert told["links"][0]["said_by"][0]["source"] == "adapter_config"


def test_a_parent_that_was_never_synced_has_a_lineage_too(run: Run, family: HubServer) -> None:
    run("sync", "--author", "ada")
    family.log.clear()
    tree = run("lineage", "acme/base")
    assert tree.out.splitlines()[:2] == ["acme/base (not in the catalog)", "  became"]
    assert len(family.log) == 0


def test_a_name_that_nobody_knows_is_an_error(run: Run, family: HubServer) -> None:
    run("sync", "--author", "ada")
    ended = run("lineage", "ada/nobody")
    assert ended.code == 1
    assert ended.err.startswith("error: there is no such model on the Hub, or it is private · ada/nobody · ")
    ended = run("lineage", "nobody")
    assert ended.err.startswith("error: 'nobody' is not in the catalog · ")


def test_models_without_a_common_ancestor_are_told_so(run: Run, family: HubServer, tmp_path: Path) -> None:
    run("sync", "--author", "ada")
    write_model(tmp_path / "alone")
    ended = run("lineage", "ada/poet", "./alone")
    assert ended.code == 0
    assert ended.out.splitlines()[-1] == "no common ancestor"
    assert "no common ancestor is declared" in ended.err


def test_a_model_of_the_hub_is_looked_at_without_a_catalog_and_without_weights(run: Run, family: HubServer) -> None:
    shown = run("show", "ada/poet", "--json")
    assert json.loads(shown.out)["commit"] == family.repository("ada/poet").head.id
    why = run("why", "ada/poet", "ada/coder")
    assert why.out.splitlines()[2].startswith("identical-shape: ")
    assert "base_model: acme/base" in why.out.splitlines()
    assert family.log.weight_bytes_sent() == 0


def test_why_and_compatible_tell_the_declared_ancestor(run: Run, family: HubServer) -> None:
    run("sync", "--author", "ada", "--repo", "acme/base")
    why = run("why", "ada/poet", "ada/coder")
    assert "base_model: acme/base-v1" in why.out.splitlines()
    reason = "common ancestor acme/base-v1: ada/poet is 1 step away; ada/coder is 1 step away; medium confidence"
    assert f"info   {reason}" in why.out.splitlines()
    matches = json.loads(run("compatible", "ada/poet", "--json").out)
    told = {match["reference"]: match["common_ancestor"]["reference"] for match in matches}
    assert told["ada/coder"] == "acme/base-v1"
    assert "ada/lora" in told


def test_weights_that_contradict_the_card_are_told(run: Run, tmp_path: Path) -> None:
    config = llama_config(hidden_size=16, head_dim=8, intermediate_size=32)
    write_model(tmp_path / "zoo" / "one", config=config, seed=1, card="---\nbase_model: org/base\n---\n")
    write_model(tmp_path / "zoo" / "two", config=config, seed=2, card="---\nbase_model: org/base\n---\n")
    run("sync", "zoo")
    assert (
        "warn   their weights show no common ancestor, although both are said to descend from org/base: "
        "an average of such models is seldom useful"
    ) in run("why", "one", "two").out.splitlines()


def test_an_adapter_fits_its_base_under_the_name_of_today(run: Run, hub: HubServer, tmp_path: Path) -> None:
    hub.add("acme/base", write_model(tmp_path / "made" / "base"))
    hub.add("ada/lora", write_adapter(tmp_path / "made" / "lora", base="acme/base"))
    hub.move("acme/base", "acme/other")
    run("sync", "--repo", "acme/base", "--repo", "ada/lora")
    assert run("why", "ada/lora", "acme/other", "--format", "quiet").out == "adapter-on-same-base\n"


def test_a_sync_in_a_process_of_its_own_takes_the_token_and_shows_it_nowhere(
    family: HubServer, hub_home: Path, tmp_path: Path
) -> None:
    family.edit("ada/poet", private=True)
    family.inject(Reply(500, message="sorry"), "/api/models/ada/lora", times=1)
    ended = subprocess.run(
        [sys.executable, "-m", "hubmerge", "zoo", "sync", "--author", "ada", "--repo", "ada/none"],
        env=family.environment(hub_home, family.token),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ended.stdout.splitlines()
    assert sorted(lines[:5]) == [f"added    ada/{name}" for name in ("coder", "lora", "merge", "poet", "remerge")]
    assert lines[5].startswith("refused  ada/none: there is no such model on the Hub, or it is private")
    assert family.log.weight_bytes_sent() == 0
    assert family.log.tokens_abroad() == ()
    written = b"".join(path.read_bytes() for path in hub_home.rglob("*") if path.is_file())
    assert family.token.encode() not in written
    assert family.token not in ended.stdout + ended.stderr


def test_limit_without_a_list_is_wrong_usage(run: Run) -> None:
    ended = run("sync", "--repo", "ada/model", "--limit", "3")
    assert ended.code == 2
    assert "it goes with --author or --search" in ended.err


def test_offline_sync_with_the_hub_is_one_error(run: Run) -> None:
    ended = run("sync", "--author", "ada")
    assert ended.code == 1
    assert ended.err.splitlines() == [
        "error: HF_HUB_OFFLINE is set, so the Hub is not asked · unset it, or use --cache for the models that are on this disk"
    ]


def test_sync_prints_what_is_gone(run: Run, family: HubServer) -> None:
    run("sync", "--author", "ada")
    family.edit("ada/lora", private=True)
    ended = run("sync", "--author", "ada")
    assert ended.out.splitlines()[0] == (
        "gone     ada/lora: it is no longer on the Hub, or private now; its record stays for the lineage of others"
    )
    assert ended.out.splitlines()[-1] == "0 added · 0 updated · 4 unchanged · 0 removed · 1 gone"


_NODE = r'    m\d+\["(?:[^"#%\n]|#\w+;)*"\]'
_ARROW = r'    m\d+ (?:-->|-\.->)\|"(?:[^"#\n]|#\w+;)*"\| m\d+'
_CLASS = r"    (?:classDef \w+ [\w:-]+(?: \d+)?;|class m\d+(?:,m\d+)* \w+;)"


def test_mermaid_has_a_node_for_each_model_and_an_arrow_for_each_step(run: Run, family: HubServer) -> None:
    run("sync", "--author", "ada")
    assert run("lineage", "ada/coder", "--format", "mermaid").out.splitlines() == [
        "flowchart TD",
        '    m0["ada/coder"]',
        '    m1["acme/base"]',
        '    m2["ada/merge"]',
        '    m3["ada/remerge"]',
        '    m1 -->|"finetune"| m0',
        '    m0 -->|"merge"| m2',
        '    m2 -->|"merge"| m3',
        "    classDef asked stroke-width:3px;",
        "    class m0 asked;",
        "    classDef unknown stroke-dasharray:4 4;",
        "    class m1 unknown;",
    ]


def test_characters_that_mermaid_reads_are_written_as_its_codes() -> None:
    edges = find_edges("me/child", card={"base_model": 'a"b<c>#`%%{init}'})
    drawn = draw_mermaid([LineageGraph({"me/child": "model"}, edges, {}).lineage("me/child")])
    assert '    m1["a#quot;b#lt;c#gt;#35;#96;#37;#37;{init}"]' in drawn.split("\n")


@given(st.lists(st.text(max_size=30), max_size=4))
def test_no_name_breaks_the_drawings(names: list[str]) -> None:
    edges = find_edges("me/child", card={"base_model": names})
    lineage = LineageGraph({"me/child": "model"}, edges, {}).lineage("me/child")
    first, *lines = draw_mermaid([lineage]).split("\n")
    assert first == "flowchart TD"
    for line in lines:
        assert re.fullmatch(f"{_NODE}|{_ARROW}|{_CLASS}", line), line
    assert next(draw_tree(lineage)) == "me/child"


def test_a_doubted_step_and_a_cycle_are_drawn_but_not_followed() -> None:
    family = {
        "a/x": {"card": {"base_model": "a/y"}, "config": {"_name_or_path": "b/other"}},
        "a/y": {"config": {"_name_or_path": "a/x"}},
    }
    edges = [edge for child, documents in family.items() for edge in find_edges(child, **documents)]
    lineage = LineageGraph(dict.fromkeys(family, "model"), edges, {}).lineage("a/x")
    lines = list(draw_tree(lineage))
    assert lines == [
        "a/x",
        "  made from",
        "    a/y · finetune; medium confidence: the card",
        "      ? a/x · unknown; low confidence: config.json",
        "    ? b/other (not in the catalog) · unknown; low confidence: config.json",
        "  became",
        "    ? a/y · unknown; low confidence: config.json",
        f"  a cycle, which cannot be: {' -> '.join(lineage.cycles[0])}",
        "  contradiction: a/x: the card names a/y, config.json names b/other",
    ]
    assert "-.->" in draw_mermaid([lineage])
