"""config.json of a model, as far as loading depends on it: the class it names and its labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubmerge.errors import PlanError, shown

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["check_labels", "model_class", "read_folder_config", "read_json_object"]


def read_folder_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder; `PlanError` when there is none."""
    config = read_json_object(folder / "config.json")
    if config is None:
        raise PlanError(
            "no readable config.json, so this is not a model folder",
            where=str(folder),
            hint="name the OUT of a merge, or a recipe file",
        )
    return config


def read_json_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is no such file, or something else in it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def model_class(config: Mapping[str, Any], where: str) -> type[PreTrainedModel]:
    """The transformers class that `config` names first under `architectures`.

    Raises `PlanError` when it names none, one that is no class of a model, or one that transformers does not have (custom
    code is never run).
    """
    import transformers

    names = config.get("architectures")
    write = "write the class that the weights were saved from into config.json, as architectures: a list of one name"
    if names in (None, [], ()):
        raise PlanError("the config names no architecture", where=where, hint=write)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise PlanError(f"architectures is {shown(names)}, not a list of class names", where=where, hint=write)
    found = getattr(transformers, names[0], None)
    if found is None:
        raise PlanError(
            f"the config names class {shown(names[0])}, which this transformers does not have",
            where=where,
            hint="upgrade transformers; models that bring their own code are not run",
        )
    concrete = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    if not concrete or found.config_class is None:
        raise PlanError(f"the config names {names[0]!r}, which is no class of a model", where=where, hint=write)
    return found  # type: ignore[no-any-return]


def check_labels(config: Mapping[str, Any], where: str) -> None:
    """`PlanError` when id2label is not what transformers reads, which fails there without naming it."""
    labels = config.get("id2label")
    if labels is None:
        return
    try:
        _ = [int(key) for key in labels.keys()]  # noqa: SIM118 - a list has no keys, and is to fail here
    except (AttributeError, TypeError, ValueError):
        raise PlanError(
            f"id2label is {shown(labels)}, not a mapping of numbers to names",
            where=where,
            hint='mend config.json, as in {"0": "cat", "1": "dog"}',
        ) from None
