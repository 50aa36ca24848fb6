"""The benchmark of time and memory: every stage runs on models of a few units, and the tables' lines are what they say."""

from __future__ import annotations

import json

import pytest

from benchmarks.heterogeneous.sizes import SMOLLM2, write_learned, write_pair
from benchmarks.heterogeneous.sizes_stages import STAGES, Stage, main
from hubmerge.heterogeneous import paging

TINY = {
    **SMOLLM2,
    "hidden_size": 24,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "vocab_size": 40,
}


def test_the_sizes_are_those_of_a_model_of_135_million_parameters() -> None:
    wide, inner, layers, words = (
        SMOLLM2[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
    )
    one_layer = 2 * wide * wide + 2 * wide * wide // 3 + 3 * wide * inner + 2 * wide
    assert words * wide + layers * one_layer + wide == 134_515_008


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return write_pair(tmp_path_factory.mktemp("pair"), TINY)


@pytest.fixture(scope="module")
def three(pair: tuple[str, str]) -> tuple[str, str, str]:
    return (*pair, write_learned(pair[1]))


@pytest.mark.parametrize("what", [name for name in STAGES if name != "assignment"])
def test_every_stage_is_done_and_told(
    what: str, three: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folders = three if what.startswith("carrying") else three[:2]
    main([json.dumps({"what": what, "folders": folders, "samples": 9, "width": 0})])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told.keys() == {"loading", "seconds", "clock", "before", "loaded", "mapped", "peak", "anonymous", "disk"}
    assert told["loading"] > 0


def test_an_assignment_finds_every_unit(capsys: pytest.CaptureFixture[str]) -> None:
    main([json.dumps({"what": "assignment", "folders": (), "samples": 600, "width": 40})])
    assert json.loads(capsys.readouterr().out)["seconds"] > 0


@pytest.mark.real
def test_a_stage_in_a_process_of_its_own_is_the_same(pair: tuple[str, str]) -> None:
    from benchmarks.heterogeneous.sizes_stages import run_stage

    assert run_stage(Stage("loading", pair)).loading > 0


def test_a_fit_with_no_room_writes_to_the_disk(
    pair: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "_LEAST", 1)
    main([json.dumps({"what": "averaging and least squares", "folders": pair, "samples": 64, "width": 0, "room": 0})])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["disk"] > 0
