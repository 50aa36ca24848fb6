"""The benchmarks of language models: blocks, bits, models in another order, and what is lost."""

from __future__ import annotations

from math import log2
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from language_toys import llama

from benchmarks.heterogeneous.keeping import is_kept, keep
from benchmarks.heterogeneous.language_data import Blocks, Sort, bits_per_byte, calibration_blocks, cut, probe_blocks
from benchmarks.heterogeneous.language_lines import Line, bits_table, in_words, lines_of
from benchmarks.heterogeneous.language_models import TRANSPORTS, WAYS
from benchmarks.heterogeneous.language_parents import reordered
from benchmarks.heterogeneous.language_settings import BLOCK, CALIBRATION_BLOCKS, PROBE_BLOCKS
from benchmarks.heterogeneous.saving import measured_by


def test_texts_are_cut_into_whole_blocks() -> None:
    blocks = cut(list(range(2 * BLOCK + 5)))
    assert blocks.shape == (2, BLOCK)
    assert blocks[:, 0].tolist() == [0, BLOCK]


def test_bits_are_counted_for_every_byte_but_those_of_first_tokens() -> None:
    def model(input_ids: torch.Tensor) -> SimpleNamespace:
        """A quarter for each of four tokens."""
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 4))

    tokenizer = SimpleNamespace(convert_ids_to_tokens=lambda ids: ["abcd"[: 1 + number] for number in ids])
    blocks = torch.tensor([[3, 0, 1], [3, 2, 2]])  # of 1, 2, 3 and 3 bytes are told
    assert bits_per_byte(model, blocks, tokenizer) == pytest.approx(4 * log2(4) / 9)


def test_calibration_takes_as_many_texts_of_either_sort_in_turn_and_a_probe_others() -> None:
    blocks: dict[Sort, Blocks] = {
        "code": Blocks(torch.arange(60).reshape(60, 1), torch.zeros(0, 1)),
        "prose": Blocks(1000 + torch.arange(60).reshape(60, 1), torch.zeros(0, 1)),
    }
    given = [batch["input_ids"].flatten().tolist() for batch in calibration_blocks(blocks, 3)]
    assert [len(part) for part in given] == [8] * (CALIBRATION_BLOCKS // 4)
    seen = [token for part in given for token in part]
    assert [token >= 1000 for token in seen] == [False, True] * CALIBRATION_BLOCKS
    assert len({*seen}) == 2 * CALIBRATION_BLOCKS
    again, other = (torch.cat([b["input_ids"] for b in calibration_blocks(blocks, seed)]) for seed in (3, 4))
    assert again.flatten().tolist() == seen != other.flatten().tolist()
    probe = probe_blocks(blocks, 3)
    told = torch.cat([batch["labels"] for batch in probe]).flatten().tolist()
    assert [token >= 1000 for token in told] == [False, True] * PROBE_BLOCKS
    assert not {*seen} & {*told}
    assert all(batch["labels"] is batch["input_ids"] for batch in probe)


def test_a_reordered_model_computes_the_same_with_every_layer_in_another_order() -> None:
    model = llama()
    other = reordered(model, 0)
    asked = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        assert torch.allclose(model(asked).logits, other(asked).logits, atol=1e-5)
    ours, theirs = model.state_dict(), other.state_dict()
    assert not any(torch.equal(ours[name], theirs[name]) for name in ours if "norm" not in name)
    up = "model.layers.0.mlp.up_proj.weight"
    assert ours[up].abs().sum() == pytest.approx(theirs[up].abs().sum().item())  # no scales
    assert not torch.equal(reordered(model, 1).state_dict()[up], theirs[up])


def lines(best: float, own: float) -> dict[str, Line]:
    return {
        "best": Line("best", "the best", {"code": best, "prose": best}),
        "own": Line("own", "own", {"code": own, "prose": own + 1}, 2.0),
    }


def test_what_is_lost_is_the_mean_above_the_reference_seed_by_seed() -> None:
    report = bits_table("n", "t", "e", {0: lines(1.0, 1.5), 1: lines(2.0, 2.25)}, ("best", "own"), "best", {})
    assert report.rows == [
        ("the best", "1.000 2.000", "1.000 2.000", "+0.000 +0.000", "-"),
        ("own", "1.500 2.250", "2.500 3.250", "+1.000 +0.750", "2 2"),
    ]
    assert report.measurements[1]["lost"] == [1.0, 0.75]


def test_a_line_that_one_seed_lacks_is_shown_for_the_others_and_one_that_none_has_is_not() -> None:
    found = {0: lines(1.0, 1.5), 1: {"best": lines(2.0, 0.0)["best"]}}
    report = bits_table("n", "t", "e", found, ("own", "other", "best"), "best", {})
    assert report.rows[0] == ("own", "1.500 -", "2.500 -", "+1.000 -", "2 -")
    assert [row[0] for row in report.rows] == ["own", "the best"]


def test_lines_are_read_back_from_what_a_table_leaves() -> None:
    found = {0: lines(1.0, 1.5), 3: {"best": lines(2.0, 0.0)["best"]}}
    report = bits_table("n", "t", "e", found, ("best", "own"), "best", {"seeds": [0, 3]})
    content = {"options": report.options, "rows": report.rows, "measurements": report.measurements}
    assert lines_of(content) == found


def test_a_note_says_when_lines_were_measured_that_no_earlier_note_has() -> None:
    when = {"date": "d", "seconds": 1, "load": [0, 0], "machine": {}, "versions": {}, "commit": "c"}
    first = measured_by(when, {0: ("a", "b")})
    assert first == [{"lines": {"0": ["a", "b"]}, **when}]
    later = {**when, "commit": "e", "kept": first}
    assert measured_by(later, {0: ("a", "b"), 1: ("a",)}) == [*first, {"lines": {"1": ["a"]}, **when, "commit": "e"}]
    assert measured_by(later, {0: ("a", "b")}) == first


def test_seeds_are_named_in_words() -> None:
    assert [in_words(seeds) for seeds in ((0,), (0, 1), (0, 1, 2))] == ["seed 0", "seeds 0 and 1", "seeds 0, 1 and 2"]


def test_ways_of_merging_are_told_apart() -> None:
    every = (*WAYS, *TRANSPORTS)
    assert len({way.key for way in every}) == len({way.label for way in every}) == len(every)
    assert len({str(way.arguments) for way in WAYS}) == len(WAYS)


def test_a_kept_model_is_known_by_what_it_was_trained_by(tmp_path: Path) -> None:
    model, place = llama(), tmp_path / "seed0" / "small"
    facts = {"recipe": {"steps": 3, "labels": (1, 2)}}
    assert not is_kept(place, facts)
    keep(model, place, facts, loss=1.5)
    assert is_kept(place, facts)
    assert not is_kept(place, {"recipe": {"steps": 4}})
    assert '"loss": 1.5' in (place / "trained.json").read_text()
    keep(model, place, {"recipe": {"steps": 4}})
    assert is_kept(place, {"recipe": {"steps": 4}})
    assert [path.name for path in place.parent.iterdir()] == ["small"]
