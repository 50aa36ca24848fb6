"""One commit on the Hub, or none: made once whatever answers are lost, checked afterwards, undone with its new repository."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cards.errors import PublishError
from cards.hub_repository import RepositoryState, find_proposal, look_up
from cards.publish_plan import PublishFile
from zoo_index.errors import HubError
from zoo_index.hub_calls import call

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["Change", "Committed", "commit_change", "new_repository"]


@dataclass(frozen=True)
class Change:
    """What one commit does to a repository.

    files: everything that is published, changed or not; gone: names of files that go away; parent: the commit that it was
    planned on; data: a file's name -> its bytes, or where they are.
    """

    repo: str
    branch: str
    parent: str
    files: tuple[PublishFile, ...]
    gone: tuple[str, ...]
    data: Callable[[str], bytes | Path]
    title: str
    create_pr: bool = False


@dataclass(frozen=True)
class Committed:
    """A commit that is on the Hub, and the page that shows it."""

    commit: str
    url: str


def commit_change(api: HfApi, change: Change) -> Committed:
    """Make the commit and compare what the Hub then has with what was sent.

    An answer that is lost is looked up before anything is sent again, so that there is never a second commit.  Raises
    `HubError`, and `PublishError` when somebody else committed meanwhile or the Hub holds other bytes than were sent.
    """
    done = _commit(api, change)
    wrong: tuple[str, ...] = ()
    for _ in range(2):  # once more before an alarm: the Hub's information can lag behind its commits
        try:
            state = look_up(api, change.repo, done.commit)
        except HubError as fault:
            what = f"it was published, but could not be compared with what was sent: {fault.message}"
            raise HubError(
                what, where=done.url, hint="publish again, which compares and sends nothing twice"
            ) from fault
        wrong = state.differences(change.files, change.gone) if state else tuple(file.name for file in change.files)
        if not wrong:
            return done
    raise PublishError(
        f"the Hub does not hold what was sent: {', '.join(wrong)}",
        where=done.url,
        hint="look at the repository, and publish again",
    )


def _commit(api: HfApi, change: Change) -> Committed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    with _plain_errors(change.repo):
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(file.name, data if isinstance(data := change.data(file.name), bytes) else str(data))
            for file in change.files
            if file.change != "unchanged"
        ]
    operations += [CommitOperationDelete(name, is_folder=False) for name in change.gone]
    tried = False

    def once() -> Committed:
        nonlocal tried
        if tried and (found := _already_there(api, change)) is not None:
            return found
        tried = True
        with _plain_errors(change.repo):
            info = api.create_commit(
                change.repo,
                operations,
                commit_message=change.title,
                parent_commit=change.parent,
                revision=None if change.create_pr else change.branch,
                create_pr=change.create_pr,
            )
        return Committed(info.oid, info.pr_url or info.commit_url)

    try:
        return call(change.repo, once)
    except HubError as fault:
        status = _status(fault)
        if status is None or status == 412 or status >= 500:  # the last try, or one that was slow, may have made it
            found = _in_spite_of(api, change)
            if found is not None:
                return found
        if status == 412:
            raise PublishError(
                "somebody else committed to the repository meanwhile",
                where=change.repo,
                hint="nothing was published; run it again to publish on top of that",
            ) from fault
        raise


def _status(fault: HubError) -> int | None:
    """The status of the Hub's answer; None when there was no answer."""
    response = getattr(fault.__cause__, "response", None)
    return None if response is None else int(response.status_code)


def _already_there(api: HfApi, change: Change) -> Committed | None:
    """The commit, when an earlier try made it although its answer was lost."""
    if change.create_pr:
        proposal = find_proposal(api, change.repo, change.title, change.files, change.gone)
        return Committed(proposal[1], f"{api.endpoint}/{change.repo}/discussions/{proposal[0]}") if proposal else None
    state = look_up(api, change.repo, change.branch)
    if state is None or state.commit == change.parent or state.differences(change.files, change.gone):
        return None
    return Committed(state.commit, f"{api.endpoint}/{change.repo}/commit/{state.commit}")


def _in_spite_of(api: HfApi, change: Change) -> Committed | None:
    try:
        return _already_there(api, change)
    except HubError:
        return None


@contextmanager
def _plain_errors(repo: str) -> Iterator[None]:
    """Turn what create_commit wraps or lets through into the errors that `call` knows."""
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    try:
        yield
    except RuntimeError as error:  # "Error while uploading ...", around what went wrong
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise HubError(
            f"the upload failed ({first})", where=repo, hint="publish again; what arrived is kept"
        ) from error
    except json.JSONDecodeError as error:  # a proxy's page where the Hub should answer
        raise httpx.RemoteProtocolError("the answer is not JSON") from error
    except ValueError as error:
        if getattr(error, "response", None) is not None:
            raise  # BadRequestError is one too
        raise PublishError(" ".join(str(error).split()), where=repo, hint="nothing was published") from error


@contextmanager
def new_repository(api: HfApi, repo: str, *, private: bool) -> Iterator[RepositoryState]:
    """A repository that is made now, and deleted again when what happens inside fails and nothing was committed."""
    _create(api, repo, private=private)
    state: RepositoryState | None = None
    try:
        state = _as_made(look_up(api, repo), repo, private=private)
        yield state
    except BaseException as error:
        _delete(api, repo, state, error)
        raise


def _as_made(state: RepositoryState | None, repo: str, *, private: bool) -> RepositoryState:
    if state is None:
        raise HubError("the repository was made, and the Hub does not know it", where=repo, hint="try again later")
    if not state.is_empty:
        raise PublishError("somebody else made the repository meanwhile", where=repo, hint="choose another name")
    if private and not state.private:
        raise PublishError("the Hub made the repository public", where=repo, hint="nothing was published")
    return state


def _create(api: HfApi, repo: str, *, private: bool) -> None:
    tried = False

    def once() -> None:
        nonlocal tried
        again, tried = tried, True
        try:
            api.create_repo(repo, private=private)
        except Exception as error:
            response = getattr(error, "response", None)
            if not again or response is None or response.status_code != 409:
                raise  # else an earlier try, whose answer was lost, has made it

    try:
        call(repo, once)
    except HubError as fault:
        status = _status(fault)
        if status == 409:
            raise PublishError(
                "the name is taken, by a repository that you cannot see", where=repo, hint="choose another name"
            ) from fault
        if (status is None or status >= 500) and look_up(api, repo) is not None:
            return  # it was not there before: the last try has made it, and only its answer was lost
        raise


def _delete(api: HfApi, repo: str, state: RepositoryState | None, error: BaseException) -> None:
    """Remove a repository that was just made and is still empty; say so in `error` when that is not possible."""
    try:
        now = look_up(api, repo)
        if now is None or not now.is_empty or (state is not None and now.commit != state.commit):
            return
        call(repo, lambda: api.delete_repo(repo, missing_ok=True))
    except HubError as fault:
        left = f"the new and empty repository {repo} could not be deleted again ({fault.message})"
        if isinstance(error, HubError | PublishError):
            hint = f"delete it at {api.endpoint}/{repo}/settings, or publish again, which fills it"
            error.hint = "; ".join(part for part in (error.hint, f"{left}: {hint}") if part)
        else:
            error.add_note(left)
