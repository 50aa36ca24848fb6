"""Ctrl-C and SIGTERM: when they are heard, and for a command that writes one line that says what is left."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from types import FrameType

from hubmerge.cli import output
from hubmerge.errors import MergeInterrupted

__all__ = ["heard_between_imports", "interruptible"]

_AGAIN = b"interrupted again: ended at once; the same command goes on from what is left\n"
_SHOW_CURSOR = b"\x1b[?25h"
"""A bar on a terminal hides it."""
_PAUSE, _LONGEST = 0.01, 5.0
"""Seconds after which a signal is looked at again, and that an import may put it off."""


@contextmanager
def heard_between_imports() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt while this lasts, but not in the middle of an import.

    Raised there it can be lost in a callback, and leave the import lock taken: then threads that import wait for ever.
    """

    def end(_number: int) -> None:
        raise KeyboardInterrupt

    with _hearing((signal.SIGINT,), end):
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """End the command with 128 + the signal's number when Ctrl-C or SIGTERM comes while this lasts.

    The first signal lets what is running tidy up and say what is left; the second ends the process where it is, which costs
    no more than a kill.
    """
    received: list[int] = []

    def end(number: int) -> None:
        if received:
            with suppress(OSError):
                os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + _AGAIN)
            os._exit(128 + number)
        received.append(number)
        raise KeyboardInterrupt

    with _hearing((signal.SIGINT, signal.SIGTERM), end):
        try:
            yield
        except KeyboardInterrupt as interrupted:
            told = isinstance(interrupted, MergeInterrupted)
            output.note(str(interrupted) if told else "interrupted before anything was written")
            sys.exit(128 + (received or [signal.SIGINT])[0])


@contextmanager
def _hearing(numbers: tuple[signal.Signals, ...], act: Callable[[int], None]) -> Iterator[None]:
    """Call `act` for signals that are not ignored; outside the main thread, where none can be heard, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _after_imports(act)
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _after_imports(act: Callable[[int], None]) -> Callable[[int, FrameType | None], None]:
    """A handler that calls `act` with the signal's number once the main thread is in no import; soon it is in none."""
    first: list[float] = []

    def handle(number: int, frame: FrameType | None) -> None:
        now = monotonic()
        first.append(now)
        if _importing(frame) and now - first[0] < _LONGEST and hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, lambda _, frame: handle(number, frame))
            signal.setitimer(signal.ITIMER_REAL, _PAUSE)
            return
        first.clear()
        act(number)

    return handle


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
