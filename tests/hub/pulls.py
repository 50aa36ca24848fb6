"""Pull requests: opening one, which files stand against it, merging it."""

from __future__ import annotations

from hub.discussions import Discussion
from hub.repository import Commit, Repository
from hub.state import HubState
from hub.trees import Entry
from hub.wire import Refusal

__all__ = ["conflicts", "merge", "open_pull_request"]


def open_pull_request(
    state: HubState,
    repository: Repository,
    author: str,
    title: str,
    description: str,
    base: Commit,
    *,
    status: str = "open",
) -> Discussion:
    """A pull request that starts at `base`; its ref is refs/pr/N."""
    number, now = len(repository.discussions) + 1, state.now()
    discussion = Discussion(number, title, author, now, is_pull_request=True, status=status, base=base.id)
    discussion.comment(author, now, description)
    repository.discussions.append(discussion)
    repository.refs[discussion.ref] = base.id
    return discussion


def _changed(before: Commit, after: Commit) -> dict[str, Entry | None]:
    """Path -> its new entry, or None where the file is gone, for every path that differs."""
    paths = sorted(before.tree.keys() | after.tree.keys())
    return {path: after.tree.get(path) for path in paths if before.tree.get(path) != after.tree.get(path)}


def _sides(repository: Repository, discussion: Discussion) -> tuple[dict[str, Entry | None], dict[str, Entry | None]]:
    """What main and what the pull request changed since the pull request began."""
    assert discussion.base is not None
    base = repository.commits[discussion.base]
    return _changed(base, repository.head), _changed(base, repository.commits[repository.refs[discussion.ref]])


def conflicts(repository: Repository, discussion: Discussion) -> list[str]:
    """Files that main and the pull request changed to different contents."""
    if discussion.status in {"merged", "closed"}:
        return []
    ours, theirs = _sides(repository, discussion)
    return [path for path in theirs if path in ours and ours[path] != theirs[path]]


def merge(state: HubState, repository: Repository, discussion: Discussion, author: str) -> Commit:
    """Bring the pull request's changes into main, by one commit with two parents."""
    if discussion.status != "open":
        raise Refusal(400, f"This pull request is {discussion.status}, only open ones can be merged")
    against = conflicts(repository, discussion)
    if against:
        raise Refusal(409, f"This pull request has conflicts in {', '.join(against)}")
    _, theirs = _sides(repository, discussion)
    tree = dict(repository.head.tree)
    for path, entry in theirs.items():
        if entry is None:
            tree.pop(path, None)
        else:
            tree[path] = entry
    made = repository.add_commit(
        "refs/heads/main",
        tree,
        title=f"{discussion.title} (#{discussion.number})",
        author=author,
        date=state.now(),
        merged=repository.refs[discussion.ref],
    )
    discussion.merge_commit = made.id
    discussion.set_status("merged", author, made.date)
    return made
