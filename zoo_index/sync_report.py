"""What a sync did: `SyncReport` for the one who asked, `SyncLog` for the one who writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Outcome", "Progress", "Refused", "Renamed", "SyncLog", "SyncReport"]

Outcome = Literal["added", "updated", "unchanged", "removed", "renamed", "gone", "refused"]
Progress = Callable[[str, Outcome], None]
"""Called once for each model with its reference and what became of it."""


@dataclass(frozen=True)
class Refused:
    """A model that cannot be merged, and why."""

    reference: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Renamed:
    """A model that the Hub keeps under another name than it was asked for or recorded by."""

    old: str
    new: str


@dataclass(frozen=True)
class SyncReport:
    """What a sync did, by reference.

    refused: models that cannot be merged; unless they could not be read at all, they are among the others too.
    gone: models that were on the Hub, and that it no longer shows (deleted, or private now); their records stay for the
    lineage of others, refused.
    """

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    refused: tuple[Refused, ...] = ()
    renamed: tuple[Renamed, ...] = ()
    gone: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return asdict(self)


def _silent(reference: str, outcome: Outcome) -> None:
    pass


@dataclass
class SyncLog:
    """A report being written."""

    progress: Progress = _silent
    outcomes: dict[Outcome, list[str]] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    renamed: list[Renamed] = field(default_factory=list)

    def add(self, reference: str, outcome: Outcome, refusals: Sequence[str] = ()) -> None:
        """One model is done; outcome refused: it was not recorded."""
        self.outcomes.setdefault(outcome, []).append(reference)
        if refusals:
            self.refused.append(Refused(reference, tuple(refusals)))
        self.progress(reference, outcome)

    def rename(self, old: str, new: str) -> None:
        """A model is known by another name now."""
        self.renamed.append(Renamed(old, new))
        self.progress(old, "renamed")

    def report(self) -> SyncReport:
        """What was added so far."""
        done = {name: tuple(self.outcomes.get(name, ())) for name in ("added", "updated", "unchanged", "removed")}
        gone = tuple(self.outcomes.get("gone", ()))
        return SyncReport(**done, refused=tuple(self.refused), renamed=tuple(self.renamed), gone=gone)
