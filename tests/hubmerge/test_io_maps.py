"""Compiled passes see their inputs where the system keeps them, and do as well where that cannot be."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from zoo import bfloat16, packed, random_values, read_model, recipe, write_model

from hubmerge import build_plan, merge
from hubmerge.compiled_passes import called_by_address
from hubmerge.io.reader import InputFiles, StepReader, Workspace
from hubmerge.measure import TensorMeasure

pytestmark = pytest.mark.skipif(
    not (called_by_address() and sys.platform == "linux"), reason="no pass goes from file to file here"
)


def models(place: Path, entries: int = 200_000, *, odd: bool = False) -> list[Path]:
    """A base and two parents of one bfloat16 tensor, which begins at an even byte, or at an odd one."""
    tensors = [bfloat16(random_values((entries,), seed)) for seed in range(3)]
    names = {(len(packed({name: tensors[0]})) - 2 * entries) % 4: name for name in ("w", "ww", "www", "wwww")}
    return [write_model(place / str(i), {names[odd]: values}) for i, values in enumerate(tensors)]


def merged(folders: list[Path], out: Path, method: str) -> bytes:
    merge(recipe(method, folders[1:], base=None if method == "linear" else folders[0]), out)
    return b"".join(values.tobytes() for values in read_model(out).values())


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "dare_ties", "model_stock"])
def test_seen_or_read_the_bytes_are_the_same(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = models(tmp_path)
    seen = merged(folders, tmp_path / "seen", method)
    monkeypatch.setattr(InputFiles, "mapped", lambda *_: None)
    assert merged(folders, tmp_path / "read", method) == seen


def test_numbers_that_begin_in_the_middle_of_one_are_read(tmp_path: Path) -> None:
    for odd in (False, True):
        plan = build_plan(recipe("linear", models(tmp_path / str(odd), 10, odd=odd)[1:]))
        with (
            InputFiles(plan.parents) as files,
            StepReader(plan.steps[0], files, Workspace()).sources(0, 10, 4) as sources,
        ):
            assert sources is not None
            assert sources.in_place is not odd
            assert [array.size for array in sources.inputs] == ([4, 4] if odd else [10, 10])


def test_a_pass_holds_on_to_nothing_that_it_went_through(tmp_path: Path) -> None:
    folders = models(tmp_path, 3_000_000)
    plan = build_plan(recipe("model_stock", folders[1:], base=folders[0]))
    with InputFiles(plan.parents) as files:
        measure = TensorMeasure(StepReader(plan.steps[0], files, Workspace()))
        assert np.isfinite(measure.gram()).all()
        held = _resident(folders[1] / "model.safetensors")
    assert held == [0]
    assert _resident(folders[1] / "model.safetensors") == []  # nor on to the file


def _resident(path: Path) -> list[int]:
    """kB in memory of every map that this process has of a file."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    ours = [i for i, line in enumerate(lines) if line.endswith(str(path.resolve()))]
    return [int(next(line for line in lines[i:] if line.startswith("Rss:")).split()[1]) for i in ours]


def test_a_file_that_lost_its_end_gives_no_zeros(tmp_path: Path) -> None:
    folders = models(tmp_path, 1000)
    plan = build_plan(recipe("model_stock", folders[1:], base=folders[0]))
    path = folders[2] / "model.safetensors"
    with InputFiles(plan.parents) as files:
        reader = StepReader(plan.steps[0], files, Workspace())
        with reader.sources(0, 8, 8) as sources:
            assert sources is not None
            assert sources.in_place
        os.truncate(path, path.stat().st_size - 2)  # the last page has zeros now where numbers were
        with pytest.raises(Exception, match=r"model\.safetensors ended inside tensor"):
            TensorMeasure(reader).gram()
