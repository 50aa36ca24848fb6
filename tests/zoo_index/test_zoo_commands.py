"""`hubmerge zoo` as a user meets it: what it prints, and how it ends."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from zoo_builders import write_model
from zoo_running import Run


def test_sync_says_what_it_did_and_where_the_catalog_is(run: Run, zoo: Path) -> None:
    first = run("sync", "zoo")
    assert first.code == 0
    reason = "the model is quantised (gptq); its packed numbers cannot be averaged · use the unquantised model it was made from"
    assert first.out.splitlines() == [
        "added    base",
        "added    specialist-low",
        "added    lora",
        "added    quantised",
        "added    stranger",
        "added    wide",
        f"refused  quantised: {reason}",
        "6 added · 0 updated · 0 unchanged · 0 removed · 1 cannot be merged",
    ]
    assert first.err == f"catalog: {zoo.parent}/cache/zoo.duckdb\n"
    shutil.rmtree(zoo / "quantised")
    assert run("sync", "zoo").out.splitlines() == [
        f"removed  {zoo}/quantised",
        "0 added · 0 updated · 5 unchanged · 1 removed",
    ]


def test_sync_as_json_and_as_names(run: Run, zoo: Path) -> None:
    report = json.loads(run("sync", "zoo", "--json").out)
    assert list(report) == ["added", "updated", "unchanged", "removed", "refused", "renamed", "gone"]
    assert report["refused"][0]["reference"] == str(zoo / "quantised")
    assert len(run("sync", "zoo", "--format", "quiet").out.splitlines()) == 6


def test_sync_of_nothing_is_wrong_usage(run: Run) -> None:
    ended = run("sync")
    assert ended.code == 2
    assert "name at least one folder, --cache, --repo, --author or --search" in ended.err


def test_sync_of_a_folder_without_models_says_what_a_model_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = run("sync", "empty")
    assert ended.code == 0
    assert "no models there; a model is a folder with config.json or adapter_config.json" in ended.err


def test_sync_of_a_misspelt_folder_fails_and_offers_the_right_one(run: Run, zoo: Path) -> None:
    ended = run("sync", "zooo")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"error: {zoo}o does not exist · {zoo}o · did you mean {zoo}?\n"


def test_find_lists_models_in_columns(run: Run, zoo: Path) -> None:
    run("sync", "zoo")
    lines = run("find").out.splitlines()
    assert lines[0].split() == ["model", "kind", "type", "parameters", "dtype", "licence"]
    assert lines[1].split() == ["base", "model", "llama", "5,072", "float32", "mit"]
    assert [line.split()[0] for line in lines[1:]] == [
        "base",
        "specialist-low",
        "lora",
        "quantised",
        "stranger",
        "wide",
    ]
    assert lines[4].endswith("cannot be merged")


def test_find_takes_words_type_kind_and_limit(run: Run, zoo: Path) -> None:
    run("sync", "zoo")
    assert run("find", "low", "--format", "quiet").out == f"{zoo}/group/specialist-low\n"
    assert run("find", "--kind", "adapter", "--format", "quiet").out == f"{zoo}/lora\n"
    assert run("find", "--type", "resnet").err == "nothing matches\n"
    assert run("find", "--limit", "2").err == "2 of 6 shown; --limit 6 shows all\n"
    assert [row["reference"] for row in json.loads(run("find", "tiny", "--json").out)] == [str(zoo / "base")]


@pytest.mark.parametrize("arguments", [("find",), ("compatible", "base"), ("sync", "--author", "ada")])
@pytest.mark.parametrize(("limit", "told"), [("0", "greater than or equal to 1"), ("9" * 20, "less than or equal to")])
def test_a_limit_that_no_catalog_can_have_is_wrong_usage(
    run: Run, zoo: Path, arguments: tuple[str, ...], limit: str, told: str
) -> None:
    run("sync", "zoo")
    ended = run(*arguments, "--limit", limit)
    assert (ended.code, ended.out) == (2, "")
    assert f"Invalid value for '--limit': Input should be {told}" in ended.err


def test_find_of_another_kind_is_wrong_usage(run: Run) -> None:
    assert run("find", "--kind", "dataset").code == 2


@pytest.mark.parametrize("arguments", [("find",), ("compatible", "base")])
def test_without_a_catalog_the_error_says_how_to_make_one(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        f"error: there is no catalog yet · {tmp_path}/cache/zoo.duckdb · `hubmerge zoo sync FOLDER` makes one\n"
    )


def test_an_unknown_model_without_a_catalog_is_told_the_same(run: Run, tmp_path: Path) -> None:
    ended = run("show", "nothing")
    assert ended.code == 1
    assert ended.err == (
        f"error: no model 'nothing' here, and no catalog yet · {tmp_path}/cache/zoo.duckdb · "
        "`hubmerge zoo sync FOLDER` makes one\n"
    )


def test_an_empty_catalog_is_shown_kindly(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run("sync", "empty")
    assert run("find") == (0, "", "the catalog is empty; `hubmerge zoo sync FOLDER` fills it\n")
    assert "the catalog is empty: `hubmerge zoo sync FOLDER` fills it" in run("show", "x").err


def test_show_prints_a_fact_a_line(run: Run, zoo: Path) -> None:
    run("sync", "zoo")
    lines = run("show", "specialist-low").out.splitlines()
    assert lines[0].split() == ["model", f"{zoo}/group/specialist-low"]
    assert "parameters    5,072 in 21 tensors, 20,288 bytes, float32" in lines
    assert "licence       not stated" in lines
    assert "made from     zoo/base (finetune; medium confidence; card)" in lines


def test_show_of_an_adapter_names_rank_scale_and_base(run: Run, zoo: Path) -> None:
    run("sync", "zoo")
    lines = run("show", "lora").out.splitlines()
    assert "adapter       LORA, rank 2, alpha 4, on q_proj, v_proj" in lines
    assert "made from     zoo/base (adapter; high confidence; adapter_config)" in lines


def test_show_of_a_refused_model_says_why(run: Run, zoo: Path) -> None:
    run("sync", "zoo")
    assert "refused       the model is quantised (gptq)" in run("show", "quantised").out


def test_show_as_json_is_the_record_and_raw_is_what_was_read(run: Run, zoo: Path) -> None:
    run("sync", "zoo")
    record = json.loads(run("show", "base", "--json").out)
    assert (record["reference"], record["architecture"]["hard"]["hidden_size"]) == (str(zoo / "base"), 16)
    raw = json.loads(run("show", "base", "--raw").out)
    assert raw["README.md"] == {"license": "mit", "tags": ["tiny"]}
    assert raw["config.json"]["hidden_size"] == 16


def test_a_model_folder_needs_no_catalog(run: Run, zoo: Path) -> None:
    assert run("show", "zoo/base").code == 0
    assert run("show", "./zoo/base", "--format", "quiet").out == f"{zoo}/base\n"
    assert run("why", "zoo/base", "./zoo/wide", "--format", "quiet").out == "different-size\n"
    assert not (zoo.parent / "cache").exists()


def test_a_folder_outside_the_catalog_can_be_compared_with_those_in_it(run: Run, zoo: Path, tmp_path: Path) -> None:
    run("sync", "zoo")
    shutil.copytree(zoo / "base", tmp_path / "new")
    lines = run("compatible", "./new").out.splitlines()
    assert lines[1].split()[:4] == ["base", "identical-shape", "likely", "1"]


def test_compatible_lists_the_best_first_with_remarks(run: Run, zoo: Path) -> None:
    run("sync", "zoo")
    lines = run("compatible", "base").out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["specialist-low", "identical-shape"],
        ["lora", "adapter-on-same-base"],
        ["stranger", "by-alignment"],
        ["wide", "different-size"],
    ]
    assert lines[4].endswith("hidden_size 16 vs 32; head_dim 8 vs 16")
    rows: list[dict[str, Any]] = json.loads(run("compatible", "base", "--json").out)
    assert [row["same_ancestor"] for row in rows] == ["likely", None, "unlikely", None]
    assert run("compatible", "base", "--limit", "1").err == "1 of 4 shown; --limit 4 shows all\n"


def test_compatible_of_a_refused_model_says_why_there_is_none(run: Run, zoo: Path) -> None:
    run("sync", "zoo")
    ended = run("compatible", "quantised")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith("quantised cannot be merged: the model is quantised (gptq)")


def test_why_gives_level_ancestor_and_reasons(run: Run, zoo: Path) -> None:
    run("sync", "zoo")
    lines = run("why", "base", "stranger").out.splitlines()
    assert lines[:3] == [
        f"A  {zoo}/base (llama, 5,072 parameters)",
        f"B  {zoo}/stranger (llama, 5,072 parameters)",
        "by-alignment: same architecture, but other widths or depths or no common ancestor: their units are to be matched first",
    ]
    assert lines[3].startswith("same ancestor: unlikely (cosine of sampled weights ")
    assert lines[4] == "warn   their weights show no common ancestor: an average of such models is seldom useful"
    assert lines[5] == (
        "info   their units can be matched on data: write merge_method: pleas with calibration data into a recipe, and "
        "`hubmerge plan` says what it makes of them; align before any other method brings one to the other's units"
    )
    answer = json.loads(run("why", "base", "wide", "--json").out)
    assert (answer["level"], answer["reasons"][0]["left"], answer["reasons"][0]["right"]) == ("different-size", 16, 32)


def test_a_changed_or_vanished_folder_is_noted(run: Run, zoo: Path) -> None:
    run("sync", "zoo")
    assert run("show", "base").err == ""
    (zoo / "base" / "README.md").unlink()
    assert (
        run("show", "base").err == f"base has changed since the last sync; `hubmerge zoo sync {zoo}` reads it again\n"
    )
    shutil.rmtree(zoo / "base")
    ended = run("show", "base")
    assert ended.code == 0
    assert ended.err == f"base is gone from {zoo}/base since the last sync; `hubmerge zoo sync {zoo}` forgets it\n"


def test_a_name_that_is_a_folder_here_and_another_model_in_the_catalog_is_ambiguous(run: Run, zoo: Path) -> None:
    run("sync", "zoo")
    write_model(zoo.parent / "base")
    ended = run("show", "base")
    assert ended.code == 1
    assert ended.err == (
        f"error: base is a folder here and another model in the catalog · {zoo}/base · "
        "write ./base for the folder, or more of the other's path\n"
    )
    assert run("show", "./base", "--format", "quiet").out == f"{zoo.parent}/base\n"
    assert run("show", "zoo/base", "--format", "quiet").out == f"{zoo}/base\n"


def test_a_misspelt_path_is_told_of_its_neighbour(run: Run, zoo: Path) -> None:
    run("sync", "zoo")
    assert run("show", "./zoo/bse").err == "error: zoo/bse does not exist · ./zoo/bse · did you mean zoo/base?\n"


def test_a_folder_that_is_no_model_fails(run: Run, zoo: Path) -> None:
    ended = run("show", "zoo")
    assert ended.code == 1
    assert "so this is neither a model nor an adapter" in ended.err


def test_a_catalog_can_be_named(run: Run, zoo: Path, tmp_path: Path) -> None:
    assert run("sync", "zoo", "--catalog", "own.duckdb").err == "catalog: own.duckdb\n"
    assert run("find", "--catalog", "own.duckdb", "--format", "quiet").out.count("\n") == 6
    (tmp_path / "broken.duckdb").write_bytes(b"no")
    assert run("find", "--catalog", "broken.duckdb") == (
        1,
        "",
        "error: the file is damaged or not a catalog · broken.duckdb · delete it, and `hubmerge zoo sync FOLDER` again\n",
    )


@pytest.mark.parametrize(
    ("base", "adapter"),
    [("base", "lora"), ("./zoo/base", "./zoo/lora"), ("org/base", "org/lora"), ("org/base", "lora")],
)
@pytest.mark.parametrize("synced", [False, True])
def test_base_and_adapter_together_are_two_models_and_not_taken_as_one(
    run: Run, zoo: Path, base: str, adapter: str, synced: bool
) -> None:
    if synced:
        run("sync", "zoo")
    told = f"error: '{base}+{adapter}' is two models, a base and an adapter · name one of them: {base} or {adapter}\n"
    assert run("show", f"{base}+{adapter}") == (1, "", told)
    assert run("why", f"{base}+{adapter}", str(zoo / "wide")) == (1, "", told)


def test_a_name_with_a_plus_that_is_no_base_and_adapter_is_unknown(run: Run, zoo: Path) -> None:
    run("sync", "zoo")
    for name in ("c++", "a+", "+a"):
        assert run("show", name).err.startswith(f"error: '{name}' is not in the catalog")
    assert run("show", "./c++").err.startswith("error: c++ does not exist · ./c++ · ")


def test_a_base_and_an_adapter_too_long_for_a_file_name_are_two_models_too(run: Run) -> None:
    assert run("show", f"a+{'b' * 5000}").err.startswith("error: 'a+bbb")


def test_a_folder_with_a_plus_in_its_name_is_one_model(run: Run, zoo: Path) -> None:
    shutil.copytree(zoo / "base", zoo.parent / "a+b")
    assert run("show", "./a+b", "--format", "quiet").out == f"{zoo.parent}/a+b\n"
    run("sync", "a+b")
    assert run("show", "a+b", "--format", "quiet").out == f"{zoo.parent}/a+b\n"


def test_a_folder_of_a_user_without_a_home_is_one_error(run: Run) -> None:
    for ended in (run("sync", "~nobody-here/zoo"), run("show", "~nobody-here/zoo")):
        assert ended.code == 1
        assert ended.err.startswith("error: ")
        assert "does not exist" in ended.err
