"""GGUF files as parents: how they are named, what is refused, and that the numbers come out in transformers' order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hub.fixtures import hub, hub_home, start_hub
from hub.server import HubServer
from zoo import random_values, read_model, two_models

from hubmerge import PlanError, build_plan, merge
from hubmerge.gguf import open_model
from zoo_index import ModelRef

__all__ = ["hub", "hub_home", "start_hub"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HUBMERGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refusal(name: Path | str) -> str:
    with pytest.raises(PlanError) as caught:
        open_model(ModelRef.of(str(name)))
    return str(caught.value)


def test_several_files_need_a_name_and_each_can_be_named(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for name in ("b.Q4_0.gguf", "b.Q8_0.gguf"):
        (folder / name).write_bytes(b"x")
    told = f"2 GGUF files and no safetensors weights · {folder} · name one: {folder}#b.Q4_0.gguf"
    assert refusal(folder) == told
    for spelled in (f"{folder}#b.Q8_0.gguf", f"{folder}/b.Q8_0.gguf"):
        assert refusal(spelled) == f"b.Q8_0.gguf is not a GGUF file · {spelled} · fetch it again"


def test_a_folder_with_safetensors_is_read_as_ever(tmp_path: Path) -> None:
    folder = two_models(tmp_path)[0]
    (folder / "a.gguf").write_bytes(b"GGUF")
    assert len(build_plan({"merge_method": "passthrough", "models": [{"model": str(folder)}]}).steps) == 3


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    told = f"GGUF files are read with the package gguf · {tmp_path / 'b.gguf'} · pip install gguf"
    assert refusal(tmp_path / "b.gguf") == told


def test_a_damaged_file_is_refused_and_leaves_nothing_in_the_cache(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "b.gguf").write_bytes(b"GGUF" + b"\3\0\0\0" + b"\0" * 64)
    assert refusal(tmp_path / "b.gguf").startswith("transformers cannot convert this GGUF file (")
    assert list((cache / "gguf").iterdir()) == []


def turned(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key matrix in llama.cpp's order: the halves of every head interleaved."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


SHAPES = {
    "token_embd.weight": ("model.embed_tokens.weight", (7, 64)),
    "blk.0.attn_q.weight": ("model.layers.0.self_attn.q_proj.weight", (64, 64)),
    "blk.0.attn_k.weight": ("model.layers.0.self_attn.k_proj.weight", (32, 64)),
    "blk.0.attn_v.weight": ("model.layers.0.self_attn.v_proj.weight", (32, 64)),
    "blk.0.attn_output.weight": ("model.layers.0.self_attn.o_proj.weight", (64, 64)),
    "blk.0.ffn_gate.weight": ("model.layers.0.mlp.gate_proj.weight", (96, 64)),
    "blk.0.ffn_up.weight": ("model.layers.0.mlp.up_proj.weight", (96, 64)),
    "blk.0.ffn_down.weight": ("model.layers.0.mlp.down_proj.weight", (64, 96)),
    "blk.0.attn_norm.weight": ("model.layers.0.input_layernorm.weight", (64,)),
    "blk.0.ffn_norm.weight": ("model.layers.0.post_attention_layernorm.weight", (64,)),
    "output_norm.weight": ("model.norm.weight", (64,)),
    "output.weight": ("lm_head.weight", (7, 64)),
}
"""The tensors of a llama of one layer with 4 heads, 2 of them for keys: llama.cpp's names and transformers'."""


def write_gguf(file: Path, without: str = "") -> dict[str, np.ndarray]:
    """A llama as llama.cpp writes it, in Q8_0 but for norms (F32) and the head (F16); returns the numbers it holds."""
    from gguf import GGMLQuantizationType as Kind
    from gguf import GGUFWriter, dequantize, quantize

    writer = GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_vocab_size(7)
    writer.add_block_count(1)
    writer.add_context_length(32)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    numbers = {}
    for i, (name, (known, shape)) in enumerate(SHAPES.items()):
        values = random_values(shape, i)
        kind = Kind.F32 if len(shape) == 1 else Kind.F16 if name == "output.weight" else Kind.Q8_0
        heads = {"blk.0.attn_q.weight": 4, "blk.0.attn_k.weight": 2}.get(name)
        held = dequantize(quantize(values, kind), kind)
        numbers[known] = held
        if name != without:
            writer.add_tensor(name, quantize(turned(values, heads) if heads else values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return numbers


@pytest.mark.real
def test_numbers_names_and_order_are_those_of_transformers(tmp_path: Path) -> None:
    numbers = write_gguf(tmp_path / "tiny.gguf")
    asked = {"merge_method": "passthrough", "models": [{"model": f"{tmp_path}/tiny.gguf"}]}
    plan = build_plan(asked)
    assert [note for note in plan.warnings if "tiny.gguf" in note] == [
        (
            f"{tmp_path}/tiny.gguf: tiny.gguf is converted to 127.54 kB of safetensors; its tensors: 8 in Q8_0 (8.5 bits per weight), "
            "3 in F32 (32 bits per weight), 1 in F16 (16 bits per weight); the merge starts from rounded weights"
        ),
        f"{tmp_path}/tiny.gguf: transformers cannot read the tokenizer of tiny.gguf, none is carried",
    ]
    merge(asked, tmp_path / "out")
    merged = read_model(tmp_path / "out")
    assert merged.keys() == numbers.keys()
    assert {name for name, values in merged.items() if values.dtype == np.float16} == {"lm_head.weight"}
    for name, values in numbers.items():
        assert np.array_equal(merged[name], values), name


@pytest.mark.real
def test_a_tensor_that_is_not_there_is_named(tmp_path: Path, cache: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", without="blk.0.ffn_up.weight")
    assert refusal(tmp_path / "tiny.gguf") == (
        "transformers finds no tensor for 'model.layers.0.mlp.up_proj.weight' in this GGUF file, nor for 0 others · "
        f"{tmp_path}/tiny.gguf · use the safetensors model it was made from"
    )
    assert list((cache / "gguf").iterdir()) == []


@pytest.mark.real
def test_a_repository_with_one_gguf_file_is_converted_once_and_not_asked_for_again(
    hub: HubServer, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    hub.add("ada/tiny", {"tiny.Q8_0.gguf": (tmp_path / "tiny.gguf").read_bytes(), "README.md": "tiny"})
    asked = {"merge_method": "passthrough", "models": [{"model": "ada/tiny"}]}
    manifest = merge(asked, tmp_path / "out")
    assert manifest.parents[0].commit is not None
    fetched = hub.log.bytes_sent("tiny.Q8_0.gguf")
    assert fetched == (tmp_path / "tiny.gguf").stat().st_size
    merge(asked, tmp_path / "again")
    assert hub.log.bytes_sent("tiny.Q8_0.gguf") == fetched
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        tmp_path / "again" / "model.safetensors"
    ).read_bytes()
