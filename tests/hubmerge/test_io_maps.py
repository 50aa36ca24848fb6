"""Compiled passes see their inputs where the system keeps them, and do as well where that cannot be."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from zoo import bfloat16, packed, random_values, read_model, recipe, write_model

from hubmerge import build_plan, compute, merge
from hubmerge.compiled_passes import called_by_address
from hubmerge.errors import NumbersError
from hubmerge.io import maps, windows
from hubmerge.io.input_files import InputFiles
from hubmerge.io.reader import StepReader
from hubmerge.io.workspace import Workspace
from hubmerge.measure import TensorMeasure
from hubmerge.ranges import spans

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


def test_the_end_of_a_tensor_stays_in_memory_for_the_next_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brought, gone = [], []
    monkeypatch.setattr(windows, "bring", lambda *asked: [brought.append(asked[:2]), maps.bring(*asked)][1])
    monkeypatch.setattr(windows, "let_go", lambda *asked: gone.append(asked))
    monkeypatch.setattr(windows, "AROUND", 0)
    monkeypatch.setattr(windows, "MOST_KEPT", 2 * 2 * 45)  # 45 entries of both inputs
    plan = build_plan(recipe("linear", models(tmp_path, 100)[1:]))
    ranges = list(spans(0, 100, 20))
    with InputFiles(plan.parents) as files:
        reader = StepReader(plan.steps[0], files, Workspace())

        def go_through(ranges: list[tuple[int, int]]) -> list[int]:
            before = len(brought)
            for first, last in ranges:
                with reader.sources(first, last, 20) as sources:
                    assert sources is not None
                    assert [array.size for array in sources.inputs] == [20, 20]
            return [size for _, size in brought[before:]]

        with reader.kept_between_passes():
            assert go_through(ranges) == [40] * 10
        assert len(gone) == 6
        assert files.room.take(10**9) == windows._ALL_KEPT - 2 * 2 * 45
        assert go_through(ranges[::-1]) == [40] * 6
        assert sorted(gone) == sorted(brought)
        with reader.kept_between_passes():
            go_through(ranges)
        reader.let_go()
        assert sorted(gone) == sorted(brought)
        assert files.room.take(10**9) == 2 * 2 * 45


def test_what_came_with_a_range_goes_with_it(tmp_path: Path) -> None:
    folders = models(tmp_path)
    plan = build_plan(recipe("linear", folders[1:]))
    ranges = list(spans(0, 200_000, 30_000))  # more than that comes at once
    with InputFiles(plan.parents) as files:
        reader = StepReader(plan.steps[0], files, Workspace())
        for first, last in ranges + ranges[:0:-1]:
            with reader.sources(first, last, 20):
                pass
        with reader.sources(*ranges[0], 20):
            assert _resident(folders[1] / "model.safetensors")[0] > 0
        assert _resident(folders[1] / "model.safetensors") == [0]


def test_of_numbers_that_are_not_finite_the_first_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = models(tmp_path)
    name = next(iter(read_model(folders[1])))
    values = random_values((200_000,), 1)
    values[[7, 199_000]] = np.nan
    write_model(tmp_path / "damaged", {name: bfloat16(values)})
    monkeypatch.setattr(compute, "AT_ONCE", 1 << 16)
    with pytest.raises(NumbersError, match="is not finite: entry 7 is nan"):
        merged([folders[0], tmp_path / "damaged", folders[2]], tmp_path / "out", "model_stock")


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
