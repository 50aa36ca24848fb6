"""Every check before a merge is published: files against the manifest, card, private text, licence, room on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from cards.card_check import check_card
from cards.licence import Verdict, name_prefix
from cards.public import find_leaks, public_names
from cards.publish_plan import Check, PublishFile
from hubmerge.manifest import MANIFEST_NAME, Manifest
from zoo_index.hub import LocalFolder

__all__ = ["run_checks"]

_TEXT_SUFFIXES = frozenset({".json", ".jsonl", ".md", ".txt", ".yaml", ".yml", ".jinja", ".py", ".toml", ".cfg", ""})
_VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json"})
_MAX_TEXT = 50_000_000
"""Bytes of the largest text file that is searched; tokenizers have up to about 35 MB."""


def run_checks(
    source: LocalFolder,
    manifest: Manifest,
    folder: Path,
    *,
    files: Sequence[PublishFile],
    texts: Mapping[str, str],
    verdict: Verdict,
) -> tuple[Check, ...]:
    """All checks, each with its outcome.  texts: the files that are written anew, as they will be published."""
    return (
        *_file_checks(source, manifest, files),
        *_card_checks(source.folder),
        *_private_checks(source, manifest, files, texts),
        *_licence_checks(verdict, folder),
        *_place_checks(source.folder, folder, files),
    )


def _file_checks(source: LocalFolder, manifest: Manifest, files: Sequence[PublishFile]) -> Iterator[Check]:
    where = str(source.folder)
    found = {file.name: file for file in files}
    bad = False
    for name, wanted in manifest.files.items():
        file = found.get(name)
        if file is None:
            what = f"{name} is in {MANIFEST_NAME} and not in the folder"
        elif (file.size, file.sha256) != (wanted.size, wanted.sha256):
            what = f"{name} is not what {MANIFEST_NAME} says: it was changed after the merge"
        else:
            continue
        bad = True
        yield Check(name="files", status="fail", message=what, where=where, hint="merge again")
    if not bad:
        count = len(manifest.files)
        yield Check(name="files", status="ok", message=f"{count} files as {MANIFEST_NAME} records them")
    extra = sorted(source.files().keys() - found.keys())
    if extra:
        what = f"left out, since the merge did not make it: {', '.join(extra)}"
        yield Check(name="files", status="warn", message=what, where=where)


def _card_checks(out: Path) -> Iterator[Check]:
    findings = check_card(out)
    for finding in findings:
        status: Literal["fail", "warn"] = "fail" if finding.level == "error" else "warn"
        yield Check(
            name="card", status=status, message=finding.message, where=str(out / "README.md"), hint=finding.hint
        )
    if not findings:
        yield Check(name="card", status="ok", message="complete")


def _private_checks(
    source: LocalFolder, manifest: Manifest, files: Sequence[PublishFile], texts: Mapping[str, str]
) -> Iterator[Check]:
    private = [str(source.folder.resolve())]
    private += [name for name in public_names(manifest) if Path(name).expanduser().is_absolute()]
    searched, bad = 0, False
    for file in files:
        if Path(file.name).suffix.lower() not in _TEXT_SUFFIXES or file.size > _MAX_TEXT:
            continue
        searched += 1
        text = texts.get(file.name)
        if text is None:
            text = source.read(file.name).decode("utf-8", errors="replace")
        if file.name == "README.md":
            continue  # the card's own check has looked
        for leak in find_leaks(text, private=private, data=file.name in _VOCABULARIES):
            bad = True
            yield Check(
                name="private",
                status="fail",
                message=f"{file.name} holds a {leak}",
                where=str(source.folder),
                hint="remove it from the parent it came from, and merge again",
            )
    if not bad:
        yield Check(name="private", status="ok", message=f"no local path and no token in {searched} text files")


def _licence_checks(verdict: Verdict, folder: Path) -> Iterator[Check]:
    reasons = "; ".join(reason.text for reason in verdict.reasons if reason.allowed == verdict.allowed)
    if verdict.allowed == "no":
        hint = "keep the merge to yourself, or leave that parent out"
        yield Check(name="licence", status="fail", message=reasons, where=str(folder), hint=hint)
    elif verdict.allowed == "ask":
        whose = f" ({', '.join(verdict.unlicensed)})" if verdict.unlicensed else ""
        yield Check(
            name="licence", status="warn", message=f"{reasons}{whose}", hint="settle it before you share the folder"
        )
    else:
        yield Check(name="licence", status="ok", message=verdict.licence or "none")
    prefix = name_prefix(verdict.licence)
    name = folder.resolve().name
    if prefix and not name.casefold().replace("-", " ").startswith(prefix.casefold()):
        what = f"{verdict.licence} wants the model's name to begin with {prefix!r}, and it is {name!r}"
        yield Check(
            name="licence",
            status="fail",
            message=what,
            where=str(folder),
            hint=f"publish into ./{prefix.replace(' ', '-')}-{name}",
        )


def _place_checks(out: Path, folder: Path, files: Sequence[PublishFile]) -> Iterator[Check]:
    own, place = out.resolve(), folder.resolve()
    if own == place or own in place.parents or place in own.parents:
        yield Check(
            name="target",
            status="fail",
            message="the target and the merge lie in one another",
            where=str(folder),
            hint="publish beside the merge",
        )
    above = next(parent for parent in place.parents if parent.exists())
    if not above.is_dir():
        what = f"{above} is a file"
        yield Check(name="target", status="fail", message=what, where=str(folder), hint="name another folder")
        return
    needed, free = sum(file.size for file in files), shutil.disk_usage(above).free
    if needed > free:
        what = f"{needed:,} bytes are needed and {free:,} are free"
        yield Check(name="disk", status="fail", message=what, where=str(above), hint="make room")
