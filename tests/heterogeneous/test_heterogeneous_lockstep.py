"""Models halted at their modules: in order, changed on the way, and ended without anything left behind."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import nn

from hubmerge.heterogeneous.lockstep import Halting

BATCHES = [{"x": torch.tensor([[1.0, 2]])}, {"x": torch.tensor([[3.0, 4], [5, 6]])}]


class Doubling(nn.Module):
    """Twice what comes in, twice the same module."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(2 * torch.eye(2))
            self.second.weight.copy_(3 * torch.eye(2))
        self.answers: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.second(self.first(self.first(x)))
        self.answers.append(found)
        return found


class Failing(Doubling):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 1:
            raise ValueError("two rows are too many")
        return super().forward(x)


def values(stops: Any) -> list[Any]:
    return [stop.values.tolist() for stop in stops]


def test_all_batches_halt_at_one_module_before_any_goes_on() -> None:
    model = Doubling()
    with Halting(model, {"first": "both", "second": "input"}, BATCHES) as run:
        found = []
        while (stops := run.advance()) is not None:
            assert [stop.batch is batch for stop, batch in zip(stops, BATCHES, strict=True)] == [True, True]
            assert len({stop.module for stop in stops}) == 1
            found.append((stops[0].module, values(stops)))
        assert found == [
            ("first", [[[1, 2]], [[3, 4], [5, 6]]]),
            ("first", [[[2, 4]], [[6, 8], [10, 12]]]),
            ("first", [[[2, 4]], [[6, 8], [10, 12]]]),  # the module is used twice
            ("first", [[[4, 8]], [[12, 16], [20, 24]]]),
            ("second", [[[4, 8]], [[12, 16], [20, 24]]]),
        ]
        assert run.advance() is None  # asked again, it says the same
    assert [answer.tolist() for answer in model.answers] == [[[12, 24]], [[36, 48], [60, 72]]]


def test_what_is_changed_at_a_stop_the_model_goes_on_with() -> None:
    model = Doubling()
    with Halting(model, {"second": "input"}, BATCHES[:1]) as run:
        run.advance()
        with torch.no_grad():
            model.second.weight.fill_(1)
        assert run.advance() is None
    assert model.answers[0].tolist() == [[12, 12]]


def test_runs_that_are_left_early_end_and_leave_no_hook_and_no_thread() -> None:
    model, before = Doubling(), threading.active_count()
    with Halting(model, {"first": "input"}, BATCHES) as run:
        run.advance()
        assert threading.active_count() == before + 2
    assert threading.active_count() == before
    assert model.answers == []
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_what_the_model_raises_reaches_the_caller_and_ends_the_other_runs() -> None:
    model, before = Failing(), threading.active_count()
    with (
        pytest.raises(ValueError, match=r"^two rows are too many$"),
        Halting(model, {"first": "input"}, BATCHES) as run,
    ):
        run.advance()
    assert threading.active_count() == before
    assert model.answers == []


def test_what_the_caller_raises_ends_the_runs_too() -> None:
    before = threading.active_count()
    with (
        pytest.raises(StopIteration),
        Halting(Doubling(), {"first": "input"}, BATCHES) as run,
    ):
        next(stop for stop in run.advance() or () if stop.module == "second")
    assert threading.active_count() == before


def test_batches_that_do_not_take_the_same_way_are_refused() -> None:
    class Parting(Doubling):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.first(x) if len(x) > 1 else self.second(x)
            return found

    with (
        pytest.raises(RuntimeError, match=r"^the batches do not halt at the same modules$"),
        Halting(Parting(), {"first": "input", "second": "input"}, BATCHES) as run,
    ):
        run.advance()


def test_a_model_that_is_run_by_two_at_once_halts_once_for_each() -> None:
    model = Doubling()
    with (
        Halting(model, {"second": "both"}, BATCHES) as one,
        Halting(model, {"second": "input"}, BATCHES) as other,
    ):
        assert values(one.advance()) == values(other.advance()) == [[[4, 8]], [[12, 16], [20, 24]]]
        assert values(one.advance()) == [[[12, 24]], [[36, 48], [60, 72]]]
        assert one.advance() is None
        assert other.advance() is None


def test_nothing_is_kept_for_gradients() -> None:
    with Halting(Doubling(), {"second": "input"}, BATCHES[:1]) as run:
        stops = run.advance()
        assert stops is not None
        assert not stops[0].values.requires_grad


def test_an_ordinary_run_meanwhile_is_not_halted() -> None:
    model = Doubling()
    with Halting(model, {"first": "input"}, BATCHES[:1]) as run:
        run.advance()
        assert model(torch.ones(1, 2)).tolist() == [[12, 12]]
