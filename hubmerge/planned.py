"""`Planned`: what every plan tells of its parents and files, whatever carries it out; what opens, fetches and checks files asks for no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from hubmerge.plan_types import CarriedFile, Download, PlannedParent
from zoo_index.tensors import TensorMeta

__all__ = ["Planned"]


class Planned(Protocol):
    """A merge that was decided on, before any weight is read."""

    @property
    def parents(self) -> Sequence[PlannedParent]: ...

    @property
    def carried(self) -> Sequence[CarriedFile]: ...

    @property
    def downloads(self) -> Sequence[Download]: ...

    @property
    def bytes_to_download(self) -> int: ...

    @property
    def bytes_written(self) -> int: ...

    @property
    def hash(self) -> str: ...

    @property
    def stored(self) -> Iterator[tuple[int, TensorMeta, bool]]:
        """Every tensor that is read: the parent's place, where it is, whether the parent's adapter has it."""
        ...
