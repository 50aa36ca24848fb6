"""The files of one commit: a flat mapping of paths, and the folders git sees in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hub.objects import Blob, git_oid, pointer_text

__all__ = ["Entry", "Tree", "folder_oids", "lfs_entry", "regular_entry", "under"]


@dataclass(frozen=True)
class Entry:
    """One file: the size and sha256 of its content, its name in git, and whether git holds only a pointer to it."""

    sha256: str
    size: int
    oid: str
    lfs: bool

    @property
    def pointer_size(self) -> int:
        return len(pointer_text(self.sha256, self.size))

    @property
    def etag(self) -> str:
        """What the Hub calls the content: sha256 of an LFS file, git's sha1 of any other."""
        return self.sha256 if self.lfs else self.oid


Tree = Mapping[str, Entry]
"""Path in the repository -> file."""


def regular_entry(data: bytes, blob: Blob) -> Entry:
    return Entry(blob.sha256, blob.size, git_oid(data), lfs=False)


def lfs_entry(blob: Blob) -> Entry:
    return Entry(blob.sha256, blob.size, git_oid(pointer_text(blob.sha256, blob.size)), lfs=True)


def folder_oids(tree: Tree) -> dict[str, str]:
    """Folder -> the name git gives to it; the root is ``""``."""
    children: dict[str, dict[str, bytes]] = {"": {}}
    for path, entry in tree.items():
        folder, _, name = path.rpartition("/")
        children.setdefault(folder, {})[name] = b"100644 " + name.encode() + b"\0" + bytes.fromhex(entry.oid)
        while folder:  # every folder above exists too
            folder = folder.rpartition("/")[0]
            children.setdefault(folder, {})
    oids: dict[str, str] = {}
    for folder in sorted(children, key=lambda name: (-name.count("/"), name == "", name)):
        lines = sorted(children[folder].items(), key=lambda item: item[0] + ("/" if item[1][:5] == b"40000" else ""))
        oids[folder] = git_oid(b"".join(line for _, line in lines), "tree")
        if folder:
            parent, _, name = folder.rpartition("/")
            children[parent][name] = b"40000 " + name.encode() + b"\0" + bytes.fromhex(oids[folder])
    return oids


def under(tree: Tree, folder: str, *, recursive: bool) -> Iterator[tuple[str, Entry | None]]:
    """Paths below `folder` in order, folders (with None) included; only its direct children unless `recursive`."""
    start = f"{folder}/" if folder else ""
    found: dict[str, Entry | None] = {}
    for path, entry in tree.items():
        if not path.startswith(start):
            continue
        parts = path.removeprefix(start).split("/")
        for depth in range(1, len(parts)):
            found.setdefault(start + "/".join(parts[:depth]), None)
            if not recursive:
                break
        if recursive or len(parts) == 1:
            found[path] = entry
    yield from sorted(found.items())
