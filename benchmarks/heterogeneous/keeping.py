"""Trained models in a cache folder: ordinary model folders, each with a note of what it was trained by."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["is_kept", "keep"]

_NOTE = "trained.json"


def is_kept(place: Path, facts: Mapping[str, Any]) -> bool:
    """Whether a model lies in `place` that was trained by the same `facts`, which are JSON values."""
    try:
        note = json.loads((place / _NOTE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    return bool(note["facts"] == json.loads(json.dumps(facts)))


def keep(model: Any, place: Path, facts: Mapping[str, Any], **measured: float) -> None:
    """Write a transformers model to `place`, whole or not at all, in the place of what was there; measured: goes into the note."""
    unfinished = place.with_name(place.name + ".partial")
    for old in (unfinished, place):
        shutil.rmtree(old, ignore_errors=True)
    model.save_pretrained(unfinished)
    note = json.dumps({"facts": facts, **measured}, indent=1)
    (unfinished / _NOTE).write_text(note + "\n", encoding="utf-8")
    unfinished.rename(place)
