"""Everything one test Hub holds, and the rules of who may see and change what."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hub.accounts import Accounts, Viewer
from hub.objects import ObjectStore
from hub.repository import Repository
from hub.wire import Refusal, Request

__all__ = ["HubState", "Settings"]


@dataclass(frozen=True)
class Settings:
    """What a test may make small: the real Hub's values are the defaults."""

    lfs_threshold: int = 10_000_000
    """Text files above so many bytes are LFS files; binary ones and those .gitattributes names always are."""
    part_size: int = 20_000_000
    """An LFS file of more bytes is uploaded in parts of so many."""
    list_page: int = 1000
    tree_page: int = 1000
    expanded_tree_page: int = 50
    commit_page: int = 50


@dataclass
class HubState:
    """Accounts, repositories and contents.  Whoever reads or writes here holds `lock`."""

    folder: Path
    settings: Settings = field(default_factory=Settings)
    api_url: str = ""
    cdn_url: str = ""
    accounts: Accounts = field(default_factory=Accounts)
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    """(kind, id in lower case) -> repository: the Hub's ids differ by more than case."""
    moved: dict[tuple[str, str], str] = field(default_factory=dict)
    """(kind, old id in lower case) -> the id it has now."""
    uploads: dict[str, dict[int, Path]] = field(default_factory=dict)
    """sha256 of an LFS file that comes in parts -> part number -> its bytes."""
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    """Signs the CDN's addresses."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    _last_moment: datetime = datetime(2000, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        self.objects = ObjectStore(self.folder / "objects")
        self.parts = self.folder / "parts"
        self.parts.mkdir()

    def now(self) -> datetime:
        """The time in whole milliseconds, later at every call: no two commits are equally old."""
        moment = datetime.now(UTC)
        moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        self._last_moment = max(moment, self._last_moment + timedelta(milliseconds=1))
        return self._last_moment

    def find(self, kind: str, repo: str) -> Repository | None:
        return self.repositories.get((kind, repo.lower()))

    def viewer(self, request: Request) -> Viewer:
        return self.accounts.viewer(request.token)

    def user(self, request: Request) -> Viewer:
        """The viewer, who must be logged in."""
        viewer = self.viewer(request)
        if viewer.anonymous:
            raise Refusal(401, "Invalid username or password.")
        return viewer

    def sees(self, viewer: Viewer, repository: Repository) -> bool:
        return not repository.private or self.accounts.belongs(viewer, repository.namespace)

    def repository(self, request: Request) -> Repository:
        """The repository in the request's path, if the viewer may know that it exists.

        A moved or differently written id is answered with 307 to the same path under the id of today.
        """
        viewer, fields = self.viewer(request), request.fields
        kind = fields.get("kind") or fields.get("prefix", "").rstrip("/") or "models"
        found = self.find(kind, fields["repo"])
        if found is None and (kind, fields["repo"].lower()) in self.moved:
            found = self.find(kind, self.moved[kind, fields["repo"].lower()])
        if found is None or not self.sees(viewer, found):
            message = "Invalid username or password." if viewer.anonymous else "Repository not found"
            raise Refusal(401 if viewer.anonymous else 404, message, code="RepoNotFound")
        if found.id != fields["repo"]:
            assert request.match is not None
            start, end = request.match.span("repo")
            place = request.path[:start] + found.id + request.path[end:]
            query = f"?{request.raw_query}" if request.raw_query else ""
            raise Refusal(307, f"Temporary Redirect. Redirecting to {place}", headers={"Location": place + query})
        return found

    def readable(self, request: Request) -> Repository:
        """The repository in the request's path, if the viewer may read its files' contents."""
        repository, viewer = self.repository(request), self.viewer(request)
        if repository.disabled:
            raise Refusal(403, "Access to this resource is disabled.")
        member = self.accounts.belongs(viewer, repository.namespace)
        if repository.gated and not member and viewer.name not in repository.granted:
            what = f"Access to {repository.kind.rstrip('s')} {repository.id} is restricted"
            if viewer.anonymous:
                hint = "You must have access to it and be authenticated to access it. Please log in."
                raise Refusal(401, f"{what}. {hint}", code="GatedRepo")
            hint = f"Visit {self.api_url}/{repository.id} to ask for access."
            raise Refusal(403, f"{what} and you are not in the authorized list. {hint}", code="GatedRepo")
        return repository

    def require_write(self, viewer: Viewer, namespace: str) -> None:
        """Refuse a viewer who may not create or change repositories of `namespace`."""
        if viewer.anonymous:
            raise Refusal(401, "Invalid username or password.")
        if viewer.role != "write":
            raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
        if not self.accounts.belongs(viewer, namespace):
            raise Refusal(403, f'Forbidden: you don\'t have the rights to write under the namespace "{namespace}"')

    def writable(self, request: Request) -> Repository:
        """The repository in the request's path, if the viewer may change it."""
        repository, viewer = self.repository(request), self.viewer(request)
        self.require_write(viewer, repository.namespace)
        return repository

    def contributable(self, request: Request) -> Repository:
        """As `writable`, or for a pull request: then any logged-in reader with a write token will do."""
        if not request.flag("create_pr") and not request.fields.get("rev", "").startswith("refs/pr/"):
            return self.writable(request)
        repository, viewer = self.repository(request), self.user(request)
        if viewer.role != "write":
            raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
        return repository
