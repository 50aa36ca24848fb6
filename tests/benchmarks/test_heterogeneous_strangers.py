"""The benchmark of tiny language models of other random weights: texts, losses, models, task vectors, tables and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from math import log
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from language_toys import llama

from benchmarks.heterogeneous import stranger_data, stranger_models, stranger_tables, strangers
from benchmarks.heterogeneous.language_data import Blocks, Sort, evenly_spread
from benchmarks.heterogeneous.language_parents import random_order, train_on_blocks
from benchmarks.heterogeneous.stranger_data import calibration_pieces, losses, numbers, told_apart
from benchmarks.heterogeneous.stranger_models import new_stranger
from benchmarks.heterogeneous.stranger_rows import CARRIED, MERGED, PAIRS, Merge, Pair, Part
from benchmarks.heterogeneous.stranger_settings import (
    ARCHITECTURES,
    CHARACTERS,
    STRANGER_SEEDS,
    STRANGERS,
    TRAININGS,
    Training,
)
from benchmarks.heterogeneous.stranger_tables import Found, compared_table, labels_of, loss_table
from hubmerge.symmetry import spec_of


def test_code_and_prose_of_a_file_are_told_apart() -> None:
    source = 'def f(x):\n    """Says\n    so."""\n    return x  # why\n'
    assert told_apart(source)["prose"] == '"""Says so."""\n# why'
    assert told_apart(source)["code"].split() == ["def", "f", "(", "x", ")", ":", "return", "x"]


def test_characters_have_their_place_in_the_vocabulary_and_others_are_left_out() -> None:
    assert len(CHARACTERS) == len(set(CHARACTERS)) == 96
    assert numbers("\n\t é~") == [0, 1, 95]


def test_held_out_pieces_are_from_all_over_them() -> None:
    assert evenly_spread(torch.arange(10), 4).tolist() == [0, 2, 5, 7]


def few_pieces(monkeypatch: pytest.MonkeyPatch) -> dict[Sort, Blocks]:
    """200 pieces of four characters, of code the characters 1, of prose 2, in the place of the library's; two of each are held out."""
    found: dict[Sort, Blocks] = {
        "code": Blocks(torch.full((200, 4), 1), torch.full((2, 4), 1)),
        "prose": Blocks(torch.full((200, 4), 2), torch.full((2, 4), 2)),
    }
    for module in (stranger_data, stranger_models):
        monkeypatch.setattr(module, "pieces", lambda: found)
    return found


def test_calibration_is_half_code_and_half_prose_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    few_pieces(monkeypatch)
    seen, again, other = (torch.cat([b["input_ids"] for b in calibration_pieces(seed)]) for seed in (3, 3, 4))
    assert seen.shape == (256, 4)
    assert [int((seen[:, 0] == sort).sum()) for sort in (1, 2)] == [128, 128]
    assert torch.equal(seen, again)
    assert not torch.equal(seen, other)


def fixed(*probabilities: float) -> Any:
    """A model that always gives these probabilities."""
    return lambda input_ids: SimpleNamespace(logits=torch.tensor(probabilities).log().expand(*input_ids.shape, -1))


def test_a_loss_is_of_every_character_but_first_ones_and_of_several_models_of_their_mean_probability() -> None:
    held_out: dict[Sort, torch.Tensor] = {"code": torch.tensor([[0, 1, 1], [0, 1, 0]])}
    one, two = fixed(0.5, 0.5), fixed(0.9, 0.1)
    assert losses((one,), held_out)["code"] == pytest.approx(log(2))
    assert losses((two,), held_out)["code"] == pytest.approx(-(3 * log(0.1) + log(0.9)) / 4)
    assert losses((one, two), held_out)["code"] == pytest.approx(-(3 * log(0.3) + log(0.7)) / 4)


