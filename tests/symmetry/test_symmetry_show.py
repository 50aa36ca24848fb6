"""`hubmerge symmetry show`: what it prints, from headers alone and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import zoo
from test_symmetry_load import LLAMA, llama_shapes

SCRIPT = """
import sys
from hubmerge.cli.app import main
from zoo_index.source import LocalFolder
read, last = LocalFolder.read, []
def watched(self, name, start=0, end=None):
    if name.endswith(".safetensors"):
        last.append(end)
    return read(self, name, start, end)
LocalFolder.read = watched
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
heavy = {name.split(".")[0] for name in sys.modules} & {"torch", "transformers", "numba", "scipy"}
print("heavy", sorted(heavy), "read up to", max(last), file=sys.stderr)
"""


def write_llama(folder: Path, **tensors: tuple[int, ...]) -> Path:
    shapes = {**llama_shapes(), **tensors}
    values = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return zoo.write_model(folder, values, config=LLAMA)


def test_the_table_tells_groups_sizes_and_axes_with_layers_as_one(tmp_path: Path) -> None:
    write_llama(tmp_path / "model")
    shown = zoo.run_hubmerge("symmetry", "show", "./model", cwd=tmp_path)
    assert shown.stderr == ""
    assert shown.stdout == (
        "llama: 21 tensors, 12 groups\n"
        "\n"
        "group     groups  kind                      size  in each  norm\n"
        "token          1  tokens                       9  -        -\n"
        "res            1  permutation+signs           12  -        rms\n"
        "kv{l}          2  permutation                  3  -        -\n"
        "query{l}       2  permutation                  2  kv{l}    -\n"
        "rope{l}        2  planes                       2  kv{l}    -\n"
        "value{l}       2  invertible                   2  kv{l}    -\n"
        "ff{l}          2  permutation+signs+scales    20  -        -\n"
        "\n"
        "tensor                                            tensors  axes\n"
        "model.embed_tokens.weight                               1  token res\n"
        "model.layers.{l}.input_layernorm.weight                 2  =res\n"
        "model.layers.{l}.self_attn.q_proj.weight                2  (kv{l} query{l} rope{l}) <res\n"
        "model.layers.{l}.self_attn.k_proj.weight                2  (kv{l} <rope{l}) <res\n"
        "model.layers.{l}.self_attn.v_proj.weight                2  (kv{l} value{l}) <res\n"
        "model.layers.{l}.self_attn.o_proj.weight                2  res <(kv{l} query{l} value{l})\n"
        "model.layers.{l}.post_attention_layernorm.weight        2  =res\n"
        "model.layers.{l}.mlp.gate_proj.weight                   2  =ff{l} <res\n"
        "model.layers.{l}.mlp.up_proj.weight                     2  ff{l} <res\n"
        "model.layers.{l}.mlp.down_proj.weight                   2  res <ff{l}\n"
        "model.norm.weight                                       1  =res\n"
        "lm_head.weight                                          1  token <res\n"
    )


def test_json_has_every_group_with_its_axes(tmp_path: Path) -> None:
    write_llama(tmp_path / "model")
    facts = json.loads(zoo.run_hubmerge("symmetry", "show", "./model", "--json", cwd=tmp_path).stdout)
    assert (facts["model"], facts["family"], len(facts["groups"])) == ("./model", "llama", 12)
    ff = next(group for group in facts["groups"] if group["name"] == "ff1")
    assert ff == {
        "name": "ff1", "kind": "permutation+signs+scales", "size": 20, "in": None, "norm": None, "note": "",
        "axes": [
            {"tensor": "model.layers.1.mlp.gate_proj.weight", "axis": 0, "role": "follows"},
            {"tensor": "model.layers.1.mlp.up_proj.weight", "axis": 0, "role": "writes"},
            {"tensor": "model.layers.1.mlp.down_proj.weight", "axis": 1, "role": "reads"},
        ],
    }  # fmt: skip
    assert facts["tensors"][0] == {"name": "model.embed_tokens.weight", "shape": [9, 12], "axes": "token res"}
    assert (facts["tied"], facts["same"]) == ([], [])


def test_quiet_is_the_names_of_the_groups(tmp_path: Path) -> None:
    write_llama(tmp_path / "model")
    shown = zoo.run_hubmerge("symmetry", "show", "./model", "--format", "quiet", cwd=tmp_path).stdout.split()
    assert sorted(shown) == sorted(
        ["token", "res", *(f"{name}{i}" for name in ("kv", "query", "rope", "value", "ff") for i in range(2))]
    )


def test_faults_are_told_one_a_line_with_exit_1(tmp_path: Path) -> None:
    write_llama(tmp_path / "model", **{"model.norm.weight": (13,), "sinks": (2,)})
    shown = zoo.run_hubmerge("symmetry", "show", "./model", cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (1, "")
    lines = shown.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: tensor 'sinks' is not in the symmetry table llama · ./model · the nearest name")
    assert lines[1] == (
        "error: axis 0 of tensor 'model.norm.weight' has 13 entries, config.json says 12 (res 12) · ./model · config.json and "
        "the weights are not of one model; fetch or save it again"
    )


def test_headers_suffice_and_torch_is_not_loaded(tmp_path: Path) -> None:
    folder = write_llama(tmp_path / "model")
    raw = (folder / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(raw[:8], "little")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "symmetry", "show", "./model"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("llama: 21 tensors, 12 groups\n")
    assert done.stderr == f"heavy [] read up to {header}\n"
    assert header < len(raw)


def test_what_stays_and_what_is_one_is_said_below(tmp_path: Path) -> None:
    shapes = {name.removeprefix("model."): shape for name, shape in llama_shapes().items() if name != "lm_head.weight"}
    values = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    zoo.write_model(tmp_path / "body", values, config={**LLAMA, "architectures": ["LlamaModel"]})
    shown = zoo.run_hubmerge("symmetry", "show", "./body", cwd=tmp_path).stdout
    assert shown.endswith("\n\nres stays as it is: it is the model's output\n")
    tied = {**LLAMA, "tie_word_embeddings": True}
    values = {f"model.{name}": value for name, value in values.items()}
    zoo.write_model(tmp_path / "tied", values, config=tied)
    shown = zoo.run_hubmerge("symmetry", "show", "./tied", cwd=tmp_path).stdout
    assert shown.endswith("\n\nlm_head.weight is model.embed_tokens.weight\n")
