"""`--device` of a merge: refused before anything is written, of no meaning to entrywise methods, part of what a journal is for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from simulated_gpu import AWAY, Ledger, simulate_gpu, simulated_gpu
from zoo import names, random_values, read_model, recipe, run_hubmerge, stored_as, two_models, write_model

from hubmerge import PlanError, build_plan, merge
from hubmerge.weights import identity_of


def test_a_device_that_is_not_here_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folders = two_models(tmp_path)
    with pytest.raises(PlanError, match="cpu, cuda, cuda:1 or mps"):
        merge(recipe("iso_c", folders[1:], base=folders[0]), tmp_path / "out", device="abacus")
    assert names(tmp_path) == ["a", "b"]


def test_the_device_reaches_the_matrix_method_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hubmerge import execute

    devices, compute = [], execute.compute

    def watched(*arguments: object) -> None:
        devices.append(arguments[8])
        compute(*arguments[:8])  # type: ignore[arg-type]

    monkeypatch.setattr(execute, "compute", watched)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    folders = two_models(tmp_path)
    merge(recipe("iso_c", folders[1:], base=folders[0]), tmp_path / "matrix", device="cuda:1")
    merge(recipe("linear", folders), tmp_path / "entries", device="cuda:1")
    assert devices == ["cuda:1"] * 3 + ["cpu"] * 3


def test_what_another_device_computed_is_not_gone_on_with(tmp_path: Path) -> None:
    folders = two_models(tmp_path)
    plan = build_plan(recipe("iso_c", folders[1:], base=folders[0]))
    assert identity_of(plan, (), (), "cpu") != identity_of(plan, (), (), "cuda")


def test_the_command_line_says_that_an_entrywise_method_stays_on_the_cpu(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("merge_method: linear\nmodels: [{model: ./a}, {model: ./b}]\n")
    two_models(tmp_path)
    ended = run_hubmerge("merge", "recipe.yaml", "out", "--device", "cuda", cwd=tmp_path)
    told = "linear merges entry by entry, on the CPU: --device cuda is not used"
    assert (ended.returncode, ended.stderr) == (0, f"{told}\nnext: hubmerge verify out\n")


@pytest.mark.parametrize("precise", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("method", ["iso_c", "iso_cts", "tsv_m"])
def test_matrix_methods_compute_where_they_are_told_to_alone(
    method: str, stored: str, precise: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tensors(seed: int) -> dict[str, np.ndarray]:
        shapes = {"matrix": (24, 16), "wide": (8, 40), "vector": (16,), "kernel": (5, 6, 3, 3), "number": ()}
        return {name: stored_as(random_values(shape, seed + len(name)), stored) for name, shape in shapes.items()}

    if not precise:
        monkeypatch.setattr("hubmerge.methods.task_matrices._PRECISE_SIDE", 4)
    base, *parents = [write_model(tmp_path / name, tensors(i)) for i, name in enumerate(("base", "a", "b", "c"))]
    asked = recipe(method, parents, base=base, dtype=stored)
    merge(asked, tmp_path / "cpu")
    ledger = simulate_gpu(monkeypatch)
    merge(asked, tmp_path / "gpu", device="cuda:0")
    there = read_model(tmp_path / "gpu")
    for name, here in read_model(tmp_path / "cpu").items():
        assert here.tobytes() == there[name].tobytes()
    entries = 24 * 16 + 8 * 40
    brief = 2 if stored == "bfloat16" else 4  # float16 is widened before it goes there
    assert (ledger.brought, ledger.fetched) == (4 * entries * brief, entries * brief)
    assert ledger.pinned == 2 * 5  # base, three parents and the result of either matrix
    assert any("svd" in each for each in ledger.computed)


def test_what_a_gpu_refuses_the_simulated_one_refuses() -> None:
    with simulated_gpu(Ledger()):
        there = torch.ones(2, 2, device="cuda:0")
        assert (there.device, (there @ there).device, there.cpu().device) == (AWAY, AWAY, torch.device("cpu"))
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(2, 2)
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()
        assert float((there + torch.tensor(1.0)).sum()) == 8  # a single number may be anywhere
