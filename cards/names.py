"""What a model is called: a person's word -> `ModelRef`; `ModelRef` -> a short name that tells no local path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo_index.reference import ModelRef, is_local_name, local_path

__all__ = ["as_folder", "reference_from", "short_name", "short_names"]


def reference_from(named: str | Path) -> ModelRef:
    """The model a person means: a reference as everywhere else, and also the path of an existing folder without ``./``.

    Raises `ReferenceFormatError` for text that is neither.
    """
    text = str(named).strip()
    if isinstance(named, Path) or (text and Path(text).is_dir()):
        return ModelRef.of(as_folder(text))
    base, plus, adapter = text.partition("+")
    if plus and base and adapter and "+" not in adapter:
        model = reference_from(base)
        return ModelRef(model.name, model.revision, reference_from(adapter))
    return ModelRef.parse(text)


def as_folder(path: str) -> str:
    """The path of a folder as a reference spells it."""
    return path if is_local_name(path) else f"./{path}"


def short_name(reference: ModelRef) -> str:
    """``org/name`` for the Hub, the folder's own name for a folder; joined with ``+`` for an adapter."""
    own = local_path(reference.name).resolve().name if reference.is_local else reference.name
    return f"{own}+{short_name(reference.adapter)}" if reference.adapter else own


def short_names(references: Sequence[ModelRef]) -> list[str]:
    """Short names of several models, told apart by a number where they are the same: ``out``, ``out (2)``."""
    names: list[str] = []
    for reference in references:
        wanted = short_name(reference)
        name, number = wanted, 1
        while name in names:
            number += 1
            name = f"{wanted} ({number})"
        names.append(name)
    return names
