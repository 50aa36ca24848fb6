"""The compiled pass that merges a range of entries from file to file, block by block."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from hubmerge.compiled_files import put
from hubmerge.compiled_inputs import at_hand
from hubmerge.compiled_passes import called_by_address, compiled_pass
from hubmerge.jit import called_inside
from hubmerge.kernels import range_pass
from hubmerge.marks import marked_range_pass
from hubmerge.switches import Switches

__all__ = ["NO_FILE", "file_kernel"]

NO_FILE = 0xFFFFFFFF
"""Instead of exponent bits: a file did not give or take what it should."""


@compiled_pass
def _file_pass(
    rule: Callable[..., Any], operand: str, stage: Callable[..., Any] | None, switches: Switches, marked: bool
) -> Callable[..., Any]:
    merge = called_inside(marked_range_pass(rule, switches) if marked else range_pass(rule, operand, stage, switches))
    ahead = 0 if operand == "weight" else 1

    def run(
        descriptors: Any, places: Any, in_place: Any, target: Any, target_place: Any, turn: Any, base: Any, parents: Any,
        entry: Any, state: Any, arguments: Any, out: Any, offset: Any, size: Any,
    ) -> Any:  # fmt: skip
        worst = np.uint32(0)
        for low in range(np.uint64(0), np.uint64(size), np.uint64(out.size)):
            count = min(np.uint64(out.size), np.uint64(np.uint64(size) - low))
            done = np.int64(low)
            complete, ours, others = at_hand(in_place, descriptors, places, base, parents, done, np.int64(count), ahead)
            if not complete:
                return np.uint32(NO_FILE)
            found = merge(ours, others, entry, state, arguments, out, np.int64(offset) + done, np.uint64(0), count)
            worst = max(worst, found)
            if not put(out[:count], target, target_place + done * out.itemsize, turn):
                return np.uint32(NO_FILE)
        return worst

    return run


@cache
def file_kernel(
    rule: Callable[..., Any],
    operand: str,
    stage: Callable[..., Any] | None,
    switches: Switches = (),
    marked: bool = False,
) -> Callable[..., Any] | None:
    """`hubmerge.kernels.merge_kernel` that reads its inputs and writes its output block by block; None where that is not to be had.

    The pass is ``run(descriptors, places, in_place, target, target_place, turn, base, parents, entry, state, arguments, out, offset,
    size) -> exponent bits, or NO_FILE``.  The first three and `base` and `parents` are a `hubmerge.io.reader.Sources`, the base's
    first where it is read; target, target_place, turn: those of the output (`hubmerge.compiled_files`); out: a buffer for a
    block; size: how many entries; the rest as for `hubmerge.kernels.merge_kernel`.  marked: what the stage keeps is in `state`
    (`hubmerge.marks`).
    """
    return _file_pass(rule, operand, stage, switches, marked) if called_by_address() else None
