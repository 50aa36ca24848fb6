"""`Content`: what exactly would be published of a merge, wherever it goes: names, bytes, card, licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from cards.card_check import read_front_matter
from cards.card_file import CARD_NAME, card_name, recipe_card, rename_card
from cards.card_text import read_card
from cards.errors import CardError, PublishError
from cards.legal_texts import legal_texts
from cards.licence import Verdict, judge_licences
from cards.model_facts import is_adapter
from cards.names import as_folder
from cards.parents import ParentFacts, read_parents
from cards.public import public_manifest
from cards.publish_plan import PublishFile, as_file
from cards.weight_names import RECIPE_NAME, holds_only_recipe, is_weights
from hubmerge.io.digests import file_sha256
from hubmerge.manifest import MANIFEST_NAME, FileDigest, Manifest, read_manifest
from zoo_index.hub import LocalFolder
from zoo_index.reference import ModelRef, PinnedRef

__all__ = ["Content", "Kind", "gather", "recipe_text"]

Kind = Literal["dense", "adapter", "recipe"]


@dataclass(frozen=True)
class Content:
    """What would be published.  texts: the files that are written anew, as they will be; the others are copied."""

    source: LocalFolder
    manifest: Manifest
    kind: Kind
    files: tuple[PublishFile, ...]
    texts: Mapping[str, str]
    card: Mapping[str, Any]
    parents: tuple[ParentFacts, ...]
    verdict: Verdict

    def data(self, name: str) -> bytes | Path:
        """A file's bytes when they are written anew, else where they are."""
        return self.texts[name].encode() if name in self.texts else self.source.path(name)


def gather(out: Path, kind: Kind | None, *, name: str, place: str) -> Content:
    """Everything to publish of the merge in `out`.

    kind: None is what `out` holds: an adapter, a recipe without weights, else dense.  name: the published model's name;
    place: how code loads it (``./folder`` or ``user/name``).  A recipe goes without weights: its manifest keeps their
    digests, and recipe.yaml names every parent at its commit.

    Raises `ManifestError` when `out` is no merge, and `PublishError` for a kind that it cannot be published as.
    """
    manifest = read_manifest(out)
    source = LocalFolder(out, PinnedRef(ModelRef.of(as_folder(str(out)))))
    present = source.files()
    kind = kind or _kind_of(out, present)
    _check_kind(kind, out, manifest)
    names = {name for name in manifest.files if name in present and not (kind == "recipe" and is_weights(name))}
    names |= set(legal_texts(present))
    texts: dict[str, str] = {}
    if kind == "recipe":
        texts[RECIPE_NAME] = recipe_text(manifest)
    front: dict[str, Any] = {}
    if CARD_NAME in present:
        try:
            texts[CARD_NAME] = card = read_card(out / CARD_NAME)
            texts[CARD_NAME] = rename_card(card, card_name(card) or out.resolve().name, name, place)
            if kind == "recipe":
                texts[CARD_NAME] = recipe_card(texts[CARD_NAME], place)
            front = read_front_matter(texts[CARD_NAME])
        except (CardError, ValueError):
            front = {}  # the card's check says what is wrong with it
    files = {each: as_file(source, each, texts.get(each)) for each in names | texts.keys()}
    manifest = _digested(manifest, source, present, {each: file.sha256 for each, file in files.items()})
    texts[MANIFEST_NAME] = public_manifest(manifest).to_json()
    files[MANIFEST_NAME] = as_file(source, MANIFEST_NAME, texts[MANIFEST_NAME])
    parents = read_parents(manifest)
    return Content(
        source=source,
        manifest=manifest,
        kind=kind,
        files=tuple(files[each] for each in sorted(files)),
        texts=texts,
        card=front,
        parents=parents,
        verdict=judge_licences([each.licence for parent in parents for each in parent.models]),
    )


def _digested(
    manifest: Manifest, source: LocalFolder, present: Mapping[str, int], known: Mapping[str, str]
) -> Manifest:
    """The manifest with the digests that a merge with --no-digest left out, from the files as they are now."""
    missing = manifest.undigested
    gone = next((name for name in missing if name not in present), None)
    if gone is not None:
        raise PublishError(
            f"{MANIFEST_NAME} has no sha256 of {gone}, and the file is not here to make one",
            where=str(source.folder),
            hint="merge again",
        )
    made = {name: known.get(name) or file_sha256(source.path(name)) for name in missing}
    files = {
        name: FileDigest(size=file.size, sha256=made.get(name, file.sha256)) for name, file in manifest.files.items()
    }
    return manifest.model_copy(update={"files": files})


def recipe_text(manifest: Manifest) -> str:
    """The recipe of a merge as YAML, with every Hub model at the commit it was taken at: ``org/name@commit``."""
    pins: dict[str, str] = {}
    for parent in manifest.parents:
        model = _pinned(parent.reference, parent.commit)
        pins[parent.reference] = model
        if parent.adapter is not None:
            pins[f"{parent.reference}+{parent.adapter}"] = f"{model}+{_pinned(parent.adapter, parent.adapter_commit)}"
    recipe = _with_pins(manifest.recipe, pins)
    return str(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=100))


def _with_pins(part: Any, pins: Mapping[str, str]) -> Any:
    """A part of a recipe with every model at its commit, wherever a model is named."""
    if isinstance(part, list):
        return [_with_pins(item, pins) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        key: pins.get(value, value)
        if key in {"model", "base_model", "tokenizer_source", "source"} and isinstance(value, str)
        else _with_pins(value, pins)
        for key, value in part.items()
    }


def _pinned(reference: str, commit: str | None) -> str:
    return f"{reference.partition('@')[0]}@{commit}" if commit else reference


def _kind_of(out: Path, present: Mapping[str, int]) -> Kind:
    if is_adapter(out):
        return "adapter"
    return "recipe" if holds_only_recipe(present) else "dense"


def _check_kind(kind: Kind, out: Path, manifest: Manifest) -> None:
    found = is_adapter(out)
    if kind == "adapter" and not found:
        raise PublishError(
            "this merge is a whole model, not an adapter", where=str(out), hint="publish it with --as dense or recipe"
        )
    if kind != "adapter" and found:
        raise PublishError("this merge is an adapter", where=str(out), hint="publish it with --as adapter")
    if kind != "recipe":
        return
    if manifest.whole_only:
        raise PublishError(
            f"a merge by {manifest.method} is not published as a recipe alone: {manifest.whole_only}",
            where=str(out),
            hint="publish it with --as dense",
        )
    local = [parent.reference for parent in manifest.parents if parent.commit is None]
    local += [parent.adapter for parent in manifest.parents if parent.adapter and parent.adapter_commit is None]
    if local:
        folders = [
            PublishError(
                "a recipe can only name models on the Hub, and this parent is a folder",
                where=folder,
                hint="publish the parent first and merge from there, or publish --as dense",
            )
            for folder in dict.fromkeys(local)
        ]
        raise PublishError.of(folders)
