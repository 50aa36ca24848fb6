"""What is in memory of a step's mapped inputs: ranges of entries come for a pass, and the last ones stay for the next pass.

A measure goes through a tensor from its beginning; the pass that merges comes after it, begins at the end, and finds there
what the measure left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge.io.maps import AROUND, bring, let_go

__all__ = ["MOST_KEPT", "Room", "Seen", "Windows"]

Array = npt.NDArray[Any]

MOST_KEPT = 16 << 20
"""Bytes of a step's inputs that stay in memory between two passes, at most."""
_ALL_KEPT = 2 * MOST_KEPT
"""The same of all steps that are worked on at once."""


class Room:
    """How many bytes of maps may stay in memory between passes: shared by all workers, from any thread."""

    def __init__(self) -> None:
        self._free = _ALL_KEPT
        self._lock = threading.Lock()

    def take(self, wanted: int) -> int:
        """As many of the wanted bytes as there are."""
        with self._lock:
            taken = min(wanted, self._free)
            self._free -= taken
        return taken

    def give_back(self, taken: int) -> None:
        """Have bytes that were taken free again."""
        with self._lock:
            self._free += taken


@dataclass(frozen=True)
class Seen:
    """One input's tensor in place: the open file, the byte of it where the tensor begins, and that byte's address.

    whole: the addresses where the file's map begins and ends.
    """

    descriptor: int
    start: int
    address: int
    whole: tuple[int, int]


class Windows:
    """Ranges of one step's inputs, which are mapped; every `bring` is followed by `leave` of the same range.

    dtype, size: of every input's entries.  mapped: gives the whole of an open file, and lives as long as its map.
    """

    def __init__(
        self, inputs: Sequence[Seen], dtype: str, size: int, mapped: Callable[[int], Array | None], room: Room
    ) -> None:
        self._inputs = inputs
        self._dtype = np.dtype(dtype)
        self._width = self._dtype.itemsize
        self._size = size
        self._mapped = mapped
        self._room = room
        self._taken = 0
        self._kept_from = self._size
        self._kept: set[tuple[int, int]] = set()

    def keep_the_end(self) -> None:
        """From now on let ranges at the end stay when they are left, as far as there is room."""
        entry = self._width * len(self._inputs)
        self._taken += self._room.take(min(MOST_KEPT, entry * self._size) - self._taken)
        self._kept_from = self._size - self._taken // entry

    def keep_no_more(self) -> None:
        """From now on let ranges go when they are left; those that stayed are still there."""
        self._kept_from = self._size

    def bring(self, first: int, last: int) -> tuple[Array, ...]:
        """Entries `first` to `last` of every input, in memory; none where one of them is to be read."""
        low, high = first * self._width, last * self._width
        known = (first, last) in self._kept
        parts: list[Array] = []
        for one in self._inputs:
            end, whole = one.start + high, self._mapped(one.descriptor)
            if whole is None or not (known or bring(one.address + low, high - low, one.descriptor, end)):
                return ()
            parts.append(whole[one.start + low : end].view(self._dtype))
        return tuple(parts)

    def leave(self, first: int, last: int) -> None:
        """Hold on no longer to a range, unless it is one that stays."""
        if first >= self._kept_from:
            self._kept.add((first, last))
            return
        self._kept.discard((first, last))
        around = AROUND // self._width  # what came with it goes, too, but for what stays
        low = max([first - around, *(end for _, end in self._kept if end <= first)])
        high = min([last + around, *(begin for begin, _ in self._kept if begin >= last)])
        for one in self._inputs:
            begin = max(one.address + low * self._width, one.whole[0])
            let_go(begin, min(one.address + high * self._width, one.whole[1]) - begin)

    def leave_all(self) -> None:
        """Let go what stayed."""
        self.keep_no_more()
        for first, last in tuple(self._kept):
            self.leave(first, last)
        self._room.give_back(self._taken)
        self._taken = 0
