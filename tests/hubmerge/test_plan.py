"""What a plan decides, from headers alone."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad.models import CONFIG, LINEAR, SHAPES, A, B, faults_of, llama, lora, refusal, tensors, two_models_in
from zoo import run_python, write_model

from hubmerge import PlanError, build_plan
from hubmerge.method import get_method
from hubmerge.plan_types import Plan
from zoo_index import LocalFolder


@pytest.fixture(autouse=True)
def two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return two_models_in(tmp_path, monkeypatch)


def linear(**changes: Any) -> dict[str, Any]:
    return {**LINEAR, **changes}


def ties(**changes: Any) -> dict[str, Any]:
    return {"merge_method": "ties", "base_model": "./a", "models": [{"model": "./b"}], **changes}


def test_every_tensor_of_every_parent_is_in_the_plan_once() -> None:
    plan = build_plan(ties())
    assert sorted(step.output.name for step in plan.steps) == sorted(SHAPES)
    for step in plan.steps:
        assert step.output.shape == SHAPES[step.output.name]
        assert [(o.parent, o.tensor.name) for o in step.operands] == [(0, step.output.name)]
        assert step.base is not None
        assert (step.base.parent, step.base.tensor.name) == (1, step.output.name)
    assert [(str(parent.reference), parent.role) for parent in plan.parents] == [("./b", "parent"), ("./a", "base")]


def test_of_the_weights_only_the_headers_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {"model.embed_tokens.weight": (400, 400), "lm_head.weight": (400, 400)}
    for seed, folder in enumerate((A, B)):
        write_model(folder, tensors(seed, **shapes), config=CONFIG)
    ends: list[int] = []
    honest = LocalFolder.read

    def counting(self: LocalFolder, name: str, start: int = 0, end: int | None = None) -> bytes:
        raw = honest(self, name, start, end)
        if name.endswith(".safetensors"):
            ends.append(start + len(raw))
        return raw

    monkeypatch.setattr(LocalFolder, "read", counting)
    plan = build_plan({"merge_method": "task_arithmetic", "base_model": "./a", "models": [{"model": "./b"}]})
    header = 8 + int.from_bytes((A / "model.safetensors").read_bytes()[:8], "little")
    assert plan.bytes_read == 4 * 4 * 400 * 400
    assert max(ends) == header, "nothing behind the header"
    assert len(ends) == 2 * 2 * 2, "its length and itself, for the plan and for the records that are compared"


def test_bytes_are_counted_once_for_every_pass() -> None:
    entries = sum(int(np.prod(shape)) for shape in SHAPES.values())
    assert build_plan(LINEAR).bytes_read == 2 * 4 * entries
    # ties reads everything twice more, to find the threshold
    assert build_plan(ties(parameters={"density": 0.5})).bytes_read == 3 * 2 * 4 * entries
    assert build_plan(linear(dtype="bfloat16")).parameters == entries


def test_memory_holds_back_workers_and_too_little_of_it_is_refused() -> None:
    # two parents and the result of 32 entries, 12 bytes for each
    assert build_plan(LINEAR, jobs=4).peak_memory == 4 * 3 * 12 * 32
    assert (build_plan(LINEAR, jobs=4, memory=3000).jobs, build_plan(LINEAR, jobs=4, memory=1152).jobs) == (2, 1)
    with pytest.raises(PlanError) as refused:
        build_plan(LINEAR, memory=1151)
    assert str(refused.value) == (
        "tensor 'model.layers.0.mlp.up_proj.weight' needs 1.15 kB of buffers, --memory allows 1.15 kB · --memory · give more --memory"
    )
    with pytest.raises(PlanError, match="a matrix method holds whole tensors; give more --memory"):
        build_plan({"merge_method": "iso_c", "base_model": "./a", "models": [{"model": "./b"}]}, memory=1151)


@pytest.mark.parametrize("method", ["ties", "sce"])
def test_where_ranks_are_looked_for_in_large_tensors_is_counted(method: str) -> None:
    recipe = {"merge_method": method, "base_model": "./a", "models": [{"model": "./b"}]}
    needs = []
    for rows in (1023, 1024):  # a million entries, less some, are counted without a sample
        for folder in (A, B):
            write_model(folder, tensors(0, **{"model.norm.weight": (rows, 1024)}), config=CONFIG)
        needs.append(build_plan(recipe, jobs=1).peak_memory)
    chunks, histograms, sums = 3 * 12 * 2**18, 2 * 8 * (2**16 + 2**15), 2 * 8 * 2**16
    assert needs == [chunks + histograms + sums, chunks + histograms + sums + 4 * 5 * 2**20]


def test_shards_are_filled_in_order_and_too_many_are_refused() -> None:
    plan = build_plan(linear(output={"shard_size": 200}))
    # 96, 96 | 128, 64 | 128, 64 | 16 bytes, in the order of their file
    assert [step.output.file[6:11] for step in plan.steps] == [
        "00001",
        "00001",
        "00002",
        "00002",
        "00003",
        "00003",
        "00004",
    ]
    assert refusal(linear(output={"shard_size": 0})) == [
        (
            "expected a whole number of bytes from 1 to 1,000,000,000,000,000,000, got 0 · recipe: output.shard_size · "
            "see docs/recipe.md"
        )
    ]
    for folder in (A, B):
        write_model(folder, {f"w{i}": np.zeros(1, "float32") for i in range(501)}, config=CONFIG)
    assert refusal(linear(output={"shard_size": 4})) == [
        (
            "shards of 4 B would make 501 weight files, at most 500 are written · output.shard_size · "
            "choose a larger one; 5GB is the default"
        )
    ]


@pytest.mark.parametrize(
    ("kinds", "asked", "written"),
    [
        (("float32", "float32"), None, "float32"),
        (("float16", "float16"), None, "float16"),
        (("float16", "float32"), None, "float32"),
        (("float64", "float32"), None, "float64"),
        (("float16", "float16"), "bfloat16", "bfloat16"),
    ],
)
def test_the_type_written_is_the_one_asked_for_or_the_widest_read(
    kinds: tuple[str, str], asked: str | None, written: str
) -> None:
    llama(A, 1, dtype=kinds[0])
    llama(B, 2, dtype=kinds[1])
    plan = build_plan(linear(dtype=asked))
    assert {step.output.dtype.torch_name for step in plan.steps} == {written}
    assert (plan.dtype, plan.config["dtype"]) == (written, written)


def test_out_dtype_wins_over_dtype() -> None:
    assert build_plan(linear(dtype="float16", out_dtype="bfloat16")).dtype == "bfloat16"


def test_running_statistics_are_averaged_and_counters_counted() -> None:
    layer = {
        "n.weight": np.ones(3, "float32"),
        "n.running_mean": np.ones(3, "float32"),
        "n.num_batches_tracked": np.array(3),
    }
    for folder in (A, B):
        write_model(folder, layer, config=CONFIG)
    plan = build_plan(ties(parameters={"weight": 0.4}))
    assert {step.output.name: step.action for step in plan.steps} == {
        "n.weight": "merge",
        "n.running_mean": "average",
        "n.num_batches_tracked": "count",
    }
    assert plan.warnings == (
        "running statistics (BatchNorm) are averaged, not merged; re-estimate them on training data if accuracy matters",
    )


def test_an_adapter_is_a_term_of_the_tensors_it_changes() -> None:
    lora(lora_alpha=6)
    plan = build_plan({"merge_method": "linear", "models": [{"model": "./a"}, {"model": "./b+./l"}]})
    adapted = [step for step in plan.steps if step.operands[1].low_rank]
    assert [step.output.name for step in adapted] == ["model.layers.0.self_attn.q_proj.weight"]
    term = adapted[0].operands[1].low_rank
    assert term is not None
    assert (term.rank, term.scale) == (2, 3.0)


@pytest.mark.parametrize(
    ("source", "files", "donor"),
    [
        (None, {"a": "1", "b": "2"}, 0),
        (None, {"b": "2"}, 1),
        (None, {}, None),
        ("./b/", {"a": "1", "b": "2"}, 1),
        ("union", {"a": "1", "b": "1"}, 0),
        ("base", {"a": "1", "b": "1"}, 0),
    ],
)
def test_the_tokenizer_is_taken_from_whom_the_recipe_says(
    source: str | None, files: dict[str, str], donor: int | None
) -> None:
    for name, word in files.items():
        Path(name, "tokenizer.json").write_text(json.dumps({"model": {"type": "WordLevel", "vocab": {word: 0}}}))
    assert build_plan(linear(tokenizer_source=source)).tokenizer_donor == donor


def test_a_tokenizer_that_is_missing_is_not_taken() -> None:
    Path("a/tokenizer.json").write_text(json.dumps({"model": {"type": "WordLevel", "vocab": {"x": 0}}}))
    assert refusal(linear(tokenizer_source="./b")) == [
        "./b has no tokenizer · tokenizer_source · write base, or another of ./a, ./b"
    ]


def test_warnings_are_errors_when_asked_and_notes_are_not() -> None:
    llama(B, 2, rope_theta=500000.0)
    llama(A, 1, rope_theta=10000.0)
    recipe = linear(parameters={"weight": [{"filter": "mpl", "value": 2}, {"value": [1, 3]}], "density": 0.5})
    plan = build_plan(recipe)
    assert plan.warnings == (
        "parameters.density is ignored: linear does not use it",
        "parameters.weight: filter 'mpl' is part of no tensor's name",
        "./a and ./b: rope_theta 10000.0 vs 500000.0: positions are rotated at other speeds, and a merge fits neither",
        "gradients run from the first layer to the last; embeddings take the first value, final norm and head the last (mergekit: the first)",
    )
    with pytest.raises(PlanError) as refused:
        build_plan(recipe, strict=True)
    assert faults_of(refused.value) == [
        f"{warning} · --strict · mend it, or leave out --strict" for warning in plan.warnings[:3]
    ]


def test_a_filter_that_is_never_reached_is_warned_of_and_not_said_to_be_used() -> None:
    """The plan said `1 elsewhere; 2 in mlp`, and the merge took 1 for all."""
    plan = build_plan(linear(parameters={"weight": [{"value": 1}, {"filter": "mlp", "value": 2}]}))
    assert {step.values["weight"] for step in plan.steps} == {(1.0, 1.0)}
    assert plan.warnings == (
        "parameters.weight: filter 'mlp' is never reached: what stands before it takes its tensors",
    )
    assert "  all models: weight 1" in str(plan).splitlines()


def test_gradients_give_every_layer_its_value() -> None:
    plan = build_plan(linear(parameters={"weight": [1, 3]}))
    weights = {step.output.name: step.values["weight"] for step in plan.steps}
    assert weights["model.embed_tokens.weight"] == weights["model.layers.0.mlp.up_proj.weight"] == (1.0, 1.0)
    assert weights["model.layers.1.mlp.up_proj.weight"] == weights["lm_head.weight"] == (3.0, 3.0)


def test_the_hash_is_the_same_in_every_process() -> None:
    code = "import sys, hubmerge; print(hubmerge.build_plan({}).hash)".replace(
        "{}", repr(ties(models=[{"model": "./b/"}]))
    )
    hashes = set()
    for seed in ("0", "1"):
        run = run_python(f"import os, sys\nos.environ['PYTHONHASHSEED'] = {seed!r}\n{code}", cwd=Path())
        hashes.add(run.stdout.strip())
    assert hashes == {build_plan(ties()).hash}


def plan_of(recipe: dict[str, Any]) -> Plan:
    return build_plan(recipe)


def test_the_hash_changes_with_all_that_changes_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    lora()
    base = ties(parameters={"density": 0.5})
    hashes = [plan_of(base).hash]
    for recipe in (
        ties(parameters={"density": 0.6}),
        ties(parameters={"density": 0.5}, models=[{"model": "./b", "parameters": {"weight": 2}}]),
        ties(parameters={"density": 0.5}, dtype="bfloat16"),
        ties(parameters={"density": 0.5}, seed=1),
        ties(parameters={"density": 0.5}, output={"shard_size": 200}),
        ties(parameters={"density": 0.5}, models=[{"model": "./b+./l"}]),
        {**base, "merge_method": "task_arithmetic"},
        {**base, "base_model": "./b", "models": [{"model": "./a"}]},
    ):
        hashes.append(plan_of(recipe).hash)  # noqa: PERF401 - one after the other, as a person would
    write_model(
        B, tensors(2, **{**SHAPES, "model.norm.weight": (4,)}), config=CONFIG, files={"generation_config.json": "{}"}
    )
    monkeypatch.setitem(sys.modules["hubmerge.method"]._REGISTRY, "ties", replace(get_method("ties"), revision=99))
    hashes.append(plan_of(base).hash)
    assert len(set(hashes)) == len(hashes)


def test_the_hash_changes_with_a_parents_header_and_config_and_not_with_jobs_or_memory() -> None:
    before = build_plan(LINEAR).hash
    assert build_plan(LINEAR, jobs=7, memory=10**6).hash == before
    llama(A, 1, rms_norm_eps=1e-5)
    assert build_plan(LINEAR).hash != before
    llama(A, 1)
    assert build_plan(LINEAR).hash == before
    write_model(B, dict(reversed(tensors(2).items())), config=CONFIG)
    assert build_plan(LINEAR).hash != before
