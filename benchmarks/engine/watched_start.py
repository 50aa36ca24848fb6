"""The command line with its reads and writes of weights watched; ends when the first merged bytes are written.

`python -m benchmarks.engine.watched_start STARTED ARGUMENTS...`, where STARTED is what `time.monotonic()` was when the
process was made.  Prints one line of JSON.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_moments: dict[str, dict[str, float]] = {}
_STARTED = float(sys.argv.pop(1))
_A_CHUNK = 4096
"""Bytes: the samples that tell parents apart are shorter, what is merged at a time is longer."""


def _seen(moment: str) -> None:
    if moment not in _moments:
        _moments[moment] = {"cpu": time.process_time(), "wall": time.monotonic() - _STARTED}


def _is_weights(descriptor: int) -> bool:
    return Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".safetensors"


_preadv, _pwrite = os.preadv, os.pwrite


def _watched_read(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
    if "chunk" not in _moments and _is_weights(descriptor):
        _seen("sample")
        if sum(map(len, buffers)) >= _A_CHUNK:
            _seen("chunk")
    return _preadv(descriptor, buffers, offset)


def _watched_write(descriptor: int, data: memoryview, offset: int) -> int:
    if offset and _is_weights(descriptor):
        _end()
    return _pwrite(descriptor, data, offset)


def _watched_pass(call: Callable[..., int]) -> Callable[..., int]:
    """A pass that reads and writes for itself: it is seen when its first entries are written."""

    def watched(*arguments: Any) -> int:
        found = call(*arguments)
        _seen("chunk")
        _end()
        return found

    return watched


def _end() -> None:
    _seen("write")
    os.write(1, json.dumps({**_moments, "torch": "torch" in sys.modules}).encode() + b"\n")
    os._exit(0)


def _watch_passes() -> None:
    from hubmerge import compute, merge_pass

    of_files = merge_pass.pass_of_files

    def watched(*arguments: Any) -> Callable[..., int] | None:
        call = of_files(*arguments)
        return call and _watched_pass(call)

    merge_pass.pass_of_files = watched
    compute.AT_ONCE = _A_CHUNK


if __name__ == "__main__":
    vars(os).update(preadv=_watched_read, pwrite=_watched_write)
    from hubmerge.cli.app import main

    _watch_passes()
    main()
