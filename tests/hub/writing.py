"""How content gets into a repository: what becomes an LFS file, and changes that become a commit."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

from hub.card_rules import validate_card
from hub.repository import Commit, Repository, missing_entry
from hub.state import HubState
from hub.trees import Entry, Tree, lfs_entry, regular_entry
from hub.wire import Refusal

__all__ = ["DEFAULT_ATTRIBUTES", "Add", "Change", "Delete", "apply_changes", "create_repository", "is_lfs", "put_file"]

_LFS_PATTERNS = (
    "*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack *.npy *.npz *.onnx "
    "*.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/**/* *.tar.* *.tar *.tflite *.tgz "
    "*.wasm *.xz *.zip *.zst *tfevents*"
)
DEFAULT_ATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in _LFS_PATTERNS.split())
"""The .gitattributes a new repository is born with."""


@dataclass(frozen=True)
class Add:
    """A file is added or replaced."""

    path: str
    entry: Entry


@dataclass(frozen=True)
class Delete:
    """A file, or a folder with all that is in it, goes away."""

    path: str
    folder: bool = False


Change = Add | Delete


def create_repository(state: HubState, kind: str, repo: str, *, private: bool = False) -> Repository:
    """A new repository whose first commit holds only .gitattributes, as the Hub makes it."""
    repository = Repository(kind, repo, secrets.token_hex(12), state.now(), private=private)
    text = DEFAULT_ATTRIBUTES.encode()
    tree = {".gitattributes": regular_entry(text, state.objects.put(text))}
    repository.add_commit(
        "refs/heads/main", tree, title="initial commit", author=repository.namespace, date=state.now()
    )
    state.repositories[kind, repo.lower()] = repository
    return repository


def is_lfs(state: HubState, attributes: str, path: str, size: int, sample: bytes) -> bool:
    """Whether the Hub wants a file as LFS: by .gitattributes, by size, or because it is binary; never an empty one."""
    if size == 0:
        return False
    for line in attributes.splitlines():
        pattern, *words = line.split() or [""]
        name = path if "/" in pattern else path.rpartition("/")[2]
        if "filter=lfs" in words and fnmatch(name, pattern.replace("**/", "*")):
            return True
    return size > state.settings.lfs_threshold or _is_binary(sample)


def _is_binary(sample: bytes) -> bool:
    if b"\0" in sample:
        return True
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start < len(sample) - 3  # the sample may end within a character
    return False


def put_file(state: HubState, repository: Repository, tree: Tree, path: str, data: bytes) -> Entry:
    """Store a content as the file `path` of `repository`, LFS or not by the rules of `tree`."""
    blob = state.objects.put(data)
    attributes = tree.get(".gitattributes")
    text = state.objects.read(attributes.sha256).decode() if attributes else ""
    if is_lfs(state, text, path, len(data), data[:512]):
        repository.lfs.add(blob.sha256)
        return lfs_entry(blob)
    return regular_entry(data, blob)


def apply_changes(
    state: HubState,
    repository: Repository,
    ref: str,
    changes: Iterable[Change],
    *,
    title: str,
    author: str,
    message: str = "",
    start: Commit | None = None,
) -> Commit:
    """One commit on `ref` with the changes; deletions come first, whatever their order.

    `start` is the commit a new ref begins at.  Without any difference no commit is made and the newest one returned.
    A changed README.md must pass the card's validation (400); a path to delete must exist (404).
    """
    if start is not None:
        repository.refs[ref] = start.id
    head = repository.commits[repository.refs[ref]]
    changes = tuple(changes)
    tree: dict[str, Entry] = dict(head.tree)
    for change in changes:
        if isinstance(change, Delete):
            _delete(tree, change, head)
    for change in changes:
        if isinstance(change, Add):
            tree[_checked(change.path)] = change.entry
    if tree == dict(head.tree):
        return head
    _check_card(state, head.tree, tree)
    return repository.add_commit(ref, tree, title=title, author=author, message=message, date=state.now())


def _delete(tree: dict[str, Entry], change: Delete, head: Commit) -> None:
    path = change.path.rstrip("/")
    gone = [name for name in tree if (name.startswith(f"{path}/") if change.folder else name == path)]
    if not gone:
        raise missing_entry(path, head)
    for name in gone:
        del tree[name]


def _checked(path: str) -> str:
    parts = path.split("/")
    if not path or "" in parts or ".." in parts or "." in parts or parts[0] == ".git":
        raise Refusal(400, f"Invalid path: {path!r}")
    return path


def _check_card(state: HubState, before: Tree, after: Mapping[str, Entry]) -> None:
    card = after.get("README.md")
    if card is None or card == before.get("README.md"):
        return
    errors, _ = validate_card(state.objects.read(card.sha256).decode("utf-8", "replace"))
    if errors:
        raise Refusal(400, f"Invalid metadata in README.md: {'; '.join(errors)}")
