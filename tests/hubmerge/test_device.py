"""The device that a matrix method computes on: asked for by a word, refused when it is not here."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo import contents, names, random_values, recipe, two_models, write_model

from hubmerge import PlanError, merge
from hubmerge.device import usable_device
from hubmerge.method import get_method


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:7", "mps"])
def test_entrywise_methods_run_on_the_cpu_whatever_is_asked_for(device: str) -> None:
    assert usable_device(device, get_method("ties")) == "cpu"


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "CUDA", "cpu:0"])
@pytest.mark.parametrize("method", ["linear", "iso_c"])
def test_another_word_is_refused(device: str, method: str) -> None:
    with pytest.raises(PlanError) as refused:
        usable_device(device, get_method(method))
    assert str(refused.value) == (
        f"there is no device called {device!r} · --device {device} · cpu, cuda, cuda:1 or mps"
    )


@pytest.mark.parametrize(
    ("device", "count", "have"),
    [("cuda", 0, "no cuda device"), ("cuda:1", 1, "1 cuda device"), ("cuda:2", 2, "2 cuda devices")],
)
def test_a_device_that_is_not_here_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, count: int, have: str
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    folders = two_models(tmp_path)
    with pytest.raises(PlanError) as refused:
        merge(recipe("iso_c", folders[1:], base=folders[0]), tmp_path / "out", device=device)
    assert str(refused.value) == (
        f"{device} is not here: torch {torch.__version__} sees {have} · --device {device} · "
        "leave it out; it runs on the CPU too"
    )
    assert names(tmp_path) == ["a", "b"]


def test_a_device_that_is_here_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [usable_device(device, get_method("iso_c")) for device in ("cuda", "cuda:1")] == ["cuda", "cuda:1"]


@pytest.mark.real
def test_on_a_gpu_the_same_matrices_come_out_within_the_tolerance(tmp_path: Path) -> None:
    import numpy as np
    import torch
    from zoo import read_model

    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    folders = [write_model(tmp_path / name, {"w": random_values((96, 64), i), "b": random_values((64,), i + 9)})
               for i, name in enumerate(("base", "a", "b"))]  # fmt: skip
    asked = recipe("iso_c", folders[1:], base=folders[0])
    merge(asked, tmp_path / "cpu")
    merge(asked, tmp_path / "gpu", device="cuda")
    assert contents(tmp_path / "cpu").keys() == contents(tmp_path / "gpu").keys()
    for name, here in read_model(tmp_path / "cpu").items():
        there = read_model(tmp_path / "gpu")[name]
        assert np.abs(here - there).max() <= 1e-5 * np.abs(here).max()
