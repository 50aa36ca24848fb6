"""README.md in a merge's folder: writing it without losing what a person wrote, and renaming what hubmerge wrote."""

from __future__ import annotations

import hashlib
import html
import re
from dataclasses import dataclass
from pathlib import Path

from cards.card import render_card
from cards.card_check import Finding, check_card
from cards.card_text import parse_card, read_card
from cards.card_words import LOAD_LINE, recipe_code
from cards.errors import CardError
from cards.licence import Verdict, judge_licences
from cards.markdown import fenced
from cards.model_facts import read_model_facts
from cards.parents import read_parents
from cards.results import Results, read_results
from cards.weight_names import holds_only_recipe
from cards.whole_files import write_whole
from hubmerge.manifest import read_manifest

__all__ = ["CARD_NAME", "CardReport", "card_name", "is_untouched", "recipe_card", "rename_card", "write_card"]

CARD_NAME = "README.md"
_HEADING = re.compile(r"^# (.+)$", re.MULTILINE)
_LOAD_HEADING = "\n## How to load it\n"
_RECIPE_WORDS = """
This repository holds a recipe and no weights. hubmerge takes the parents from the Hub, each at its commit, and merges them
straight into the model:
"""
_RECIPE_FOLDER = "`hubmerge materialize` writes the same model to a folder that transformers loads without hubmerge."
_STAMP = re.compile(r"\n<!-- written by hubmerge, sha256 ([0-9a-f]{64}) -->\n\Z")


@dataclass(frozen=True)
class CardReport:
    """The card that was written, what it still lacks, and the licence verdict."""

    path: Path
    findings: tuple[Finding, ...]
    verdict: Verdict

    def __str__(self) -> str:
        lines = [f"card written: {self.path}", *(f"{finding.level}: {finding}" for finding in self.findings)]
        return "\n".join(lines)


def write_card(
    out: str | Path,
    results: Results | str | Path | None = None,
    *,
    name: str | None = None,
    overwrite: bool = False,
) -> CardReport:
    """Write OUT/README.md from the merge's manifest, its parents' cards and, if given, its evaluation.

    name: the model's public name, by default the folder's.  A card that a person wrote or changed is replaced only
    with `overwrite`.  Raises `ManifestError` when OUT is no merge, `ResultsError` when `results` are not about it,
    `CardError` when a person's card is in the way, or something that is no text file.
    """
    out = Path(out)
    manifest = read_manifest(out)
    if results is not None and not isinstance(results, Results):
        results = read_results(results)
    path = out / CARD_NAME
    if path.exists() and not overwrite and not is_untouched(read_card(path)):
        raise CardError(
            f"{CARD_NAME} was written or changed by a person",
            where=str(path),
            hint="keep it, or replace it with --overwrite",
        )
    parents = read_parents(manifest)
    verdict = judge_licences([each.licence for parent in parents for each in parent.models])
    text = render_card(
        manifest,
        name=name or out.resolve().name,
        model=read_model_facts(out),
        parents=parents,
        verdict=verdict,
        results=results,
    )
    if holds_only_recipe(each.name for each in out.iterdir()):
        text = recipe_card(text, f"./{name or out.resolve().name}")
    _replace(path, _stamped(text))
    return CardReport(path, check_card(out), verdict)


def is_untouched(text: str) -> bool:
    """Whether the card is, to the byte, as hubmerge wrote it."""
    stamp = _STAMP.search(text)
    return stamp is not None and stamp[1] == _digest(text[: stamp.start()])


def card_name(text: str) -> str | None:
    """The model's name in a card that nobody has touched; None for any other."""
    heading = _HEADING.search(text) if is_untouched(text) else None
    return re.sub(r"\\(.)", r"\1", html.unescape(heading[1])) if heading else None


def rename_card(text: str, old: str, new: str, place: str | None = None) -> str:
    """The same card for a model that is now called `new`, and is loaded from `place` (by default ``./new``).

    Changed are the lines as hubmerge writes them: the heading, the name in the model-index, the folder in the code.
    In a card that nobody has touched, its name in the first sentence and in the table is changed too, and it stays
    untouched.  Raises `CardError` when its metadata cannot be read.
    """
    from cards.markdown import text as escaped

    place = place or f"./{new}"
    if old == new and place == f"./{new}":
        return text
    untouched = is_untouched(text)
    card = parse_card(text)
    if getattr(card.data, "model_name", None) == old:
        card.data["model_name"] = new
        text = card.content
    text = text.replace(f"\n# {escaped(old)}\n", f"\n# {escaped(new)}\n", 1)
    line = re.escape(LOAD_LINE).replace(re.escape("{place}"), rf"(?:\./|[\w.-]+/){re.escape(old)}")
    text = re.sub(rf"^{line}$", lambda _: LOAD_LINE.format(place=place), text, flags=re.MULTILINE)
    if untouched:
        text = text.replace(f"\n{escaped(old)} is ", f"\n{escaped(new)} is ", 1)
        text = text.replace(f"\n| **{escaped(old)}** | this model |", f"\n| **{escaped(new)}** | this model |", 1)
        text = _stamped(_STAMP.sub("", text))
    return text


def recipe_card(text: str, place: str) -> str:
    """The card for a repository that holds only the recipe: how to load it changes, and who can (library_name).

    Raises `CardError` when its metadata cannot be read.
    """
    untouched = is_untouched(text)
    section = f"{_LOAD_HEADING}{_RECIPE_WORDS}\n{fenced(recipe_code(place), 'python')}\n\n{_RECIPE_FOLDER}\n"
    start = text.find(_LOAD_HEADING)
    if start < 0:  # a person's card: the section goes before the first heading of that size
        start = stop = text.find("\n## ")
    else:
        stop = text.find("\n## ", start + len(_LOAD_HEADING))
    text = text + section if start < 0 else text[:start] + section + (text[stop:] if stop >= 0 else "")
    card = parse_card(text)
    card.data["library_name"] = "hubmerge"
    text = card.content
    return _stamped(_STAMP.sub("", text)) if untouched else text


def _stamped(text: str) -> str:
    return f"{text}\n<!-- written by hubmerge, sha256 {_digest(text)} -->\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _replace(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise CardError(
            f"the card cannot be written ({error.strerror})", where=str(path), hint="check the folder"
        ) from error
