"""The one root of every error hubmerge raises on purpose, and the errors of this package.

An error says what is wrong, where, and what to do about it.  The command line prints it as
``error: what · where · hint``; anything that is not a `HubmergeError` is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

__all__ = [
    "CatalogError",
    "CheckpointError",
    "HubError",
    "HubUnavailableError",
    "HubmergeError",
    "ModelNotFoundError",
    "ReferenceFormatError",
]


class HubmergeError(Exception):
    """What is wrong (`message`), at which place (`where`), and what to do (`hint`).

    One exception can stand for several faults (`of`); `faults` always lists the single ones, in order.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.faults: tuple[HubmergeError, ...] = (self,)

    def __str__(self) -> str:
        if self.faults != (self,):
            return "\n".join(str(fault) for fault in self.faults)
        return " · ".join(part for part in (self.message, self.where, self.hint) if part)

    @classmethod
    def of(cls, faults: Sequence[HubmergeError]) -> Self:
        """One exception of this class for all `faults` (at least one); a single fault of this class stays itself."""
        if len(faults) == 1 and isinstance(faults[0], cls):
            return faults[0]
        combined = cls("; ".join(fault.message for fault in faults))
        combined.faults = tuple(faults)
        return combined


class ReferenceFormatError(HubmergeError, ValueError):
    """A model's name cannot be read: ``org/name``, ``org/name@revision``, ``./folder`` or ``base+adapter``."""


class ModelNotFoundError(HubmergeError):
    """No such folder, and no such model in the local Hub cache or in the catalog."""


class CheckpointError(HubmergeError):
    """A model's files are missing, malformed, or of a kind that is not read (pickle, quantised, GGUF)."""


class HubError(HubmergeError):
    """The Hub cannot be reached, refuses, or does not do what it promises."""


class HubUnavailableError(HubError):
    """The Hub fails, asks to slow down or cannot be reached: nothing about the model, and later it may work."""


class CatalogError(HubmergeError):
    """The catalog cannot be opened, or does not hold what was asked for."""