def test_every_model_is_trained_after_the_one_it_starts_from_with_numbers_of_its_own() -> None:
    names = [each.name for each in STRANGERS]
    assert all(each.start in ("", *names[:place]) for place, each in enumerate(STRANGERS))
    assert {each.stage for each in STRANGERS} == set(TRAININGS)
    assert len({1000 * seed + each.number for seed in STRANGER_SEEDS for each in STRANGERS}) == 5 * len(STRANGERS)
    assert {f"{carry.donor}-base" for carry in CARRIED} < set(names)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_wide_model_has_more_heads_of_the_same_size(architecture: Any) -> None:
    configs = [new_stranger(architecture, width).config for width in (64, 96)]
    assert [config.hidden_size // config.num_attention_heads for config in configs] == [16, 16]
    assert [config.num_attention_heads for config in configs] == [4, 6]
    assert [config.hidden_size for config in configs] == [64, 96]


def test_a_model_is_trained_once_and_again_only_when_what_it_started_from_was_trained_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few_pieces(monkeypatch)
    monkeypatch.setattr(stranger_models, "new_stranger", lambda _architecture, _width: llama())
    monkeypatch.setattr(stranger_models, "STRANGERS", STRANGERS[:2])
    short = {stage: Training(stage, steps=1, batch=2, rate=1e-2, decay=0.0) for stage in TRAININGS}
    monkeypatch.setattr(stranger_models, "TRAININGS", short)

    def trained() -> list[str]:
        models = stranger_models.strangers(tmp_path, "llama", 0)
        assert list(models) == ["base", "tuned"]
        assert not any(model.training for model in models.values())
        return [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]

    assert trained() == ["seed 0 llama base", "seed 0 llama tuned"]
    assert trained() == []
    short["prose"] = replace(short["prose"], steps=2)
    assert trained() == ["seed 0 llama tuned"]
    short["nothing"] = replace(short["nothing"], steps=2)
    assert trained() == ["seed 0 llama base", "seed 0 llama tuned"]


def test_a_task_vector_in_a_random_order_has_the_same_numbers_in_other_places() -> None:
    base = llama()
    model = llama()
    train_on_blocks(model, Training("t", 5, 2, 1e-2, 0.0), torch.arange(20).reshape(4, 5), 0, half=False)
    other = strangers.with_random_order(model, base, 3)
    start, end, moved = base.state_dict(), model.state_dict(), other.state_dict()
    for name in start:
        learned, in_order = end[name] - start[name], moved[name] - start[name]
        assert torch.allclose(learned.flatten().sort().values, in_order.flatten().sort().values, atol=1e-6), name
        assert not torch.allclose(learned, in_order, atol=1e-4), name
    up = "model.layers.0.mlp.up_proj.weight"
    orders = random_order(spec_of(base), 3)
    rows, columns = (orders[factor.group].order for factor in spec_of(base).tensors[up].factors if factor.group)
    there = (end[up] - start[up])[torch.as_tensor(rows)][:, torch.as_tensor(columns)]
    assert torch.allclose(moved[up] - start[up], there, atol=1e-6)


def test_ways_of_merging_and_of_carrying_are_told_apart_and_pairs_name_lines_that_are_there() -> None:
    for ways in (MERGED, CARRIED):
        assert len({way.key for way in ways}) == len({way.label for way in ways}) == len(ways)
    assert len({(str(way.arguments), way.untied) for way in MERGED}) == len(MERGED)
    assert len(set(PAIRS)) == len(PAIRS)
    assert all({pair.key, pair.other} <= set(labels_of(pair.part)) for pair in PAIRS)


def test_heads_get_rows_of_their_own_before_a_merge_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    few_pieces(monkeypatch)
    given: dict[str, list[bool]] = {}

    def merge(models: Any, _batches: Any, *, align: str, seed: int) -> Any:
        given[align] = [model.config.tie_word_embeddings for model in models]
        assert seed == 3
        return SimpleNamespace(model=models[0])

    monkeypatch.setattr("hubmerge.heterogeneous.merge_models", merge)
    ways = [Merge("a", "a", {"align": "tied"}), Merge("b", "b", {"align": "untied"}, untied=True)]
    monkeypatch.setattr(strangers, "MERGED", ways)
    lines = strangers._merged({"base": llama(), "other": llama()}, [], 3)
    assert given == {"tied": [True, True], "untied": [False, False]}
    assert list(lines) == ["base", "other", "ensemble", "a", "b"]
    assert lines["b"] == pytest.approx(lines["base"])  # it computes the same


def found_of(part: Part) -> Found:
    """The n-th line has n and twice n with seed 0, and one and three more with seed 1; GPT-2's have ten more."""
    return {
        architecture: {
            seed: {
                key: {"code": ten + place + seed, "prose": ten + 2.0 * place + 3 * seed}
                for place, key in enumerate(labels_of(part))
            }
            for seed in (0, 1)
        }
        for architecture, ten in (("llama", 0.0), ("gpt2", 10.0))
    }


def test_a_table_of_losses_has_means_and_standard_errors_and_every_seed() -> None:
    report = loss_table("merged", found_of("merged"))
    assert report.columns == ("model", "Llama: code", "Llama: prose", "GPT-2: code", "GPT-2: prose")
    cells = ("1.500 ± 0.500", "3.500 ± 1.500", "11.500 ± 0.500", "13.500 ± 1.500")
    assert report.rows[1] == ("the other alone", *cells)
    assert report.measurements[1]["key"] == "other"
    llama = report.measurements[1]["llama"]
    assert llama["seeds"] == {"0": {"code": 1.0, "prose": 2.0}, "1": {"code": 2.0, "prose": 5.0}}
    assert llama["mean"] == {"code": 1.5, "prose": 3.5}
    assert llama["standard_error"] == pytest.approx({"code": 0.5, "prose": 1.5})
    assert "over 2 seeds" in report.explanation


def test_lines_are_compared_seed_by_seed() -> None:
    found = {part: found_of(part) for part in ("merged", "carried")}
    found["carried"]["llama"][1]["tuned"] = {"code": 0.0, "prose": 3.0}
    report = compared_table(found)
    place = next(place for place, pair in enumerate(PAIRS) if (pair.key, pair.other) == ("tuned", "base"))
    labels = ("(the target trained on prose itself)", "nothing")
    assert report.rows[place] == (*labels, "+0.000 ± 1.000", "+1.000 ± 1.000", "+1.000 ± 0.000", "+2.000 ± 0.000")
    assert report.measurements[place]["part"] == "carried"


@pytest.mark.real
def test_the_command_trains_merges_carries_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stranger_data, "PACKAGES", ("xml",))
    monkeypatch.setattr(stranger_data, "HELD_OUT_PIECES", 20)
    few = stranger_data.pieces.__wrapped__()
    for module in (stranger_data, stranger_models):
        monkeypatch.setattr(module, "pieces", lambda: few)
    short = {stage: replace(training, steps=2, batch=2) for stage, training in TRAININGS.items()}
    monkeypatch.setattr(stranger_models, "TRAININGS", short)
    merged = [way for way in MERGED if way.key == "average"]
    carried = [carry for carry in CARRIED if carry.key in {"sibling", "random_half"}]
    for module in (strangers, stranger_tables):
        monkeypatch.setattr(module, "MERGED", merged)
        monkeypatch.setattr(module, "CARRIED", carried)
    monkeypatch.setattr(stranger_tables, "PAIRS", (Pair("carried", "sibling", "tuned"),))
    folders = ["--cache", str(tmp_path / "cache"), "--results", str(tmp_path / "results")]
    strangers.main(["--seeds", "0", "--architectures", "llama", *folders])
    contents = [
        json.loads((tmp_path / "results" / f"strangers_{name}.json").read_text())
        for name in ("merged", "carried", "compared")
    ]
    assert {content["command"] for content in contents} == {"python -m benchmarks.heterogeneous.strangers"}
    assert [[line["key"] for line in content["measurements"]] for content in contents] == [
        ["base", "other", "ensemble", "average"],
        ["base", "tuned", "sibling", "random_half"],
        ["sibling"],
    ]
    assert contents[1]["columns"] == ["what is added to the target", "Llama: code", "Llama: prose"]
