"""What a random stage keeps is drawn once: the pass that measures marks it, the pass that merges reads the marks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from zoo import bfloat16, packed, random_values, read_model, recipe, write_model

from hubmerge import build_plan, file_kernels, marks, measure, merge, merge_pass
from hubmerge.compiled_passes import called_by_address
from hubmerge.estimate import step_memory
from hubmerge.jit import compiled
from hubmerge.method import get_method

needs_files = pytest.mark.skipif(not called_by_address(), reason="no pass goes from file to file here")


def parents(place: Path, entries: int, dtype: str = "bfloat16") -> list[Path]:
    """A base and two parents of one tensor, which begins where its numbers can be looked at in place."""
    stored = [random_values((entries,), seed) for seed in range(3)]
    tensors = [bfloat16(values) for values in stored] if dtype == "bfloat16" else stored
    beginnings = {len(packed({name: tensors[0]})) - tensors[0].nbytes: name for name in ("w", "ww", "www", "wwww")}
    name = next(name for beginning, name in beginnings.items() if beginning % 4 == 0)
    return [write_model(place / str(i), {name: values}) for i, values in enumerate(tensors)]


def merged(folders: list[Path], out: Path, method: str = "dare_ties", **rest: object) -> bytes:
    asked = recipe(method, folders[1:], base=folders[0], density=0.4, **rest)
    merge(asked, out)
    return b"".join(values.tobytes() for values in read_model(out).values())


@pytest.mark.parametrize("entries", [1, 63, 64, 1000, 1024, 1025, 2 * 65536 + 101])
def test_marked_or_drawn_twice_the_bytes_are_the_same(
    tmp_path: Path, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = parents(tmp_path, entries)
    with_marks = merged(folders, tmp_path / "marked")
    monkeypatch.setattr(measure, "MARKED", 0)
    assert merged(folders, tmp_path / "drawn") == with_marks


@pytest.mark.parametrize(("method", "dtype"), [("dare_ties", "float32"), ("dare_linear", "bfloat16")])
def test_so_they_are_for_other_rules_and_types(
    tmp_path: Path, method: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = parents(tmp_path, 3001, dtype)
    with_marks = merged(folders, tmp_path / "marked", method)
    monkeypatch.setattr(measure, "MARKED", 0)
    assert merged(folders, tmp_path / "drawn", method) == with_marks


@needs_files
def test_marks_are_read_at_any_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = parents(tmp_path, 5000)
    whole = merged(folders, tmp_path / "whole")
    monkeypatch.setattr(merge_pass, "_BLOCK", 77)
    assert merged(folders, tmp_path / "pieces") == whole


@needs_files
def test_the_pass_that_merges_draws_no_number_where_there_are_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    kernel = file_kernels.file_kernel

    def watched(*arguments: object) -> object:
        asked.append(bool(arguments[-1]))
        return kernel(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(file_kernels, "file_kernel", watched)
    folders = parents(tmp_path, 2000)
    merged(folders, tmp_path / "l1")
    merged(folders, tmp_path / "inverse", rescale="inverse")  # nothing is measured, so nothing is marked
    assert asked == [True, False]


def test_marks_are_bits_in_the_order_of_the_entries() -> None:
    flags = np.zeros(marks.FLAGS, np.uint8)
    flags[[0, 2, 64, 1023]] = 1, 1, 1, 1
    words = np.zeros(marks.mark_words(1025), np.uint64)

    def mark(words: np.ndarray, flags: np.ndarray) -> None:
        marks.set_marks(words, 1024, flags)

    compiled(mark)(words, flags)
    assert words.size == 32
    assert words[16:].tolist() == [5, 1, *[0] * 13, 1 << 63]
    assert not words[:16].any()

    def look(words: np.ndarray, flags: np.ndarray) -> None:
        marks.get_flags(flags, words, 1087, np.uint64(2))

    compiled(look)(words, flags)  # entries 1087 and 1088 are flags 63 and 64
    assert flags[:128].nonzero()[0].tolist() == [0, 2, 64]


def test_the_plan_counts_the_memory_of_marks(tmp_path: Path) -> None:
    folders = parents(tmp_path, 100_000)
    random = recipe("dare_ties", folders[1:], base=folders[0], density=0.4)
    (step,) = build_plan(random).steps
    method = get_method("dare_ties")
    assert method.before is not None
    assert method.before.memory(100_000) == 98 * 1024 // 8  # 98 groups of 1024 entries, a bit each
    assert method.before.memory(marks.MARKED + 1) == 0
    unmarked = replace(method, before=replace(method.before, memory=lambda _: 0))
    assert step_memory(step, method) - step_memory(step, unmarked) == 3 * 12544
