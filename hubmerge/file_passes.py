"""Compiled passes that read a tensor's entries for themselves: given a part of the files at a time, so that work can be stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hubmerge import gram_kernels
from hubmerge.io.reader import StepReader
from hubmerge.ranges import spans

__all__ = ["read_inside"]

_BLOCKS = 32
"""Blocks that a compiled pass reads and goes through before it is seen whether the work was stopped."""


def read_inside(reader: StepReader, entries: int, run: Callable[..., Any]) -> bool:
    """Have a pass read all entries and go through them; False where inputs are no files, or could not be read.

    run: ``(first entry, entries, block, descriptors, places, in_place, base, parents) -> whether it could``.
    """
    block = gram_kernels.GRAM_BLOCK
    for first, last in spans(0, entries, _BLOCKS * block):
        with reader.sources(first, last, block) as sources:
            if sources is None:
                return False
            parents = sources.inputs[1:] if reader.step.base else sources.inputs
            told = (sources.descriptors, sources.places, sources.in_place, sources.inputs[0], parents)
            if not run(first, last - first, block, *told):
                return False
    return True
