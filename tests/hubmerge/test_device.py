"""Where matrix methods compute: devices that are not here are refused, and the way there and back changes no bit.

A CUDA device itself is used only by the last test, where there is one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import bfloat16, names, random_values, read_model, recipe, run_python, two_models, write_model

from hubmerge import MergeError, PlanError, merge
from hubmerge.device import brought, check_device, on_device, taken_back


def refusal(name: str) -> str:
    with pytest.raises(PlanError) as caught:
        check_device(name)
    return str(caught.value)


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "CUDA", "cpu:0"])
def test_a_word_that_is_no_device_is_refused(name: str) -> None:
    assert refusal(name) == f"{name!r} is no device · --device · cpu, cuda, cuda:1 or mps"


@pytest.mark.parametrize(
    ("name", "count", "told", "hint"),
    [
        ("cuda", 0, "no CUDA devices", "leave --device out"),
        ("cuda:1", 1, "1 CUDA device", "cuda:0 to cuda:0"),
        ("cuda:2", 2, "2 CUDA devices", "cuda:0 to cuda:1"),
    ],
)
def test_a_device_that_is_not_here_is_refused_before_anything_is_written(
    name: str, count: int, told: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    base, parent = two_models(tmp_path)
    with pytest.raises(PlanError) as caught:
        merge(recipe("iso_c", [parent], base=base), tmp_path / "out", device=name)
    assert str(caught.value) == f"torch {torch.__version__} finds {told} here · --device {name} · {hint}"
    assert names(tmp_path) == ["a", "b"]


def test_a_device_that_is_here_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("cuda", "cuda:0", "cuda:1"):
        check_device(name)


def test_the_cpu_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from hubmerge.device import check_device; check_device('cpu'); assert 'torch' not in sys.modules"
    )
    assert run_python(code, cwd=tmp_path).returncode == 0


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20), st.booleans())
@settings(deadline=None)
def test_there_and_back_again_changes_no_bit(values: list[float], brief: bool) -> None:
    single = np.array(values, np.float32)
    bits = bfloat16(single) if brief else single.view(np.uint32)  # beyond bfloat16's largest: its infinity
    there = brought(bits, (bits.size, 1), "cpu")
    assert there.dtype == torch.float32
    assert there.shape == (bits.size, 1)
    there_and_back = taken_back(there, brief=brief)
    assert there_and_back.dtype == bits.dtype
    assert np.array_equal(there_and_back, bits)


def test_a_single_number_has_no_dimensions_there() -> None:
    assert brought(np.ones(1, np.float32).view(np.uint32), (), "cpu").shape == ()


def test_what_is_brought_is_a_copy() -> None:
    bits = np.ones(3, np.float32).view(np.uint32)
    brought(bits, (3,), "cpu").zero_()
    assert bits.view(np.float32).tolist() == [1, 1, 1]


def test_a_device_without_room_is_named_with_the_tensor() -> None:
    with pytest.raises(MergeError) as caught, on_device("cuda", "w"):
        raise torch.OutOfMemoryError
    assert str(caught.value) == (
        "tensor 'w' does not fit into the memory of cuda · w · merge without --device; it is computed in main memory then"
    )


@pytest.mark.real
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_on_a_gpu_the_same_matrices_come_out_within_the_tolerance(stored: str, tmp_path: Path) -> None:
    def tensors(seed: int) -> dict[str, np.ndarray]:
        values = {"w": random_values((96, 64), seed), "b": random_values((64,), seed + 9)}
        return {name: bfloat16(value) if stored == "bfloat16" else value for name, value in values.items()}

    base, *parents = [write_model(tmp_path / name, tensors(i)) for i, name in enumerate(("base", "a", "b"))]
    asked = recipe("iso_c", parents, base=base, dtype="float32")
    merge(asked, tmp_path / "cpu")
    merge(asked, tmp_path / "gpu", device="cuda")
    there = read_model(tmp_path / "gpu")
    for name, here in read_model(tmp_path / "cpu").items():
        assert np.abs(here - there[name]).max() <= 1e-5 * np.abs(here).max()
