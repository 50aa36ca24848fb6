"""float8 parents: every pattern is the number that torch says it is; scales are multiplied in and not written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from zoo import CONFIG

from hubmerge import build_plan, merge, merge_state_dicts
from hubmerge.io.float8 import float8_table, multiply_by_scales, scale_grid
from zoo_index import HubmergeError
from zoo_index.tensors import DType, Scale, TensorMeta

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


def write(folder: Path, tensors: Mapping[str, torch.Tensor], **config: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    save_file(dict(tensors), folder / "model.safetensors")
    return folder


def recipe(*folders: Path, **more: Any) -> dict[str, Any]:
    method = "passthrough" if len(folders) == 1 else "linear"
    return {"merge_method": method, "models": [{"model": str(folder)} for folder in folders], **more}


def eight_bits(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(E4M3)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(DType.F8_E4M3, E4M3), (DType.F8_E5M2, E5M2), (DType.F8_E8M0, torch.float8_e8m0fnu)],
)
def test_every_pattern_is_the_number_that_torch_says_it_is(dtype: DType, kind: torch.dtype) -> None:
    known = torch.arange(256, dtype=torch.uint8).view(kind).to(torch.float32).numpy()
    assert np.array_equal(float8_table(dtype), known, equal_nan=True)


@given(
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=3),
    block=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_entries_are_multiplied_by_the_scale_of_their_block_from_any_start(
    shape: list[int], block: tuple[int, int], data: Any
) -> None:
    *stack, rows, columns = shape
    bands, blocks = -(-rows // block[0]), -(-columns // block[1])
    grid = np.random.default_rng(1).uniform(1, 2, (*stack, bands, blocks)).astype(np.float32)
    spread = grid.repeat(block[0], axis=-2).repeat(block[1], axis=-1)[..., :rows, :columns]
    stored = TensorMeta("w_scale", DType.F32, grid.shape, "f", 0, 0)
    scale = Scale(stored, int(np.prod(shape[:-1])), columns, block, rows)
    whole = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    start = data.draw(st.integers(0, whole.size))
    stop = data.draw(st.integers(start, whole.size))
    part = whole.reshape(-1)[start:stop].copy()
    multiply_by_scales(part, start, scale, scale_grid(scale, grid.reshape(-1)))
    assert np.array_equal(part, (whole * spread).reshape(-1)[start:stop])


def test_plain_float8_merges_as_numbers_into_bfloat16(tmp_path: Path) -> None:
    one, other = {"w": eight_bits((3, 5), 1)}, {"w": eight_bits((3, 5), 2).to(torch.float32).to(E5M2)}
    folders = [write(tmp_path / "a", one), write(tmp_path / "b", other)]
    told = "parents are stored as float8_e4m3fn and float8_e5m2; tensors that mix them are written as bfloat16; set dtype to choose"
    assert told in build_plan(recipe(*folders)).notes
    merge(recipe(*folders), tmp_path / "out")
    expected = (one["w"].float() + other["w"].float()) / 2
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")["w"], expected.to(torch.bfloat16))
    merge(recipe(*folders, dtype="float32"), tmp_path / "wide")
    assert torch.equal(load_file(tmp_path / "wide" / "model.safetensors")["w"], expected)
    in_memory = merge_state_dicts("linear", [one, other], dtype="float32")["w"]
    assert torch.equal(in_memory, expected)


def scaled(name: str, scale: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"l.weight": eight_bits((300, 200), 3), f"l.weight_scale{name}": scale, "norm.weight": torch.ones(4)}


def spread_over(scale: torch.Tensor) -> torch.Tensor:
    """A scale for every entry of a (300, 200) weight."""
    if scale.shape == (3, 2):
        return scale.float().repeat_interleave(128, 0)[:300].repeat_interleave(128, 1)[:, :200]
    return scale.float().reshape(-1, 1).expand(300, 200) if scale.numel() == 300 else scale.float().expand(300, 200)


SCALES = {
    "blocks of 128, as DeepSeek-V3": ("_inv", torch.rand(3, 2) + 0.5, FP8),
    "powers of two": ("_inv", (2.0 ** torch.arange(-3, 3)).reshape(3, 2).to(torch.float8_e8m0fnu), FP8),
    "one for each row": ("", torch.rand(300, 1) + 0.5, {"quant_method": "fbgemm_fp8"}),
    "one for each row, a vector": ("", (torch.rand(300) + 0.5).to(torch.bfloat16), None),
    "one for the tensor": (
        "",
        torch.tensor(0.37),
        {
            "quant_method": "compressed-tensors",
            "format": "float-quantized",
            "config_groups": {"group_0": {"weights": {"type": "float", "num_bits": 8}}},
        },
    ),
}


@pytest.mark.parametrize("kind", SCALES)
def test_scales_are_multiplied_in_and_not_written(kind: str, tmp_path: Path) -> None:
    name, scale, quantisation = SCALES[kind]
    tensors = scaled(name, scale)
    config = {} if quantisation is None else {"quantization_config": quantisation}
    folder = write(tmp_path / "a", {**tensors, "l.input_scale": torch.ones(1)}, **config)
    plan = build_plan(recipe(folder, dtype="float32"))
    assert sorted(step.output.name for step in plan.steps) == ["l.weight", "norm.weight"]
    told = "tensors in float8, which keeps 2 or 3 bits of a number after the first: 1"
    assert (
        f"{folder}: {told}; multiplied by their scales when they are read: 1; scales that are not written: 2"
    ) in plan.warnings
    merge(recipe(folder, dtype="float32"), tmp_path / "out")
    merged = load_file(tmp_path / "out" / "model.safetensors")
    assert sorted(merged) == ["l.weight", "norm.weight"]
    assert torch.equal(merged["l.weight"], tensors["l.weight"].float() * spread_over(scale))
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_the_merged_weights_are_bfloat16_and_the_config_says_so(tmp_path: Path) -> None:
    tensors = scaled("_inv", torch.rand(3, 2) + 0.5)
    folder = write(tmp_path / "a", tensors, quantization_config=FP8, dtype="bfloat16")
    merge(recipe(folder), tmp_path / "out")
    weight = load_file(tmp_path / "out" / "model.safetensors")["l.weight"]
    assert weight.dtype == torch.bfloat16
    expected = tensors["l.weight"].float() * spread_over(tensors["l.weight_scale_inv"])
    assert torch.equal(weight, expected.to(torch.bfloat16))


def test_a_scaled_parent_merges_with_the_bfloat16_model_it_was_made_from(tmp_path: Path) -> None:
    scale = torch.rand(3, 2) + 0.5
    small = write(tmp_path / "small", scaled("_inv", scale), quantization_config=FP8)
    plain = {"l.weight": torch.ones(300, 200), "norm.weight": torch.ones(4)}
    full = write(tmp_path / "full", plain)
    merge(recipe(small, full, dtype="float32"), tmp_path / "out")
    merged = load_file(tmp_path / "out" / "model.safetensors")["l.weight"]
    expected = (scaled("", scale)["l.weight"].float() * spread_over(scale) + 1) / 2
    assert torch.equal(merged, expected)


def test_scales_that_do_not_fit_or_are_missing_are_told_together(tmp_path: Path) -> None:
    tensors = {
        "a.weight": eight_bits((300, 200), 1),
        "a.weight_scale_inv": torch.ones(4, 2),
        "b.weight": eight_bits((3, 2), 1),
    }
    folder = write(tmp_path / "a", tensors, quantization_config=FP8)
    with pytest.raises(HubmergeError) as caught:
        build_plan(recipe(folder))
    assert [str(fault) for fault in caught.value.faults] == [
        (
            f"tensor 'a.weight_scale_inv' (F32 [4, 2]) does not scale 'a.weight', which is [300, 200] · {folder} · "
            "use the bfloat16 model it was made from"
        ),
        (
            f"float8 tensor 'b.weight' has no scale beside it · {folder} · "
            "expected b.weight_scale or b.weight_scale_inv; fetch the model again"
        ),
    ]


def test_a_float8_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    broken = torch.tensor([1.0, float("nan")]).to(E4M3)
    folder = write(tmp_path / "a", {"w": broken})
    with pytest.raises(HubmergeError, match="is not finite: entry 1 is nan"):
        merge(recipe(folder), tmp_path / "out")
