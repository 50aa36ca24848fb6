"""Ctrl-C and SIGTERM during a command that writes: one line that says what is left, and the signal's exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hubmerge.cli import output

__all__ = ["interruptible"]


@contextmanager
def interruptible() -> Iterator[None]:
    """End the command with 128 + the signal's number when Ctrl-C or SIGTERM comes while this lasts."""
    received = [signal.SIGINT]

    def terminate(number: int, _frame: Any) -> None:
        received.append(signal.Signals(number))
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt as interrupted:
        output.note(str(interrupted) or "interrupted: nothing was left behind")
        sys.exit(128 + received[-1])
    finally:
        signal.signal(signal.SIGTERM, before)
