"""One repository: its commits, the names that point to them, its discussions, and what its owner set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from hub.discussions import Discussion
from hub.objects import git_oid
from hub.trees import Tree, folder_oids
from hub.wire import Refusal

__all__ = ["Commit", "Repository", "missing_entry"]

_SHORT_ID = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class Commit:
    """One state of the repository's files and how it came to be."""

    id: str
    parents: tuple[str, ...]
    tree: Tree
    title: str
    message: str
    author: str
    date: datetime


def missing_entry(path: str, commit: Commit) -> Refusal:
    """404 for a path that the commit does not have; the header lets the client remember that it is missing."""
    headers = {"X-Repo-Commit": commit.id}
    return Refusal(404, f"{path} does not exist on {commit.id}", code="EntryNotFound", headers=headers)


@dataclass
class Repository:
    """A model, dataset or space.  Only the main branch is born with it, once `commit` is called."""

    kind: str
    """models, datasets or spaces."""
    id: str
    number: str
    """The 24 digits the Hub calls ``_id``."""
    created: datetime
    private: bool = False
    gated: str | bool = False
    """auto, manual or False."""
    disabled: bool = False
    downloads: int = 0
    likes: int = 0
    modified: datetime | None = None
    """Set by a test; otherwise the date of main's newest commit."""
    granted: set[str] = field(default_factory=set)
    """Users who may read the content although it is gated."""
    lfs: set[str] = field(default_factory=set)
    """sha256 of every LFS content that was uploaded to this repository."""
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    """Full name (refs/heads/main, refs/tags/v1, refs/pr/1) -> commit id."""
    discussions: list[Discussion] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return self.id.partition("/")[0]

    @property
    def head(self) -> Commit:
        return self.commits[self.refs["refs/heads/main"]]

    @property
    def last_modified(self) -> datetime:
        return self.modified or self.head.date

    def ref(self, revision: str) -> str | None:
        """The full name of the branch, tag or pull request called `revision`, if there is one."""
        name = "main" if revision == "HEAD" else revision
        known = (name, f"refs/heads/{name}", f"refs/tags/{name}")
        return next((ref for ref in known if ref in self.refs), None)

    def commit_of(self, revision: str) -> Commit:
        """The commit that a branch, a tag, a pull request or (part of) a commit id names."""
        ref = self.ref(revision)
        if ref is not None:
            return self.commits[self.refs[ref]]
        if _SHORT_ID.fullmatch(revision):
            found = [commit for name, commit in self.commits.items() if name.startswith(revision)]
            if len(found) == 1:
                return found[0]
        raise Refusal(404, f"Invalid rev id: {revision}", code="RevisionNotFound")

    def add_commit(
        self, ref: str, tree: Tree, *, title: str, author: str, date: datetime, message: str = "", merged: str = ""
    ) -> Commit:
        """Put a commit with these files on `ref` (created when new); `merged` is the second parent of a merge."""
        parents = tuple(parent for parent in (self.refs.get(ref, ""), merged) if parent)
        files: Tree = MappingProxyType(dict(sorted(tree.items())))
        lines = [f"tree {folder_oids(files)['']}", *(f"parent {parent}" for parent in parents)]
        text = "\n".join([*lines, f"author {author} {date.isoformat()}", "", title, "", message])
        commit = Commit(git_oid(text.encode(), "commit"), parents, files, title, message, author, date)
        self.commits[commit.id] = commit
        self.refs[ref] = commit.id
        return commit

    def history(self, commit: Commit) -> Iterator[Commit]:
        """`commit` and its first parents, newest first."""
        yield commit
        while commit.parents:
            commit = self.commits[commit.parents[0]]
            yield commit

    def last_change(self, commit: Commit, path: str) -> Commit:
        """The newest commit, from `commit` back, that changed the file or anything in the folder `path`."""

        def content(state: Commit) -> dict[str, str]:
            return {name: e.oid for name, e in state.tree.items() if name == path or name.startswith(f"{path}/")}

        now, newest = content(commit), commit
        for older in self.history(commit):
            if content(older) != now:
                break
            newest = older
        return newest

    def discussion(self, number: int) -> Discussion:
        if not 1 <= number <= len(self.discussions):
            raise Refusal(404, f"Discussion {number} not found")
        return self.discussions[number - 1]
