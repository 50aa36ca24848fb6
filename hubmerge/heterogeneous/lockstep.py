"""Models that are run side by side, layer by layer: all batches go through one layer before any goes through the next.

So what a layer is fitted to is known before anything comes out of it, and no more is held than what lives between two layers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.paging import Held, Pager
from hubmerge.heterogeneous.running import run_once

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Halting", "Lockstep", "Stop"]


@dataclass(frozen=True)
class Stop:
    """A model halted at one of its modules.  module: its name.  batch: what was put in.  held: of the run, where not all runs stay in memory.
    behind: whether the module has computed, and the tensor is what it gives.
    """

    module: str
    tensor: Tensor
    batch: Batch
    held: Held | None = None
    behind: bool = False

    @property
    def values(self) -> Tensor:
        """The module's input, or its output.  Where not all runs stay in memory, it is there until another batch's is asked for."""
        if self.held is not None:
            self.held.wake()
            self.held.takes([self.tensor])
        return self.tensor


class _AbandonedError(Exception):
    """The run was ended from outside."""


class _Run:
    """One model on one batch, in a thread of its own that moves only while `resume` waits for it."""

    def __init__(self, model: nn.Module, batch: Batch, owner: object, held: Held | None) -> None:
        self.owner = owner
        self._batch = batch
        self._held = held
        self._go, self._halted = threading.Semaphore(0), threading.Semaphore(0)
        self._stop: Stop | None = None
        self._error: BaseException | None = None
        self._abandoned = self._is_over = False
        self._thread = threading.Thread(target=self._work, args=(model,), daemon=True)

    def resume(self) -> Stop | None:
        """Go on to the next stop; None at the end of the model, and after it.  Raises what the model raised."""
        if self._is_over:
            return None
        if self._held is not None:
            self._held.wake()
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        self._halted.acquire()
        if self._held is not None:
            self._held.halted()
        self._is_over = self._stop is None or self._error is not None
        if self._error is not None:
            raise self._error
        return self._stop

    def halt(self, module: str, values: Tensor, *, behind: bool) -> None:
        """Called by the model's hooks: wait until `resume`."""
        self._stop = Stop(module, values, self._batch, self._held, behind)
        self._halted.release()
        self._go.acquire()
        if self._abandoned:
            raise _AbandonedError

    def abandon(self) -> None:
        if self._thread.ident is not None:
            self._abandoned = True
            self._go.release()
            self._thread.join()
        if self._held is not None:
            self._held.end()

    def _work(self, model: nn.Module) -> None:
        _current.run = self
        try:
            with self._held.watching() if self._held is not None else nullcontext():
                run_once(model, self._batch)
            self._stop = None
        except _AbandonedError:
            pass
        except BaseException as error:
            self._error = error
        self._halted.release()


_current = threading.local()


class Halting:
    """A model that runs on all batches from stop to stop; a context manager that ends the runs.

    stops: the modules at which it halts, and where: "input" before they compute, "output" behind, or "both".  What the caller changes
    before the next stop is asked for, the model goes on with.  pager: keeps in memory what the runs hold as far as there is room; None
    for all of it.
    """

    def __init__(
        self, model: nn.Module, stops: Mapping[str, str], batches: Sequence[Batch], pager: Pager | None = None
    ) -> None:
        self._runs = [
            _Run(model, batch, self, None if pager is None else Held(pager, b)) for b, batch in enumerate(batches)
        ]
        self._handles = []
        for name, module in model.named_modules():
            if stops.get(name) in {"input", "both"}:
                self._handles.append(module.register_forward_pre_hook(_halting_before(name, self)))
            if stops.get(name) in {"output", "both"}:
                self._handles.append(module.register_forward_hook(_halting_behind(name, self)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for run in self._runs:
            run.abandon()
        for handle in self._handles:
            handle.remove()

    def advance(self) -> list[Stop] | None:
        """Where every batch halts next, in the order of the batches; None at the end of the model."""
        stops = [run.resume() for run in self._runs]
        halted = [stop for stop in stops if stop is not None]
        if len({stop.module for stop in halted}) > 1 or len(halted) not in {0, len(stops)}:
            raise RuntimeError("the batches do not halt at the same modules")
        return halted or None


class Lockstep:
    """Several models that go on together, halted at the stops of the first; one that has not its next stop waits for it.

    runs: of models of one order of modules.  has: of each the stops that it has; the first has all.
    """

    def __init__(self, runs: Sequence[Halting], has: Sequence[Collection[str]]) -> None:
        self._runs, self._has = runs, has
        self._halts = [run.advance() for run in runs]

    @property
    def module(self) -> str | None:
        """Where the first model halts; None at its end.  Raises `RuntimeError` where another that has the module is elsewhere."""
        first = self._halts[0]
        name = first[0].module if first is not None else None
        for halt, own in zip(self._halts, self._has, strict=True):
            if (name in own or name is None) and (halt[0].module if halt is not None else None) != name:
                raise RuntimeError("the models do not use the same layers in the same order")
        return name

    def stops(self, modules: Collection[str]) -> list[list[Stop] | None]:
        """The halts of all models that are at one of `modules`, None for the others."""
        return [halt if halt is not None and halt[0].module in modules else None for halt in self._halts]

    def advance(self) -> None:
        """Go on with all models that are where the first is."""
        name = self.module
        for s, (run, halt) in enumerate(zip(self._runs, self._halts, strict=True)):
            if halt is not None and halt[0].module == name:
                self._halts[s] = run.advance()


def _halting_before(name: str, owner: object) -> Callable[..., None]:
    """A hook that halts the runs of `owner` alone: a model may be run by several at once."""

    def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        run: _Run | None = getattr(_current, "run", None)
        if run is not None and run.owner is owner:
            run.halt(name, inputs[0], behind=False)

    return hook


def _halting_behind(name: str, owner: object) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        run: _Run | None = getattr(_current, "run", None)
        if run is not None and run.owner is owner:
            run.halt(name, output, behind=True)

    return hook
