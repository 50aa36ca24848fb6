"""Every check of what is to be published, wherever it goes: files against the manifest, card, private text, licence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from cards.card_check import check_card
from cards.content import Content
from cards.errors import PublishError
from cards.licence import Verdict, name_prefix
from cards.model_facts import ADAPTER_CONFIG, read_model_facts
from cards.public import find_leaks, public_names
from cards.publish_plan import Check, PublishPlan
from cards.weight_names import is_weights
from hubmerge.manifest import MANIFEST_NAME
from zoo_index.reference import is_local_name, local_path

__all__ = ["content_checks", "refuse_failed"]

_TEXT_SUFFIXES = frozenset({".json", ".jsonl", ".md", ".txt", ".yaml", ".yml", ".jinja", ".py", ".toml", ".cfg", ""})
_VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json"})
_MAX_TEXT = 50_000_000
"""Bytes of the largest text file that is searched; tokenizers have up to about 35 MB."""


def content_checks(
    content: Content, *, name: str, target: str, place: str, secrets: Sequence[str] = ()
) -> tuple[Check, ...]:
    """All checks, each with its outcome.

    name: the model's public name; target: where it goes, for errors; place: the target under another name, with ``{name}``.
    secrets: what must not occur anywhere, and is not shown: the user's access token.
    """
    return (
        *_file_checks(content),
        *_card_checks(content.source.folder),
        *_base_checks(content),
        *_private_checks(content, secrets),
        *_licence_checks(content.verdict, name, target, place),
    )


def refuse_failed(plan: PublishPlan) -> None:
    """`PublishError` with every check of `plan` that failed."""
    faults = [PublishError(check.message, where=check.where, hint=check.hint) for check in plan.failed]
    if faults:
        raise PublishError.of(faults)


def _file_checks(content: Content) -> Iterator[Check]:
    where = str(content.source.folder)
    found = {file.name: file for file in content.files}
    present = content.source.files()
    bad, count = False, 0
    for name, wanted in content.manifest.files.items():
        if content.kind == "recipe" and is_weights(name):
            continue
        count += 1
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
        yield Check(name="files", status="ok", message=f"{count} files as {MANIFEST_NAME} records them")
    made = found.keys() | content.manifest.files.keys()
    extra = sorted(name for name in present if name not in made)
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


def _base_checks(content: Content) -> Iterator[Check]:
    folder = content.source.folder
    base = read_model_facts(folder).base if content.kind == "adapter" else None
    if base is not None and (not base or is_local_name(base)):
        what = "the adapter's base model is a folder, which nobody else has"
        hint = "write its name on the Hub into adapter_config.json before merging"
        yield Check(name="base", status="fail", message=what, where=f"{folder}/{ADAPTER_CONFIG}", hint=hint)


def _private_checks(content: Content, secrets: Sequence[str]) -> Iterator[Check]:
    source = content.source
    private = [str(source.folder.resolve())]
    private += [name for name in public_names(content.manifest) if local_path(name).is_absolute()]
    searched, bad = 0, False
    for file in content.files:
        if Path(file.name).suffix.lower() not in _TEXT_SUFFIXES or file.size > _MAX_TEXT:
            continue
        searched += 1
        text = content.texts.get(file.name)
        if text is None:
            text = source.read(file.name).decode("utf-8", errors="replace")
        leaks = ["token: the one you are logged in with"] if any(secret in text for secret in secrets) else []
        if file.name != "README.md":  # the card's own check has looked for the rest
            leaks += find_leaks(text, private=private, data=file.name in _VOCABULARIES)
        for leak in leaks:
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


def _licence_checks(verdict: Verdict, name: str, target: str, place: str) -> Iterator[Check]:
    reasons = "; ".join(reason.text for reason in verdict.reasons if reason.allowed == verdict.allowed)
    if verdict.allowed == "no":
        hint = "keep the merge to yourself, or leave that parent out"
        yield Check(name="licence", status="fail", message=reasons, where=target, hint=hint)
    elif verdict.allowed == "ask":
        whose = f" ({', '.join(verdict.unlicensed)})" if verdict.unlicensed else ""
        yield Check(name="licence", status="warn", message=f"{reasons}{whose}", hint="settle it before you share it")
    else:
        yield Check(name="licence", status="ok", message=verdict.licence or "none")
    prefix = name_prefix(verdict.licence)
    if prefix and not name.casefold().replace("-", " ").startswith(prefix.casefold()):
        what = f"{verdict.licence} wants the model's name to begin with {prefix!r}, and it is {name!r}"
        better = place.format(name=f"{prefix.replace(' ', '-')}-{name}")
        yield Check(name="licence", status="fail", message=what, where=target, hint=f"publish into {better}")
