"""Every benchmark of the engine runs, at toy size, and leaves a table and JSON that the documentation can be written from."""

from __future__ import annotations

import json
import os
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.engine import accuracy, digests, floor, growth, memory, methods, peers, start
from benchmarks.engine.child import Work, run_child
from benchmarks.engine.measuring import Cost, Pair, interleaved, ratio
from benchmarks.engine.models import SIZES, make_models, make_partly_sparse_models
from benchmarks.engine.options import Options
from benchmarks.engine.recipes import entrywise_methods, inputs, recipe
from benchmarks.engine.references import REFERENCES
from benchmarks.engine.report import verdict
from hubmerge.plan import build_plan

Main = Callable[[Sequence[str]], None]

MERGEKIT = os.environ.get("HUBMERGE_BENCH_MERGEKIT")
needs_mergekit = pytest.mark.skipif(
    not MERGEKIT, reason="HUBMERGE_BENCH_MERGEKIT names no environment with mergekit 0.1.5"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def run(cache: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run a benchmark's command; what it wrote into the JSON."""

    def run(main: Main, name: str, *arguments: str) -> dict[str, Any]:
        main([*arguments, "--models", str(cache), "--results", str(tmp_path)])
        content: dict[str, Any] = json.loads((tmp_path / f"{name}.json").read_text())
        assert {len(row) for row in content["rows"]} == {len(content["columns"])}
        assert len(content["rows"]) == len(content["measurements"])
        assert {"date", "commit", "load", "machine", "versions", "options", "explanation"} <= content.keys()
        assert not [path for path in cache.iterdir() if path.name.startswith("scratch")]
        return content

    return run


def test_the_floor_is_measured_for_two_and_three_inputs(run: Callable[..., dict[str, Any]]) -> None:
    content = run(floor.main, "floor", "--size", "toy", "--pairs", "2")
    assert [row[0] for row in content["rows"]] == ["2", "3"]
    assert [len(measured["costs"]) for measured in content["measurements"]] == [2, 2]


def test_the_floor_writes_as_many_bytes_where_the_merge_would_write_them(tmp_path: Path) -> None:
    tensors = os.urandom(3 * floor.CHUNK + 5)
    paths = [tmp_path / name for name in ("a", "b")]
    for path, header in zip(paths, (b"{}", b"{    }"), strict=True):
        path.write_bytes(len(header).to_bytes(8, "little") + header + tensors)
    floor.floor(paths, tmp_path / "out", jobs=2, start=24)
    assert (tmp_path / "out").read_bytes() == bytes(24) + tensors


def test_methods_are_held_against_their_goals(run: Callable[..., dict[str, Any]]) -> None:
    content = run(methods.main, "methods", "--size", "toy", "--pairs", "2", "--methods", "linear", "passthrough")
    linear, passthrough = content["rows"]
    assert linear[:2] == ["`linear`", "2"]
    assert linear[6] == "≤ 1.6"
    assert passthrough[-2:] == ["-", "-"]
    pairs = content["measurements"][0]["pairs"]
    assert [sorted(pair) for pair in pairs] == [["other", "ours"]] * 2


def test_every_goal_is_that_of_a_method_there_is() -> None:
    assert set(methods.TARGETS) <= set(entrywise_methods())
    assert set(peers.TARGETS) <= set(entrywise_methods())


@pytest.mark.parametrize("method", entrywise_methods())
def test_every_entrywise_method_has_a_recipe_to_measure_it_with(method: str, cache: Path, tmp_path: Path) -> None:
    models = make_models(Options(cache, tmp_path, None), "toy")
    content = recipe(method, models.base, models.parents)
    plan = build_plan(content)
    assert plan.method.name == method
    assert plan.parameters == models.size.parameters
    assert len(plan.parents) == len(inputs(content))


def test_every_reference_is_of_a_method_there_is() -> None:
    assert set(REFERENCES) | set(accuracy.RANDOM) <= set(entrywise_methods())
    assert not set(REFERENCES) & set(accuracy.RANDOM)


def test_memory_is_measured_in_a_process_of_its_own(run: Callable[..., dict[str, Any]]) -> None:
    content = run(memory.main, "memory", "--sizes", "--sparse", "toy", "--methods", "linear")
    (part,) = content["measurements"]
    assert part["footprint"]["entries"] == 300 * 64 + 2 * 64 + 4 * 64 * 64 + 3 * 128 * 64  # the embedding and a layer
    assert content["rows"][0][-2:] == ["≤ 64", "reached"]


def test_memory_that_a_merge_needs_is_seen(cache: Path, tmp_path: Path) -> None:
    models = make_models(Options(cache, tmp_path, None), "0.03", parents=1)
    warm = make_models(Options(cache, tmp_path, None), "toy", parents=1)
    work = [recipe("iso_c", each.base, each.parents) for each in (models, warm)]
    found = run_child(Work(work[0], work[1], str(tmp_path / "out"), 1, only=("model.layers.0.mlp.",)))
    matrix = 4 * 384 * 1024  # bytes in float32; the method holds several at once
    assert found.anonymous > 3 * matrix
    assert found.peak > found.before


def test_growth_measures_a_point_that_lies_on_two_lines_once(run: Callable[..., dict[str, Any]]) -> None:
    jobs = str(floor.cores())
    lines = ["--sizes", "toy", "--parents", "2", "--parents-size", "toy", "--threads", jobs, "--threads-size", "toy"]
    content = run(growth.main, "growth", "--methods", "linear", "--repeats", "1", *lines)
    assert [row[:4] for row in content["rows"]] == [["`linear`", "toy B", "2", jobs]]
    assert content["measurements"][0]["footprints"][0]["entries"] == SIZES["toy"].parameters


def test_a_start_is_watched_until_the_first_merged_bytes(run: Callable[..., dict[str, Any]]) -> None:
    content = run(start.main, "start", "--size", "toy", "--repeats", "1", "--methods", "linear")
    assert [row[1] for row in content["rows"]] == [
        "first sample read",
        "first chunk read",
        "first chunk merged",
        "its end",
    ]
    moments = content["measurements"][0]["runs"][0]
    assert 0 < moments["sample"]["cpu"] <= moments["chunk"]["cpu"] <= moments["write"]["cpu"]
    assert moments["torch"] is False


def test_digests_are_measured_for_one_file_and_for_several(run: Callable[..., dict[str, Any]]) -> None:
    arguments = ["--size", "toy", "--pairs", "1", "--methods", "linear", "--shards", "5GB", "100KB"]
    content = run(digests.main, "digests", *arguments)
    assert [row[1] for row in content["rows"]] == ["1, 5GB at most", "3, 100KB at most"]
    assert all(tail >= 0 for measured in content["measurements"] for tail in measured["tails"])


def test_accuracy_without_mergekit_leaves_its_columns_empty(
    run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--methods", "linear", "ties", "--rows", "32", "--columns", "24"]
    monkeypatch.delenv("HUBMERGE_BENCH_MERGEKIT", raising=False)
    content = run(accuracy.main, "accuracy", *arguments)
    linear = content["measurements"][0]
    assert linear["hubmerge"]["float32"] < 1e-5
    assert linear["hubmerge"]["bfloat16"] == pytest.approx(linear["rounded"], rel=0.02)
    assert content["rows"][0][4:7] == ["-", "-", "-"]


@needs_mergekit
@pytest.mark.real
def test_mergekit_takes_its_turns(run: Callable[..., dict[str, Any]]) -> None:
    content = run(peers.main, "peers_linear", "--size", "toy", "--pairs", "1", "--methods", "linear")
    assert [row[1] for row in content["rows"]] == ["with", "without", "without; passes compiled anew"]
    assert content["options"]["peer"]["mergekit"] == "0.1.5"


@needs_mergekit
@pytest.mark.real
def test_accuracy_stands_beside_mergekits(run: Callable[..., dict[str, Any]]) -> None:
    content = run(accuracy.main, "accuracy", "--methods", "linear", "--rows", "32", "--columns", "24")
    assert content["measurements"][0]["mergekit"]["float32"] < 1e-5


def test_pairs_change_their_order_and_ratios_are_medians_over_pairs() -> None:
    order = []

    def cost(name: str, seconds: float) -> Cost:
        order.append(name)
        return Cost(seconds, seconds)

    interleaved(lambda: cost("ours", 3), lambda: cost("other", 2), 3, lambda: order.append("|"))
    assert order == ["other", "|", "ours", "|", "ours", "|", "other", "|", "other", "|", "ours", "|"]
    assert ratio([Pair(Cost(1, 2 * n), Cost(1, 1)) for n in (1, 5, 2)]) == 4


def test_a_goal_can_be_a_most_or_a_least() -> None:
    assert verdict(1.5, 1.6) == ("≤ 1.6", "reached")
    assert verdict(1.7, 1.6) == ("≤ 1.6", "MISSED")
    assert verdict(7.9, 8, at_least=True) == ("≥ 8", "MISSED")


def test_models_are_the_same_whenever_they_are_made_and_parents_are_near_their_base(tmp_path: Path) -> None:
    first, second = (make_models(Options(tmp_path / name, tmp_path, None), "toy") for name in "ab")
    for one, other in zip((first.base, *first.parents), (second.base, *second.parents), strict=True):
        assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    base, parent = (_entries(folder) for folder in (first.base, first.parents[1]))
    assert np.std(base) == pytest.approx(0.02, rel=0.02)
    assert np.std(parent - base) == pytest.approx(0.002, rel=0.02)


def test_a_partly_sparse_model_has_numbers_where_it_is_told_and_zeros_elsewhere(tmp_path: Path) -> None:
    models = make_partly_sparse_models(tmp_path / "sparse", "toy", ["model.norm.weight"])
    path = models.parents[0] / "model.safetensors"
    assert path.stat().st_size > 2 * SIZES["toy"].parameters
    entries = _entries(models.parents[0])
    norm, head = entries[-64 - 300 * 64 : -300 * 64], entries[-300 * 64 :]  # the last two tensors
    assert np.count_nonzero(norm) > 60
    assert not head.any()
    assert not entries[: -64 - 300 * 64].any()


def test_the_documentation_is_written_from_the_json(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "benchmarks" / "engine" / "results"
    floor.main(["--size", "toy", "--pairs", "1", "--models", str(cache), "--results", str(results)])
    generate = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "generate.py"))
    tables = generate["benchmark_tables"]
    monkeypatch.setitem(tables.__globals__, "ROOT", tmp_path)
    text = tables()
    content = json.loads((results / "floor.json").read_text())
    assert text.startswith("## The floor: every input read once and one output written, without arithmetic\n\n")
    assert "| inputs | wall s | CPU s |\n| --- | --- | --- |\n| 2 | " in text
    assert f"`python -m benchmarks.engine.floor`, {content['date']}, commit {content['commit']}: " in text


def _entries(folder: Path) -> np.ndarray:
    raw = (folder / "model.safetensors").read_bytes()
    bits = np.frombuffer(raw[8 + int.from_bytes(raw[:8], "little") :], "<u2")
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
