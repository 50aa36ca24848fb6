"""A plan in words, in JSON, in a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bad.models import CONFIG, LINEAR, SHAPES, A, B, llama, lora, two_models_in
from zoo import write_model

from hubmerge import build_plan
from hubmerge.method import get_method


@pytest.fixture(autouse=True)
def two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return two_models_in(tmp_path, monkeypatch)


def rich_recipe() -> dict[str, Any]:
    lora()
    llama(Path("base"), 3, files={"tokenizer.json": "{}", "README.md": "# base"})
    return {
        "merge_method": "ties",
        "base_model": "./base",
        "models": [
            {"model": "./a", "parameters": {"weight": 0.5, "density": [0.2, 0.8]}},
            {"model": "./b+./l", "parameters": {"weight": [{"filter": "mlp", "value": 1.0}, {"value": [0.3, 0.4]}]}},
        ],
        "parameters": {"normalize": True, "int8_mask": True},
        "dtype": "bfloat16",
        "output": {"shard_size": 200},
    }


def test_a_plan_reads_from_top_to_bottom() -> None:
    plan = build_plan(rich_recipe(), jobs=2)
    assert str(plan).splitlines() == [
        f"ties: {get_method('ties').summary}",
        "",
        "parents",
        "  ./a  (parent)  weight 0.5, density 0.2 to 0.8",
        "  ./b+./l  (parent, its adapter changes 1 tensor)  weight 1.0 in mlp; 0.3 to 0.4 elsewhere",
        "  ./base  (base, config, tokenizer)",
        "  all models: normalize true, int8_mask true",
        "",
        "tensors",
        "      7 merged by ties, 148 entries, float32 to bfloat16",
        "",
        f"reads        {plan.bytes_read / 1000:.2f} kB",
        "downloads    nothing: all of it is on this disk",
        (
            f"writes       {plan.bytes_written} B in 2 weight files: model-00001-of-00002.safetensors, "
            "model-00002-of-00002.safetensors"
        ),
        f"memory       at most {plan.peak_memory / 1e6:.2f} MB of buffers, 2 workers",
        "carried over config.json, tokenizer.json",
        "left behind  README.md",
        "note         parameters.int8_mask is ignored: masks are not stored, so that their type is without meaning",
        (
            "note         gradients run from the first layer to the last; embeddings take the first value, "
            "final norm and head the last (mergekit: the first)"
        ),
        "differs      entries that tie with a threshold are all kept (mergekit: some, by the order of a sort)",
        "differs      numbers are computed in float32 and rounded once (mergekit: every step in bfloat16)",
        f"plan         {plan.hash[:12]}",
    ]


def test_the_json_holds_every_tensor_with_its_inputs() -> None:
    plan = build_plan(rich_recipe())
    read = json.loads(json.dumps(plan.to_dict()))
    assert read["recipe"] == plan.recipe.to_dict()
    assert (read["hash"], read["jobs"], read["config"]["dtype"]) == (plan.hash, plan.jobs, "bfloat16")
    assert {step["name"] for step in read["steps"]} == set(SHAPES)
    (step,) = (row for row in read["steps"] if row["name"] == "model.layers.0.self_attn.q_proj.weight")
    file = step["file"]
    rest = {
        name: value
        for name, value in step["parameters"].items()
        if name not in {"weight", "density", "lambda", "normalize"}
    }
    assert rest == {
        "elect": "weighted",
        "divide": "weights",
        "trim_scope": "tensor",
        "rescale": "none",
        "undecided": "plus",
    }
    assert step == {
        "name": "model.layers.0.self_attn.q_proj.weight",
        "action": "merge",
        "dtype": "BF16",
        "shape": [4, 4],
        "file": file,
        "start": step["start"],
        "end": step["start"] + 32,
        "base": {"parent": 2, "name": step["name"], "dtype": "F32", "file": "model.safetensors"},
        "inputs": [
            {"parent": 0, "name": step["name"], "dtype": "F32", "file": "model.safetensors"},
            {
                "parent": 1, "name": step["name"], "dtype": "F32", "file": "model.safetensors",
                "adapter": {"rank": 2, "scale": 2.0, "tensors": [
                    "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
                    "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
                ]},
            },
        ],
        "parameters": {"weight": [0.5, 0.3], "density": [0.2, 1.0], "lambda": 1.0, "normalize": True, **rest},
    }  # fmt: skip
    assert step["end"] <= read["files"][file]


def test_tensors_are_told_by_what_is_done_and_what_is_read() -> None:
    import numpy as np

    rows = {"w": np.ones(4, "float32"), "h": np.ones(2, "float16"), "n.running_var": np.ones(1, "float32"),
            "n.num_batches_tracked": np.array(1)}  # fmt: skip
    write_model(A, rows, config=CONFIG)
    write_model(B, {**rows, "h": np.ones(2, "float32")}, config=CONFIG)
    text = str(build_plan(LINEAR))
    for line in (
        "      1 merged by linear, 4 entries, float32\n",
        "      1 merged by linear, 2 entries, float16 + float32 to float32\n",
        "      1 averaged (running statistics), 1 entries, float32\n",
        "      1 largest taken (counters), 1 entries, int64\n",
    ):
        assert line in text


def test_notebooks_get_a_table_and_escaped_text() -> None:
    plan = build_plan(LINEAR)
    frame = plan.to_pandas()
    assert list(frame["name"]) == [step.output.name for step in plan.steps]
    assert set(frame["inputs"]) == {2}
    Path("a/<b>.txt").write_text("")
    assert "&lt;b&gt;.txt" in build_plan(LINEAR)._repr_html_()
