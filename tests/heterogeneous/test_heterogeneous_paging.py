"""Models that halt with little room in memory: what they hold goes to a file and comes back with the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from apart_models import batches, model
from torch import nn

from hubmerge.heterogeneous import merge_models, paging
from hubmerge.heterogeneous.lockstep import Halting, Stop
from hubmerge.heterogeneous.paging import Pager
from hubmerge.heterogeneous.scratch import Scratch, scratch_in

KILO = 1024
ROWS = 64
BATCHES = [{"x": torch.full((ROWS, KILO), float(b))} for b in range(3)]
SIZE = ROWS * KILO * 4


class Adding(nn.Module):
    """What comes in, and what two layers add to it; the first batch's sum is kept for the others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Identity(), nn.Identity()
        self.kept: torch.Tensor | None = None
        self.answers: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stream: torch.Tensor = x + 1
        stream = stream + self.first(stream * 2)
        if self.kept is None:
            self.kept = stream * 1
        stream.add_(self.second(self.kept * 10))
        self.answers.append(stream)
        return stream


@pytest.fixture
def scratch(tmp_path: Path) -> Any:
    with scratch_in(tmp_path / "scratch", 0) as found:
        yield found


def seen(stops: list[Stop] | None) -> list[float]:
    assert stops is not None
    return [float(stop.values[5, 7]) for stop in stops]


def test_what_runs_hold_goes_to_the_disk_and_comes_back(scratch: Scratch) -> None:
    model = Adding()
    with Halting(model, {"first": "input", "second": "input"}, BATCHES, Pager(scratch, 0)) as run:
        stops = run.advance()
        assert scratch.written == 4 * SIZE  # of all batches but the last the stream and what goes into the layer
        assert stops is not None
        assert [stop.tensor.untyped_storage().nbytes() for stop in stops] == [0, 0, SIZE]
        assert seen(stops) == [2, 4, 6]
        assert scratch.written == 6 * SIZE  # the last; the others are there as they were
        assert [stop.tensor.untyped_storage().nbytes() for stop in stops] == [0, 0, SIZE]
        assert seen(run.advance()) == [30, 30, 30]  # what the first batch left, which was away
        assert run.advance() is None
    # (b + 1) and twice that, and ten times the first one's three
    assert [float(answer[5, 7]) for answer in model.answers] == [33, 36, 39]
    assert [answer.untyped_storage().nbytes() for answer in model.answers] == [SIZE] * 3


def test_with_room_for_two_of_three_only_one_is_fetched_in_a_pass(scratch: Scratch) -> None:
    with Halting(Adding(), {"first": "input"}, BATCHES, Pager(scratch, 4 * SIZE)) as run:
        stops = run.advance()
        assert stops is not None
        assert [stop.tensor.untyped_storage().nbytes() for stop in stops] == [SIZE, 0, SIZE]
        assert seen(stops) == [2, 4, 6]  # the first gives way to the second
        assert [stop.tensor.untyped_storage().nbytes() for stop in stops] == [0, SIZE, SIZE]


def test_runs_of_one_batch_are_in_memory_together(scratch: Scratch) -> None:
    pager = Pager(scratch, 0)
    with (
        Halting(Adding(), {"first": "input"}, BATCHES, pager) as one,
        Halting(Adding(), {"first": "input"}, BATCHES, pager) as other,
    ):
        ours, theirs = one.advance(), other.advance()
        assert ours is not None
        assert theirs is not None
        for b, (left, right) in enumerate(zip(ours, theirs, strict=True)):
            both = left.values, right.values
            assert torch.equal(both[0], torch.full((ROWS, KILO), 2.0 * (b + 1)))
            assert torch.equal(*both)


def test_what_is_changed_in_place_after_it_was_written_is_written_again(scratch: Scratch) -> None:
    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Identity(), nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            stream = x * 1
            self.first(stream)
            stream[3:].mul_(5)
            found: torch.Tensor = self.second(stream)
            return found

    with Halting(Changing(), {"first": "input", "second": "input"}, BATCHES, Pager(scratch, 0)) as run:
        assert seen(run.advance()) == [0, 1, 2]
        stops = run.advance()
        assert seen(stops) == [0, 5, 10]
        assert seen(stops) == [0, 5, 10]  # each was away meanwhile


@pytest.mark.parametrize(("name", "fit"), [("llama", "auto"), ("t5", "merged"), ("resnet basic", "regmean")])
def test_a_fit_with_no_room_gives_the_same_bits(
    name: str, fit: Any, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, data = [model(name, seed) for seed in (0, 1)], batches(name, count=5, size=3)
    whole = merge_models(models, data, fit=fit, labels="shared").model.state_dict()
    monkeypatch.setattr(paging, "_LEAST", 1)
    cut = merge_models(models, data, fit=fit, labels="shared", scratch=scratch).model.state_dict()
    assert scratch.written > 0
    assert all(torch.equal(cut[name], values) for name, values in whole.items())


def test_a_place_that_was_given_up_is_the_next_ones_of_its_size(scratch: Scratch, tmp_path: Path) -> None:
    places = [scratch.put(memoryview(text)) for text in (b"three", b"seven", b"a")]
    assert places == [0, 5, 10]
    scratch.give_up(5, 5)
    assert [scratch.put(memoryview(text)) for text in (b"b", b"eight", b"again")] == [11, 5, 12]
    found = bytearray(5)
    scratch.get(5, memoryview(found))
    assert found == b"eight"
    assert scratch.size == 17
    assert list((tmp_path / "scratch").iterdir()) == []  # its file has no name
    scratch.close()


def test_sums_that_take_over_half_of_the_room_are_mapped(tmp_path: Path) -> None:
    sums = torch.tensor([[1.0, 2], [3, 4]], dtype=torch.float64)
    with scratch_in(tmp_path, 2 * 4 * 32) as scratch:
        (same,) = scratch.kept((sums,), 4)
        assert same is sums
        assert scratch.written == 0
        (mapped,) = scratch.kept((sums,), 5)
    assert mapped.data_ptr() != sums.data_ptr()
    assert torch.equal(mapped.add_(1), sums + 1)  # after the scratch is closed, too
    assert scratch.written == 32
