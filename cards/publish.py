"""`publish`: a finished merge and its card -> a folder to be shared, after every check and in one rename."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from cards.card_check import read_front_matter
from cards.card_file import CARD_NAME, rename_card
from cards.errors import PublishError
from cards.folder import place_folder
from cards.licence import judge_licences
from cards.names import as_folder
from cards.parents import read_parents
from cards.public import public_manifest
from cards.publish_checks import run_checks
from cards.publish_plan import PublishPlan, as_file, existing_state
from hubmerge.manifest import MANIFEST_NAME, read_manifest
from zoo_index.hub import LocalFolder
from zoo_index.reference import ModelRef, PinnedRef, is_local_name

__all__ = ["publish"]

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+\Z")


def publish(
    out: str | Path,
    target: str | Path,
    *,
    dry_run: bool = False,
    as_: Literal["dense", "adapter", "recipe"] = "dense",
    overwrite: bool = False,
) -> PublishPlan:
    """Copy the merge in `out`, its card and the public form of its manifest into the new folder `target`.

    dry_run: only make the plan, with the checks that fail.  overwrite: replace an earlier publish that is not the same.
    The folder appears complete or not at all; nothing is left behind on failure.  The card is renamed to the target.

    Raises `ManifestError` when `out` is no merge, and `PublishError`: with every failed check, for a Hub name (this
    version publishes into folders), for a target that is something else's folder, for a full disk.
    """
    if as_ != "dense":
        raise PublishError(f"a merge cannot be published as {as_} yet", where=str(out), hint="only dense exists so far")
    folder = _target_folder(target)
    plan, texts = _plan(Path(out), folder, overwrite=overwrite)
    if dry_run:
        return plan
    faults = [PublishError(check.message, where=check.where, hint=check.hint) for check in plan.failed]
    if faults:
        raise PublishError.of(faults)
    if plan.state != "already published":
        place_folder(Path(out), folder, [file.name for file in plan.files], texts)
    return plan


def _target_folder(target: str | Path) -> Path:
    text = str(target)
    if isinstance(target, Path) or is_local_name(text):
        return Path(target).expanduser()
    if _HUB_NAME.match(text):
        name = text.rpartition("/")[2]
        raise PublishError(
            "publishing to the Hub comes with a later version",
            where=text,
            hint=f"publish into ./{name} and upload it with `hf upload {text} ./{name}`",
        )
    raise PublishError(f"{text!r} is neither ./folder nor user/name", hint=f"for a folder write ./{text}")


def _plan(out: Path, folder: Path, *, overwrite: bool) -> tuple[PublishPlan, dict[str, str]]:
    """The plan, and the texts of the files that are not copied but written: the card and the public manifest."""
    manifest = read_manifest(out)
    source = LocalFolder(out, PinnedRef(ModelRef.of(as_folder(str(out)))))
    texts = {MANIFEST_NAME: public_manifest(manifest).to_json()}
    front = {}
    if CARD_NAME in source.files():
        card = (out / CARD_NAME).read_text(encoding="utf-8", errors="replace")
        texts[CARD_NAME] = rename_card(card, out.resolve().name, folder.resolve().name)
        try:
            front = read_front_matter(texts[CARD_NAME])
        except ValueError:
            front = {}  # the card's check says what is wrong with it
    present = source.files()
    names = sorted({name for name in manifest.files if name in present} | texts.keys())
    files = tuple(as_file(source, name, texts.get(name)) for name in names)
    parents = read_parents(manifest)
    verdict = judge_licences([each.licence for parent in parents for each in parent.models])
    checks = run_checks(source, manifest, folder, files=files, texts=texts, verdict=verdict)
    state, occupied = existing_state(folder, manifest, files, overwrite=overwrite)
    plan = PublishPlan(
        name=folder.resolve().name,
        target=str(folder),
        state=state,
        files=files,
        card=front,
        licence=verdict.licence,
        checks=(*checks, *occupied),
    )
    return plan, texts
