"""The compiled pass that merges a range of entries from file to file, block by block."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from hubmerge.compiled_files import put
from hubmerge.compiled_passes import called_by_address, compiled_pass
from hubmerge.jit import called_inside
from hubmerge.kernels import range_pass
from hubmerge.mapped_files import at_hand, bring, let_go
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
        descriptors: Any, places: Any, maps: Any, target: Any, target_place: Any, turn: Any, base: Any, parents: Any,
        entry: Any, state: Any, arguments: Any, out: Any, offset: Any, size: Any,
    ) -> Any:  # fmt: skip
        worst = np.uint32(0)
        whole = np.int64(size) * base.itemsize
        brought = bring(descriptors, places, maps, whole, parents[0][:1])
        for low in range(np.uint64(0), np.uint64(size), np.uint64(out.size)):
            count = min(np.uint64(out.size), np.uint64(np.uint64(size) - low))
            done = np.int64(low)
            complete, base, parents = at_hand(
                brought, descriptors, places, maps, base, parents, done, np.int64(count), ahead
            )
            if not complete:
                return np.uint32(NO_FILE)
            found = merge(base, parents, entry, state, arguments, out, np.int64(offset) + done, np.uint64(0), count)
            worst = max(worst, found)
            if not put(out[:count], target, target_place + done * out.itemsize, turn):
                return np.uint32(NO_FILE)
        let_go(maps, places, whole)
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

    The pass is ``run(descriptors, places, maps, target, target_place, turn, base, parents, entry, state, arguments, out, offset,
    size) -> exponent bits, or NO_FILE``.  descriptors, places, maps: int64, the open file of every input, the byte where its
    first entry is, and where the file is mapped or 0 (`hubmerge.mapped_files`), the base's first where it is read; target,
    target_place, turn: those of the output (`hubmerge.compiled_files`); base, parents, out: buffers for a block; size: how many
    entries; the rest as for `hubmerge.kernels.merge_kernel`.  marked: what the stage keeps is in `state` (`hubmerge.marks`).
    """
    return _file_pass(rule, operand, stage, switches, marked) if called_by_address() else None
