"""`RepositoryState`: what a repository on the Hub holds at one commit, asked once, and compared with what is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cards.publish_plan import PublishFile
from zoo_index.errors import HubError
from zoo_index.hub_calls import call

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["HubFile", "RepositoryState", "find_proposal", "look_up"]


@dataclass(frozen=True)
class HubFile:
    """One file as the Hub tells of it: size in bytes, sha256 of an LFS file (else None), name of its content in git."""

    size: int
    sha256: str | None
    blob: str


@dataclass(frozen=True)
class RepositoryState:
    """A repository at one commit.  name: as it is called today."""

    name: str
    commit: str
    private: bool
    files: Mapping[str, HubFile]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing but what the Hub itself puts into a new repository."""
        return self.files.keys() <= {".gitattributes"}

    def holds(self, file: PublishFile) -> bool:
        """Whether the file is there, with the same bytes."""
        there = self.files.get(file.name)
        if there is None or there.size != file.size:
            return False
        return there.sha256 == file.sha256 if there.sha256 is not None else there.blob == file.blob

    def differences(self, files: Sequence[PublishFile], gone: Sequence[str]) -> tuple[str, ...]:
        """Names of `files` that are not there as they should be, and of `gone` that are still there."""
        wrong = [file.name for file in files if not self.holds(file)]
        return (*wrong, *(name for name in gone if name in self.files))


def look_up(api: HfApi, repo: str, revision: str = "main") -> RepositoryState | None:
    """What `repo` holds at `revision`, in one request; None when there is no such repository (or it is hidden).

    Raises `HubError` for everything else.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    def ask() -> Any:
        return api.model_info(repo, revision=None if revision == "main" else revision, files_metadata=True)

    try:
        info = call(repo, ask)
    except HubError as fault:
        cause = fault.__cause__
        if isinstance(cause, RepositoryNotFoundError) and not isinstance(cause, GatedRepoError):
            return None
        raise
    if info.sha is None or info.siblings is None:
        raise HubError("the Hub tells neither commit nor files", where=repo, hint="try again later")
    files = {
        sibling.rfilename: HubFile(
            size=sibling.size or 0, sha256=sibling.lfs.sha256 if sibling.lfs else None, blob=sibling.blob_id or ""
        )
        for sibling in info.siblings
    }
    return RepositoryState(str(info.id), str(info.sha), bool(info.private), files)


def find_proposal(
    api: HfApi, repo: str, title: str, files: Sequence[PublishFile], gone: Sequence[str]
) -> tuple[int, str] | None:
    """The open pull request of that title whose files are those: its number and commit; None when there is none."""
    found = call(
        repo,
        lambda: list(api.get_repo_discussions(repo, discussion_type="pull_request", discussion_status="open")),
    )
    for discussion in found:
        if discussion.title == title:
            state = look_up(api, repo, f"refs/pr/{discussion.num}")
            if state is not None and not state.differences(files, gone):
                return discussion.num, state.commit
    return None
