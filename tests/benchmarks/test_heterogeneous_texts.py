"""The texts of the benchmarks of models trained apart: what a word is, what code and what prose, and who meets whom."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.heterogeneous import text_data, texts
from benchmarks.heterogeneous.data import Division, calibration, divide
from benchmarks.heterogeneous.examples import Examples
from benchmarks.heterogeneous.measuring import Measured
from benchmarks.heterogeneous.rows import rows
from benchmarks.heterogeneous.settings import PARENTS, SEEDS, ImageSet, Recipe
from benchmarks.heterogeneous.tables import table
from benchmarks.heterogeneous.text_settings import PACKAGES, TEXT_PARENTS, TEXT_RECIPES, TEXT_SETTINGS
from benchmarks.heterogeneous.training import new_model

BY_NAME = {setting.name: setting for setting in TEXT_SETTINGS}


def test_names_are_taken_apart_at_underscores_and_capitals_and_signs_stand_alone() -> None:
    assert text_data.words("HTTPServer.get_item(loop2)") == [
        "http", "server", ".", "get", "item", "(", "loop", "2", ")",
    ]  # fmt: skip


def test_comments_and_strings_in_three_quotes_are_prose_and_all_else_is_code() -> None:
    source = 'def f(x):\n    """Says so."""\n    return "no" + x  # why\n'
    found: dict[ImageSet, list[str]] = {"code": [], "prose": []}
    for name, text in text_data.sorts(source):
        found[name] += text_data.words(text)
    assert found["prose"] == [*'"""', "says", "so", ".", *'"""', "#", "why"]
    assert found["code"] == ["def", "f", "(", "x", ")", ":", "return", '"', "no", '"', "+", "x"]


def library(sizes: Sequence[int]) -> Mapping[ImageSet, Mapping[str, list[str]]]:
    """Packages whose words of code are their own name and the word's number, and whose prose is one word."""
    code = {name: [f"{name}{i}" for i in range(size)] for name, size in zip(PACKAGES, sizes, strict=True)}
    return {"code": code, "prose": {name: ["the"] * 4 for name in PACKAGES}}


def test_pieces_are_evenly_spread_and_rare_words_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_data, "_library", lambda: library([12, *[8] * 7]))
    monkeypatch.setattr(text_data, "_numbers", lambda: {"the": 2, "asyncio0": 3, "asyncio5": 4, "xml7": 5})
    monkeypatch.setattr(text_data, "LENGTH", 4)
    monkeypatch.setattr(text_data, "PIECES", {"code": 2, "prose": 1})
    code = text_data.load_texts("code")
    assert code.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert code.inputs[:2].tolist() == [[0, 3, 1, 1, 1], [0, 1, 4, 1, 1]]  # the first and the second of three pieces
    assert code.inputs[-1].tolist() == [0, 1, 1, 1, 5]
    assert text_data.load_texts("prose").inputs.tolist() == [[0, 2, 2, 2, 2]] * 8


def test_a_package_that_is_too_small_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_data, "_library", lambda: library([12] * 8))
    monkeypatch.setattr(text_data, "_numbers", dict)
    told = r"^Python's library has 0 pieces of code in asyncio, 1200 are wanted$"
    with pytest.raises(RuntimeError, match=told):
        text_data.load_texts("code")


def test_words_are_numbered_by_how_frequent_they_are_and_then_by_alphabet(monkeypatch: pytest.MonkeyPatch) -> None:
    found = library([0] * 8)
    found["code"]["xml"].extend(["b", "a", "c", "c"])
    monkeypatch.setattr(text_data, "_library", lambda: found)
    monkeypatch.setattr(text_data, "WORDS", 5)
    text_data._numbers.cache_clear()
    assert text_data._numbers() == {"the": 2, "c": 3, "a": 4}
    text_data._numbers.cache_clear()


def test_every_parent_starts_from_numbers_of_its_own_and_parents_that_meet_have_one_stream() -> None:
    seeds = [parent.torch_seed(seed) for parent in (*PARENTS, *TEXT_PARENTS) for seed in SEEDS]
    assert len(set(seeds)) == len(PARENTS + TEXT_PARENTS) * len(SEEDS)
    for setting in TEXT_SETTINGS:
        base, donor = setting.parents
        assert base.torch_seed(0) != donor.torch_seed(0)
        known = {"shared": [8, 8], "disjoint": [4, 4]}[setting.labels]
        assert [len(base.labels), len(donor.labels)] == known
        assert len({*base.labels, *donor.labels}) == 8
    base, wider = (new_model(parent, 0) for parent in BY_NAME["wider"].parents)
    assert (base.config.intermediate_size, wider.config.intermediate_size) == (128, 192)
    assert base.config.hidden_size == wider.config.hidden_size == 64
    assert base.config.id2label == {number: str(number) for number in range(8)}


@pytest.mark.parametrize("name", BY_NAME)
def test_no_two_lines_of_a_table_of_texts_are_called_the_same(name: str) -> None:
    measured = rows(BY_NAME[name])
    assert len({row.key for row in measured}) == len({row.label for row in measured}) == len(measured)
    assert len({(str(row.arguments), row.calibration) for row in measured}) == len(measured)


def test_calibration_takes_as_many_texts_of_either_sort_as_ids() -> None:
    numbers = np.arange(400).reshape(-1, 1)
    sets = {"code": numbers, "prose": numbers + 1000}
    divisions: dict[ImageSet, Division] = {
        "code": Division(Examples(sets["code"], numbers[:, 0]), Examples(numbers[:0], numbers[:0, 0])),
        "prose": Division(Examples(sets["prose"], numbers[:, 0]), Examples(numbers[:0], numbers[:0, 0])),
    }
    (batch,) = calibration(BY_NAME["domain"], divisions, 100)
    assert batch["input_ids"].flatten().tolist()[:4] == [0, 1000, 1, 1001]


def test_a_table_of_texts_speaks_of_texts_and_packages() -> None:
    scores = {"first four": 90.0, "last four": 80.0, "mean": 85.0, "joint": 70.0}
    report = table(BY_NAME["split"], {0: [Measured("a", "one way", scores, 1.0, 2.0)]})
    assert report.name == "bert_split"
    assert report.title == "BERT: each trained on half of the packages"
    assert report.rows == [("one way", "1.00x", "90.0", "80.0", "85.0", "70.0", "2.0")]
    assert "joint: over all eight packages" in report.explanation
    assert "BatchNorm" not in report.explanation


@pytest.mark.real
def test_the_command_trains_merges_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def few(name: ImageSet) -> Examples:
        whole = text_data.load_texts(name)
        return divide(whole, 9).held_out

    monkeypatch.setattr("benchmarks.heterogeneous.measuring.load", few)
    monkeypatch.setitem(TEXT_RECIPES, ("bert", "code"), Recipe(1, 2e-3, 64, 0.05, 0))
    chosen = [row for row in rows(BY_NAME["same"]) if row.key in {"average", "pleas_auto"}]
    monkeypatch.setattr("benchmarks.heterogeneous.measuring.rows", lambda _setting: chosen)
    folders = ["--cache", str(tmp_path / "cache"), "--results", str(tmp_path / "results")]
    texts.main(["--settings", "same", "--seeds", "0", "--processes", "1", *folders])
    content = json.loads((tmp_path / "results" / "bert_same.json").read_text())
    assert content["command"] == "python -m benchmarks.heterogeneous.texts"
    keys = [measured["key"] for measured in content["measurements"]]
    assert keys == ["parent_0", "parent_1", "ensemble", "average", "pleas_auto"]
