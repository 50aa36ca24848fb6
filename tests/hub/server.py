"""The test Hub: three origins over one state, with a log, faults, and direct access for tests to set the scene."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hub import api_commit, api_discussions, api_files, api_info, api_refs, api_repos, cdn
from hub.faults import Action, Do, Fault, FaultRules
from hub.log import RequestLog
from hub.origin import Origin
from hub.repository import Commit, Repository
from hub.routes import dispatch
from hub.state import HubState, Settings
from hub.wire import Request, Response
from hub.writing import Add, Change, Delete, apply_changes, create_repository, put_file

__all__ = ["HubServer"]

_API = (
    api_repos.ROUTES,
    api_info.ROUTES,
    api_refs.ROUTES,
    api_commit.ROUTES,
    api_discussions.ROUTES,
    api_files.ROUTES,
    api_info.LAST,
)
_CLIENT_VARIABLES = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_", "TRANSFORMERS_OFFLINE", "HUBMERGE_CACHE")


class HubServer:
    """A Hugging Face Hub on loopback, empty but for its people.

    `ada` owns `token` (write) and `read_token`, and belongs to the organisation `acme`; `bob` owns `other_token`
    (write).  Use it as a context manager, or call `start` and `stop`.

    url: the API and small files.  cdn_url: LFS contents, on another port.  stranger_url: a third origin that nobody
    should send a token to; it serves what an anonymous visitor gets (see `faults.Redirect`).
    """

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.state = HubState(folder, settings or Settings())
        self.log = RequestLog()
        self.faults = FaultRules()
        self.crashes: list[str] = []
        """Tracebacks of the server's own mistakes; the fixture fails a test that finds any."""
        self._origins = [
            self._origin("api", lambda request: dispatch(_API, self.state, request)),
            self._origin("cdn", lambda request: dispatch((cdn.ROUTES,), self.state, request)),
            self._origin("stranger", self._as_stranger),
        ]
        self.url, self.cdn_url, self.stranger_url = (origin.url for origin in self._origins)
        self.state.api_url, self.state.cdn_url = self.url, self.cdn_url
        accounts = self.state.accounts
        self.token, self.read_token = accounts.new_token("ada"), accounts.new_token("ada", "read")
        self.other_token = accounts.new_token("bob")
        accounts.organisations["acme"] = {"ada"}

    def _origin(self, name: str, answer: Callable[[Request], Response]) -> Origin:
        return Origin(name, answer, log=self.log, faults=self.faults, crashes=self.crashes)

    def _as_stranger(self, request: Request) -> Response:
        headers = {name: value for name, value in request.headers.items() if name != "authorization"}
        return dispatch((*_API, cdn.ROUTES), self.state, replace(request, headers=headers))

    def start(self) -> None:
        for origin in self._origins:
            origin.start()

    def stop(self) -> None:
        for origin in self._origins:
            origin.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # people

    def new_token(self, user: str, role: str = "write") -> str:
        """A token for `user` (created when new) with the role write or read."""
        return self.state.accounts.new_token(user, role)

    def revoke(self, token: str) -> None:
        """From now on the token is refused with 401."""
        with self.state.lock:
            self.state.accounts.revoke(token)

    # repositories, without HTTP

    def repository(self, repo: str, kind: str = "models") -> Repository:
        found = self.state.find(kind, repo)
        if found is None:
            raise LookupError(f"the test Hub has no {kind}/{repo}")
        return found

    def add(
        self,
        repo: str,
        files: Path | Mapping[str, str | bytes | None] | None = None,
        *,
        kind: str = "models",
        **edits: Any,
    ) -> Repository:
        """A new repository with these files in one commit (none: only .gitattributes) and `edit`'s settings."""
        with self.state.lock:
            create_repository(self.state, kind, repo)
            if files is not None:
                self.commit(repo, files, kind=kind, title="Upload the files")
            return self.edit(repo, kind=kind, **edits)

    def commit(
        self,
        repo: str,
        files: Path | Mapping[str, str | bytes | None],
        *,
        kind: str = "models",
        branch: str = "main",
        title: str = "Change files",
    ) -> Commit:
        """A commit that adds or replaces files (a folder's, or path -> content; None deletes the path)."""
        with self.state.lock:
            repository, ref = self.repository(repo, kind), f"refs/heads/{branch}"
            start = None if ref in repository.refs else repository.head
            tree = (start or repository.commits[repository.refs[ref]]).tree
            changes: list[Change] = []
            for path, content in _contents(files):
                if content is None:
                    changes.append(Delete(path))
                else:
                    changes.append(Add(path, put_file(self.state, repository, tree, path, content)))
            author = repository.namespace
            return apply_changes(self.state, repository, ref, changes, title=title, author=author, start=start)

    def edit(self, repo: str, *, kind: str = "models", **edits: Any) -> Repository:
        """Set what the API does not: private, gated, disabled, downloads, likes, created, modified, granted (a set)."""
        with self.state.lock:
            repository = self.repository(repo, kind)
            for name, value in edits.items():
                if name not in {"private", "gated", "disabled", "downloads", "likes", "created", "modified", "granted"}:
                    raise TypeError(f"a repository has no setting {name!r}")
                setattr(repository, name, value)
            return repository

    def move(self, repo: str, target: str, kind: str = "models") -> None:
        """Rename a repository; `repo` (which may lack a namespace, as gpt2 does) is redirected from now on."""
        with self.state.lock:
            api_repos.rename_repository(self.state, self.repository(repo, kind), target)

    def redirect(self, old: str, repo: str, kind: str = "models") -> None:
        """Let the name `old`, which no repository has, lead to the repository `repo`."""
        self.state.moved[kind, old.lower()] = self.repository(repo, kind).id

    def content(self, repo: str, path: str, revision: str = "main", kind: str = "models") -> bytes:
        """The bytes of a file, read behind the API."""
        entry = self.repository(repo, kind).commit_of(revision).tree[path]
        return self.state.objects.read(entry.sha256)

    # faults

    def inject(self, then: Action, path: str = "", **conditions: Any) -> Fault:
        """Add a fault (see `faults.Fault` for method, origin, nth, times); returns it, to ask how often it struck."""
        return self.faults.add(Fault(then, path, **conditions))

    def revoke_after(self, requests: int, token: str, path: str = "") -> Fault:
        """The token dies once so many requests (that fit `path`) have been answered."""
        return self.inject(Do(lambda: self.revoke(token)), path, nth=requests + 1)

    def slip_in(self, repo: str, files: Mapping[str, str | bytes | None]) -> Fault:
        """Somebody else's commit gets in just before the next commit to the repository."""
        return self.inject(Do(lambda: self.commit(repo, files)), f"/{repo}/commit/", method="POST")

    # clients

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """The whole environment of a subprocess whose Hub is this one.

        home: holds the client's cache, token file and hubmerge's cache.  token: None is an anonymous client.
        The client reads HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and HF_HUB_DISABLE_XET once, when it is imported, so they
        must be there before; `fixtures` says what works within one process.
        """
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_CLIENT_VARIABLES)}
        ours = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_SYMLINKS_WARNING": "1",
            "HUBMERGE_CACHE": str(home / "hubmerge"),
            "NO_PROXY": "127.0.0.1",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        return {**kept, **ours, **({"HF_TOKEN": token} if token else {})}


def _contents(files: Path | Mapping[str, str | bytes | None]) -> Iterator[tuple[str, bytes | None]]:
    """Path in the repository and content, one file after the other: a folder need not fit into memory."""
    if isinstance(files, Path):
        for path in sorted(files.rglob("*")):
            if path.is_file():
                yield path.relative_to(files).as_posix(), path.read_bytes()
    else:
        yield from ((path, text.encode() if isinstance(text, str) else text) for path, text in files.items())
