"""Ranks of large tensors from one pass: exact whatever a sample says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import random_values, recipe, stored_as, write_model

from hubmerge import brackets
from hubmerge.io.input_files import InputFiles
from hubmerge.io.reader import StepReader
from hubmerge.io.workspace import Workspace
from hubmerge.measure import TensorMeasure
from hubmerge.plan import build_plan

SHAPE = (512, 300)
"""More entries than the sample has."""


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For every tensor that a sample was taken of, whether it led to the ranks."""
    outcomes: list[bool] = []
    ranked = brackets.ranked_where_sampled

    def watched(*given: Any) -> tuple[np.ndarray, ...] | None:
        found = ranked(*given)
        outcomes.append(found is not None)
        return found

    monkeypatch.setattr(brackets, "FEWEST", 1 << 10)
    monkeypatch.setattr(brackets, "ranked_where_sampled", watched)
    return outcomes


def check_ranks(tmp_path: Path, parent: np.ndarray, ranks: list[int], dtype: str = "float32") -> None:
    """Compare `ranked` with a sort, for a parent and for its half; the base is zero."""
    stored = [stored_as(values, dtype) for values in (np.zeros_like(parent), parent, parent / 2)]
    folders = [write_model(tmp_path / str(i), {"w": values}) for i, values in enumerate(stored)]
    plan = build_plan(recipe("ties", folders[1:], base=folders[0], density=0.5))
    with InputFiles(plan.parents) as files:
        found = TensorMeasure(StepReader(plan.steps[0], files, Workspace())).ranked([ranks, ranks[:1]])
    for answer, values, wanted in zip(found, stored[1:], (ranks, ranks[:1]), strict=True):
        bits = values.astype(np.uint32) << 16 if values.dtype == np.uint16 else values.view(np.uint32)
        ordered = np.sort(np.abs(bits.view(np.float32)), axis=None)[::-1]
        assert answer.tolist() == [ordered[k - 1] for k in wanted]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("share", [0.7, 0.5, 0.2, 0.02])
def test_the_ranks_of_a_gaussian_are_found_where_the_sample_says(
    tmp_path: Path, counted: list[bool], share: float, dtype: str
) -> None:
    values = random_values(SHAPE, 1)
    check_ranks(tmp_path, values, [int(share * values.size), int(share / 2 * values.size)], dtype)
    assert counted == [True]


def test_rows_of_other_sizes_only_make_the_search_wider(tmp_path: Path, counted: list[bool]) -> None:
    values = random_values(SHAPE, 2) * np.linspace(0.8, 1.25, SHAPE[0], dtype=np.float32)[:, None]
    check_ranks(tmp_path, values, [values.size // 2])
    assert counted == [True]


def test_a_sample_that_misleads_costs_time_and_changes_nothing(
    tmp_path: Path, counted: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = random_values(SHAPE, 3)
    values.reshape(-1)[: brackets.SPAN] *= 100  # the only entries that the sample sees
    monkeypatch.setattr(brackets, "sample_spans", lambda _: [(0, brackets.SPAN)] * brackets.SPANS)
    check_ranks(tmp_path, values, [values.size // 2])
    assert counted == [False]


@pytest.mark.parametrize(
    "make",
    [
        np.zeros,
        np.ones,
        lambda n: np.arange(n) % 3,
        lambda n: (np.arange(n) % 1000 == 0) * 1.0,
        lambda n: 10.0 ** (np.arange(n) % 60 - 30),
    ],
    ids=["zeros", "ones", "three numbers", "mostly zeros", "sixty orders of magnitude"],
)
def test_ranks_are_exact_for_numbers_that_come_again_and_again(
    tmp_path: Path, counted: list[bool], make: Callable[[int], np.ndarray]
) -> None:
    values = make(SHAPE[0] * SHAPE[1]).astype(np.float32).reshape(SHAPE)
    check_ranks(tmp_path, values, [values.size // 2, 1, values.size, values.size // 1000, 7])
    assert len(counted) == 1


def test_the_sample_lies_inside_the_tensor_and_keeps_to_no_column() -> None:
    spans = brackets.sample_spans(1 << 20)
    assert len(spans) == brackets.SPANS
    assert all(0 <= low < high <= 1 << 20 for low, high in spans)
    columns = {low % 2048 // 256 for low, _ in spans}
    assert columns == set(range(8))


@pytest.mark.parametrize(("cells", "found"), [(1 << 20, True), (1, False)])
def test_more_inside_than_is_noted_is_counted_or_given_up(
    tmp_path: Path, counted: list[bool], monkeypatch: pytest.MonkeyPatch, cells: int, found: bool
) -> None:
    """Where hits are many, popular values are counted in cells; where the brackets are too wide for cells, all is counted over."""
    monkeypatch.setattr(brackets, "_HITS", 2000)
    monkeypatch.setattr(brackets, "_BLOCK", 64)
    monkeypatch.setattr(brackets, "_MOST_CELLS", cells)
    values = np.round(random_values(SHAPE, 4) * 8).astype(np.float32) / 8 + random_values(SHAPE, 5) * np.float32(1e-6)
    check_ranks(tmp_path, values, [values.size // 2, values.size // 5])
    assert counted == [found]
