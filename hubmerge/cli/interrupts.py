"""Ctrl-C and SIGTERM during a command that writes: one line that says what is left, and the signal's exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hubmerge.cli import output

__all__ = ["interruptible"]

_AGAIN = b"interrupted again: ended at once; the same command goes on from what is left\n"
_SHOW_CURSOR = b"\x1b[?25h"
"""A bar on a terminal hides it."""


@contextmanager
def interruptible() -> Iterator[None]:
    """End the command with 128 + the signal's number when Ctrl-C or SIGTERM comes while this lasts.

    The first signal lets what is running tidy up and say what is left; the second ends the process where it is, which costs
    no more than a kill.
    """
    received: list[int] = []

    def end(number: int, _frame: Any) -> None:
        if received:
            with suppress(OSError):
                os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + _AGAIN)
            os._exit(128 + number)
        received.append(number)
        raise KeyboardInterrupt

    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heard}
    try:
        yield
    except KeyboardInterrupt as interrupted:
        output.note(str(interrupted) or "interrupted before anything was written")
        sys.exit(128 + (received or [signal.SIGINT])[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
