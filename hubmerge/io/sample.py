"""A cheap digest of a parent's weights: a header says nothing of the numbers, and hashing them all would cost a read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from hubmerge.io.input_files import InputFiles
from hubmerge.planned import Planned

__all__ = ["sample_digests"]

_BYTES = 256
_PLACES = 4


def sample_digests(plan: Planned, files: InputFiles) -> tuple[str, ...]:
    """For every parent of `plan`, sha256 over 4 spans of 256 bytes, evenly spread, of every tensor that is read of it.

    A model that was trained again changes it; a change of a few single numbers can escape it.  Empty for what is pinned to
    a commit of the Hub, which says more.
    """
    digests = [hashlib.sha256() for _ in plan.parents]
    sampled = set()
    for parent, meta, in_adapter in plan.stored:
        if (plan.parents[parent].adapter_commit if in_adapter else plan.parents[parent].commit) is not None:
            continue
        sampled.add(parent)
        for start, stop in _places(meta.nbytes):
            buffer = bytearray(stop - start)
            files.read_into(memoryview(buffer), parent, meta, start, in_adapter)
            digests[parent].update(buffer)
    return tuple(digest.hexdigest() if i in sampled else "" for i, digest in enumerate(digests))


def _places(size: int) -> Iterator[tuple[int, int]]:
    """Spans of a tensor of `size` bytes: all of a small one, else its start, its end and two between."""
    if size <= _BYTES * _PLACES:
        yield 0, size
        return
    for i in range(_PLACES):
        start = (size - _BYTES) * i // (_PLACES - 1)
        yield start, start + _BYTES
