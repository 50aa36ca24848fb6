"""`Verification`: what was looked at to verify a merge, and how much it says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Check", "Level", "Verification"]

Level = Literal["exact", "tolerance", "recorded", "sizes"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its name, whether it held, and a sentence."""

    name: Literal["files", "derivation", "reload"]
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class Verification:
    """The outcome.  level: ``exact`` (derived again from the parents, byte for byte), ``tolerance`` (derived again within
    the tolerance of matrix methods), ``recorded`` (the digests of the manifest only, since the parents are not here),
    ``sizes`` (not even those: it was merged without digests).
    """

    folder: str
    level: Level
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong, and something better than sizes says so."""
        return self.level != "sizes" and all(check.passed is not False for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}
