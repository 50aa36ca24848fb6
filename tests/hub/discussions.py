"""A discussion or pull request of a repository, as a list of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["Discussion"]


@dataclass
class Discussion:
    """`base` is the commit a pull request started from; `merge_commit` the one that brought it into main."""

    number: int
    title: str
    author: str
    created: datetime
    is_pull_request: bool
    status: str
    """open, closed, merged or draft (a pull request that was opened without files)."""
    base: str | None = None
    merge_commit: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.number}"

    def add_event(self, kind: str, author: str, date: datetime, data: dict[str, Any]) -> dict[str, Any]:
        """Add an event (comment, status-change, commit, title-change) and return it as the API shows it."""
        event = {
            "id": f"{self.number:08x}{len(self.events) + 1:016x}",
            "type": kind,
            "createdAt": date.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "author": {"name": author, "type": "user"},
            "data": data,
        }
        self.events.append(event)
        return event

    def comment(self, author: str, date: datetime, text: str) -> dict[str, Any]:
        data = {"edited": False, "hidden": False, "latest": {"raw": text, "html": text}}
        return self.add_event("comment", author, date, data)

    def set_status(self, status: str, author: str, date: datetime) -> dict[str, Any]:
        self.status = status
        return self.add_event("status-change", author, date, {"status": status})
