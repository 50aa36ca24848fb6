"""`ModelRef`: how a person names a model; `PinnedRef`: the same name nailed to one state of its files.

org/name   org/name@revision   ./folder   org/base+org/adapter   ./base+./adapter
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from zoo_index.errors import ReferenceFormatError

__all__ = ["ModelRef", "PinnedRef", "is_local_name", "local_path"]

_HUB_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\Z")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def is_local_name(name: str) -> bool:
    """Whether `name` can only mean a folder: it starts as a path or a drive does, has two slashes, or ends in one."""
    starts = name in {".", ".."} or name.startswith(("./", "../", "/", "~", ".\\", "..\\"))
    return starts or name.endswith("/") or name.count("/") > 1 or bool(_DRIVE.match(name))


def local_path(name: str | Path) -> Path:
    """The path on this disk that a name means: ``~`` expanded, not made absolute; ``~nobody`` is left as it is."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - pathlib's raises RuntimeError for a user without a home


@dataclass(frozen=True, slots=True, order=True)
class ModelRef:
    """A model by name: a Hub repository (with an optional revision) or a folder, and an optional adapter on top.

    `name` is ``org/name`` (or a bare ``name``) for the Hub, a path for a folder.  `revision` is a branch, tag or
    commit and belongs to the Hub only.  Parsing touches neither disk nor network.
    """

    name: str
    revision: str | None = None
    adapter: ModelRef | None = None

    @property
    def is_local(self) -> bool:
        return is_local_name(self.name)

    @property
    def model(self) -> ModelRef:
        """The reference without its adapter."""
        return ModelRef(self.name, self.revision)

    @property
    def path(self) -> Path:
        """The folder that a local reference names (``~`` expanded, not made absolute)."""
        return local_path(self.name)

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """Read a reference from text.

        Raises `ReferenceFormatError` for an empty name, more than one adapter, or a name that neither a folder
        nor a Hub repository can have.
        """
        parts = text.strip().split("+")
        if len(parts) > 2:
            raise ReferenceFormatError(
                f"{text!r} names more than one adapter",
                hint="one adapter per model: base+adapter; a folder whose name has a + goes in as {path: ...}",
            )
        if any(not part.strip() for part in parts):
            raise ReferenceFormatError(
                f"{text!r} is not a model reference", hint="org/name, org/name@revision, ./folder or base+adapter"
            )
        base = cls.of(parts[0].strip())
        return base if len(parts) == 1 else cls(base.name, base.revision, cls.of(parts[1].strip()))

    @classmethod
    def of(cls, name: str, revision: str | None = None, adapter: ModelRef | None = None) -> ModelRef:
        """A reference from its parts; ``@revision`` inside a Hub `name` is split off, ``+`` has no meaning here."""
        if is_local_name(name):
            if revision is not None:
                raise ReferenceFormatError(
                    f"folder {name!r} cannot have a revision", hint="revisions belong to Hub models"
                )
            return cls(name, None, adapter)
        hub_name, at, tag = name.partition("@")
        if at and (not tag or revision is not None):
            raise ReferenceFormatError(f"{name!r} has a bad revision", hint="write org/name@revision, once")
        pieces = hub_name.split("/")
        if len(pieces) > 2 or not all(_HUB_PART.match(piece) for piece in pieces):
            raise ReferenceFormatError(
                f"{name!r} is neither org/name nor a folder", hint="start a folder with ./, ../, ~ or /"
            )
        return cls(hub_name, tag or revision, adapter)

    def __str__(self) -> str:
        own = f"{self.name}@{self.revision}" if self.revision else self.name
        return f"{own}+{self.adapter}" if self.adapter else own


@dataclass(frozen=True, slots=True)
class PinnedRef:
    """A reference and the state it was resolved to.

    `commit` is the Hub commit sha; None for a folder, which has no history: its state is the sha256 of each weight
    file's header, kept in the tensor table.
    """

    reference: ModelRef
    commit: str | None = None

    def __str__(self) -> str:
        return f"{self.reference.name}@{self.commit}" if self.commit else str(self.reference.model)
