"""How these benchmarks leave their tables: the engine's JSON, with their own command and the versions of what trained and merged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.engine.report import Report

__all__ = ["add_lines", "measured_by", "save_report"]


def save_report(
    module: str,
    report: Report,
    folder: Path,
    package: str = "heterogeneous",
    kept: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the report's JSON.

    module: the one of the package whose command made it.  kept: by what was measured that is from an earlier JSON, see `measured_by`.
    """
    path = report.save(folder)
    content = _complete(module, path, package)
    _write(path, {**content, "kept": list(kept)} if kept else content)


def measured_by(content: Mapping[str, Any], lines: Mapping[int, Sequence[str]]) -> list[dict[str, Any]]:
    """When and with what the lines of a JSON were measured, a note for each time.

    lines: seed -> keys, of all that it has.  A note's are those that no note before it has.
    """
    notes = list(content.get("kept", ()))
    own = {
        str(seed): [key for key in keys if all(key not in note["lines"].get(str(seed), ()) for note in notes)]
        for seed, keys in lines.items()
    }
    own = {seed: keys for seed, keys in own.items() if keys}
    return [*notes, {"lines": own, **_circumstances(content)}] if own else notes


def add_lines(module: str, report: Report, folder: Path, order: Sequence[str], package: str = "heterogeneous") -> None:
    """Write the report's lines into the JSON that is there, in the place of those of the same keys.

    order: the keys as the table has them; others come before.  When and with what lines were measured that the rest was not measured with
    is kept under `added`.  Raises ValueError for lines of other seeds or another setting.
    """
    path = folder / f"{report.name}.json"
    old = json.loads(path.read_text(encoding="utf-8"))
    path = report.save(folder)
    new = _complete(module, path, package)
    if any(_stated(old[what]) != _stated(new[what]) for what in ("options", "columns", "explanation")):
        _write(path, old)
        raise ValueError(f"{path} holds lines of other seeds or another setting: measure all of it")
    keys = [line["key"] for line in new["measurements"]]
    lines = [
        (line, row)
        for content, wanted in ((old, False), (new, True))
        for line, row in zip(content["measurements"], content["rows"], strict=True)
        if wanted or line["key"] not in keys
    ]
    places = {key: place for place, key in enumerate(order)}
    lines.sort(key=lambda each: places.get(each[0]["key"], -1))
    note = {"lines": keys, **_circumstances(new)}
    old["measurements"], old["rows"] = [line for line, _ in lines], [row for _, row in lines]
    _write(path, {**old, "added": [*old.get("added", ()), note]})


def _stated(value: Any) -> Any:
    """JSON without the keys that hold an empty list: fields that a setting came to have later, and does not use."""
    if isinstance(value, Mapping):
        return {key: _stated(each) for key, each in value.items() if each != []}
    return [_stated(each) for each in value] if isinstance(value, list) else value


def _circumstances(content: Mapping[str, Any]) -> dict[str, Any]:
    return {what: content[what] for what in ("date", "seconds", "load", "machine", "versions", "commit")}


def _complete(module: str, path: Path, package: str) -> dict[str, Any]:
    """A report as it was saved, with the command that made it and the versions of what trained and merged."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    content["command"] = f"python -m benchmarks.{package}.{module}"
    content["versions"] |= {name: version(name) for name in ("torch", "transformers", "scipy")}
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
