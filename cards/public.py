"""What may be told to everyone: a manifest without local paths, and the search for what must not leave the machine."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hubmerge.manifest import Manifest
from zoo_index.reference import is_local_name, local_path

__all__ = ["find_leaks", "public_manifest", "public_names", "public_value"]

_TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{20,}\b")
_HOME = re.compile(r"(?<![\w/])~/[\w.+-]+|[A-Za-z]:\\{1,2}Users\\")
_ABSOLUTE = re.compile(r"(?:^|(?<=[\s\"'(=:,`\[]))/(?:[\w.@+-]+/)+[\w.@+-]*", re.MULTILINE)
_PATH = re.compile(r"(?:\.{1,2}[\\/]|[~/]|[A-Za-z]:[\\/])\S*")
"""Text that is a path whatever key it stands under; ``a/b/c`` and URLs are not."""
_PLACEHOLDERS = ("/path/to",)
_DIGESTS = frozenset({"files", "headers"})
_MODEL_KEYS = frozenset(
    {"adapter", "base_model", "config_donor", "model", "order", "parents", "path", "reference", "tokenizer_donor"}
)


def public_names(manifest: Manifest) -> dict[str, str]:
    """Every folder the manifest refers to, and data by its path -> ``./<its own name>``, told apart by a number where names are the same.

    A parent without a commit is a folder, however its name is spelt.
    """
    folders: list[str] = []
    for parent in manifest.parents:
        if parent.commit is None:
            folders.append(parent.reference)
        if parent.adapter is not None and parent.adapter_commit is None:
            folders.append(parent.adapter)
    folders += [record.data for record in manifest.data if record.commit is None and is_local_name(record.data)]
    names: dict[str, str] = {}
    taken: dict[str, str] = {}  # public name -> the folder that has it
    for folder in folders:
        place = _plain(folder)
        own = local_path(str(folder)).resolve().name or "model"
        name, number = f"./{own}", 1
        while taken.setdefault(name, place) != place:
            number += 1
            name = f"./{own}-{number}"
        names[folder] = name
    return names


def public_manifest(manifest: Manifest) -> Manifest:
    """The manifest as it is published: local references become ``./<folder name>``, and nothing else changes."""
    return Manifest.model_validate(public_value(manifest.model_dump(mode="json"), public_names(manifest)))


def public_value(value: Any, names: Mapping[str, str], key: str = "") -> Any:
    """JSON values with every local reference in `names`, and every other text that is a local path, made public.

    A folder spelt like a word (``ties``) is taken for one only under the keys that hold models.  key: the one that
    `value` stands under.
    """
    if isinstance(value, Mapping):
        return {name: item if name in _DIGESTS else public_value(item, names, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [public_value(item, names, key) for item in value]
    return _public_text(value, names, is_model=key in _MODEL_KEYS) if isinstance(value, str) else value


def find_leaks(text: str, *, private: Iterable[str] = (), data: bool = False) -> list[str]:
    """What in `text` looks like a local path or an access token; tokens are shown cut off.

    private: exact strings that must not occur.  data: a vocabulary or the like, whose own words may look like paths:
    only `private` and tokens are looked for.
    """
    found = [f"token {match[0][:6]}…" for match in _TOKEN.finditer(text)]
    found += [f"path {name}" for name in private if name and name in text]
    if not data:
        for match in (*_ABSOLUTE.finditer(text), *_HOME.finditer(text)):
            if not match[0].startswith(_PLACEHOLDERS):
                found.append(f"path {match[0]}")
    return list(dict.fromkeys(found))


def _plain(folder: str) -> str:
    """One spelling for ``./a``, ``a/`` and ``a``."""
    return posixpath.normpath(folder.replace("\\", "/"))


def _public_text(text: str, names: Mapping[str, str], *, is_model: bool) -> str:
    known = {_plain(folder): name for folder, name in names.items()}
    parts = text.split("+")
    paths = [part for part in parts if _PATH.fullmatch(part)]
    if len(paths) == len(parts) or (is_model and all(is_local_name(part) or _plain(part) in known for part in parts)):
        return "+".join(known.get(_plain(part)) or f"./{posixpath.basename(_plain(part))}" for part in parts)
    # inside a sentence only what is unmistakably a path: a folder spelt like a word could be a word
    for folder in sorted(names, key=len, reverse=True):
        if _PATH.match(folder) and len(folder) > 2:
            text = re.sub(rf"(?<![\w./~-]){re.escape(folder)}(?![\w-])", lambda _: names[folder], text)  # noqa: B023
    return text
