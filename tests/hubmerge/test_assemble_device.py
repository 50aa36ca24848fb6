"""`--device` of a merge: refused before anything is written, of no meaning to entrywise methods, part of what a journal is for."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo import names, recipe, run_hubmerge, two_models

from hubmerge import PlanError, build_plan, merge
from hubmerge.weights import identity_of


def test_a_device_that_is_not_here_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folders = two_models(tmp_path)
    with pytest.raises(PlanError, match="cpu, cuda, cuda:1 or mps"):
        merge(recipe("iso_c", folders[1:], base=folders[0]), tmp_path / "out", device="abacus")
    assert names(tmp_path) == ["a", "b"]


def test_the_device_reaches_the_matrix_method_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

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
