"""Bytes by their sha256, in files of one folder, and the names git and git-lfs give to them."""

from __future__ import annotations

import hashlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["Blob", "ObjectStore", "git_oid", "pointer_text"]

_CHUNK = 1 << 20


def git_oid(data: bytes, kind: str = "blob") -> str:
    """The name git gives to these bytes: sha1 of ``<kind> <size>\\0`` and the bytes."""
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def pointer_text(sha256: str, size: int) -> bytes:
    """What git holds in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


@dataclass(frozen=True)
class Blob:
    """One stored content."""

    sha256: str
    size: int


class ObjectStore:
    """Contents in `folder`, each once, whoever asks for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes | IO[bytes]) -> Blob:
        """Store a content; nothing happens when it is already there."""
        stream = io.BytesIO(data) if isinstance(data, bytes) else data
        digest, size = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as target:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                target.write(chunk)
        blob = Blob(digest.hexdigest(), size)
        Path(target.name).replace(self.path(blob.sha256))
        return blob

    def path(self, sha256: str) -> Path:
        return self.folder / sha256

    def read(self, sha256: str) -> bytes:
        return self.path(sha256).read_bytes()
