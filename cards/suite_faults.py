"""What is wrong with a suite file: pydantic's errors, and data that is not there -> errors that say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic_core import ErrorDetails

from cards.errors import SuiteError
from zoo_index.reference import local_path

__all__ = ["missing_data", "near_file", "suite_fault"]


def suite_fault(details: ErrorDetails, path: Path, known: Mapping[str, tuple[str, ...]]) -> SuiteError:
    """The error for one of pydantic's; known: the keys of a suite ("suite"), a task and a joint measurement."""
    place = _dotted(details["loc"])
    where = f"{path}: {place}" if place else str(path)
    kind, context = details["type"], details.get("ctx", {})
    key = str(details["loc"][-1]) if details["loc"] else ""
    if kind == "extra_forbidden":
        part = {"tasks": "task", "joint": "joint"}.get(
            str(details["loc"][0]) if len(details["loc"]) > 1 else "", "suite"
        )
        return SuiteError(f"unknown key {key!r}", where=where, hint=_nearest(key, known[part]))
    if kind == "missing":
        return SuiteError(f"{key} is missing", where=where, hint=f"add {key}:")
    if kind == "literal_error":
        words = tuple(re.findall(r"'([^']*)'", context["expected"]))
        return SuiteError(f"no {key} {details['input']!r}", where=where, hint=_nearest(details["input"], words))
    if kind == "unknown_metric":
        return SuiteError(details["msg"], where=where, hint=_nearest(context["metric"].strip("'"), context["known"]))
    if kind == "unused_key":
        return SuiteError(details["msg"], where=where, hint=f"remove {context['key']}")
    if kind == "twice":
        return SuiteError(details["msg"], where=where, hint="give every task its own name")
    if kind == "no_tasks":
        return SuiteError(details["msg"], where=where, hint="list at least one under tasks:")
    if kind == "joint":
        return SuiteError(details["msg"], where=where, hint=context["hint"])
    said = details["msg"].replace("Input", key or "the value", 1)
    return SuiteError(f"{said}, got {details['input']!r}", where=where)


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _nearest(word: object, known: tuple[str, ...]) -> str:
    close = get_close_matches(str(word), known, n=1)
    return f"did you mean {close[0]}?" if close else f"one of {', '.join(known)}"


def near_file(path: Path) -> str:
    """What to do where there is no suite file `path`: the YAML file beside it whose name is nearest, if one is near."""
    names = sorted(entry.name for entry in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    close = get_close_matches(path.name, names, n=1)
    return f"did you mean {path.with_name(close[0])}?" if close else f"looked from {Path.cwd()}"


def missing_data(raw: dict[str, Any], path: Path) -> Iterator[SuiteError]:
    """Faults of the paths themselves; looked at in the raw mapping, so that they are reported beside all others."""
    tasks = raw.get("tasks")
    for number, task in enumerate(tasks if isinstance(tasks, list) else ()):
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(data, str) or not data:
            continue
        place = path.parent / local_path(data)
        if not place.exists():
            names = sorted(entry.name for entry in place.parent.iterdir()) if place.parent.is_dir() else []
            close = get_close_matches(place.name, names, n=1)
            hint = (
                f"did you mean {Path(data).with_name(close[0])}?" if close else "paths are relative to the suite file"
            )
            yield SuiteError(f"data {data!r} does not exist", where=f"{path}: tasks[{number}].data", hint=hint)
