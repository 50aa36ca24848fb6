"""`Suite`: what to measure, as a person writes it in YAML; `load_suite` reads it and reports all faults at once.

name: digits
seed: 0
tasks:
  - name: low-digits
    task: image-classification
    data: data/low
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from cards.errors import SuiteError
from hubmerge.dialect import read_yaml
from hubmerge.errors import RecipeError
from zoo_index.reference import local_path

__all__ = ["METRICS", "Metric", "Suite", "Task", "TaskKind", "load_suite"]

TaskKind = Literal["image-classification", "text-classification", "perplexity"]

Metric = Literal["accuracy", "perplexity", "bits_per_byte"]

METRICS: dict[TaskKind, tuple[Metric, ...]] = {
    "image-classification": ("accuracy",),
    "text-classification": ("accuracy",),
    "perplexity": ("perplexity", "bits_per_byte"),
}
"""Every metric of a kind of task; a task without `metric` reports all of them."""

_UNUSED_KEYS: dict[TaskKind, tuple[str, ...]] = {
    "image-classification": ("text_column", "max_length"),
    "text-classification": ("image_column",),
    "perplexity": ("image_column", "label_column"),
}


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(_Spec):
    """One measurement on one set of data.

    data: relative to the suite file (or absolute): an image folder with one subfolder per label name, or a .jsonl,
    .json, .csv, .parquet or .txt file, or a folder of such files.  split: a subfolder, or the file of that name,
    inside `data`.  samples: at most so many rows, drawn with the suite's seed.  max_length: tokens per text (longer
    ones are cut) or per perplexity window; for perplexity it is the same for all models, so that they are comparable.
    metric: one of `METRICS` for the kind of task, None for all of them.
    """

    name: str = Field(min_length=1)
    task: TaskKind
    data: str = Field(min_length=1)
    split: str | None = Field(None, min_length=1)
    text_column: str = "text"
    image_column: str = "image"
    label_column: str = "label"
    max_length: int = Field(512, ge=2)
    batch_size: int | None = Field(None, ge=1)
    samples: int | None = Field(None, ge=1)
    metric: str | None = None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics to report, in order."""
        return tuple(metric for metric in METRICS[self.task] if self.metric in {None, metric})

    @model_validator(mode="after")
    def _keys_mean_something(self) -> Task:
        for key in _UNUSED_KEYS[self.task]:
            if key in self.model_fields_set:
                raise PydanticCustomError(
                    "unused_key", "{key} means nothing for {task}", {"key": key, "task": self.task}
                )
        if self.metric is not None and self.metric not in METRICS[self.task]:
            raise PydanticCustomError(
                "unknown_metric",
                "no metric {metric} for {task}",
                {"metric": repr(self.metric), "task": self.task, "known": METRICS[self.task]},
            )
        return self


class Suite(_Spec):
    """Tasks to run every model on.  Relative data paths are looked up from `folder`, which is no part of the value."""

    name: str = Field(min_length=1)
    seed: int = Field(0, ge=0)
    tasks: tuple[Task, ...]
    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """The folder from which relative data paths are looked up (the suite file's)."""
        return self._folder

    @property
    def sha256(self) -> str:
        """Digest of the suite's content, independent of layout, comments and place of the file."""
        return sha256(self.model_dump_json().encode()).hexdigest()

    def at(self, folder: Path) -> Suite:
        """The same suite with its data looked up from `folder`."""
        placed = self.model_copy()
        placed._folder = folder  # noqa: SLF001 - our own copy; a frozen model keeps its place beside its value
        return placed

    def path_of(self, task: Task) -> Path:
        """Where the data of `task` is."""
        return self._folder / local_path(task.data)

    @model_validator(mode="after")
    def _tasks_can_be_told_apart(self) -> Suite:
        if not self.tasks:
            raise PydanticCustomError("no_tasks", "the suite has no tasks")
        names = [task.name for task in self.tasks]
        for name in names:
            if names.count(name) > 1:
                raise PydanticCustomError("twice", "two tasks are named {name}", {"name": repr(name)})
        return self


def load_suite(path: str | Path) -> Suite:
    """Read a suite from a YAML file; its data is looked up from the file's folder.

    Raises `SuiteError` with every fault of the file: unreadable YAML, a key given twice, unknown or missing keys,
    values out of range, data that does not exist.
    """
    path = Path(path)
    raw = _read_yaml(path)
    faults: list[SuiteError] = []
    suite: Suite | None = None
    try:
        suite = Suite.model_validate(raw).at(path.parent)
    except ValidationError as error:
        faults.extend(_fault(details, path) for details in error.errors())
    faults.extend(_missing_data(raw, path))
    if faults or suite is None:
        raise SuiteError.of(faults)
    return suite


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise SuiteError("no such suite file", where=str(path), hint=_near_file(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"the suite cannot be read ({error})", where=str(path), hint="name a YAML file") from error
    except RecipeError as fault:  # suites are written in the same YAML as recipes
        raise SuiteError(fault.message, where=fault.where, hint=fault.hint) from None
    if not isinstance(raw, dict):
        hint = "a suite is a mapping with name, seed and tasks"
        raise SuiteError("the suite is not a mapping", where=str(path), hint=hint)
    return raw


def _fault(details: ErrorDetails, path: Path) -> SuiteError:
    place = _dotted(details["loc"])
    where = f"{path}: {place}" if place else str(path)
    kind, context = details["type"], details.get("ctx", {})
    key = str(details["loc"][-1]) if details["loc"] else ""
    if kind == "extra_forbidden":
        known = tuple((Task if "tasks" in details["loc"] else Suite).model_fields)
        return SuiteError(f"unknown key {key!r}", where=where, hint=_nearest(key, known))
    if kind == "missing":
        return SuiteError(f"{key} is missing", where=where, hint=f"add {key}:")
    if kind == "literal_error":
        return SuiteError(
            f"no task {details['input']!r}", where=where, hint=_nearest(details["input"], get_args(TaskKind))
        )
    if kind == "unknown_metric":
        return SuiteError(details["msg"], where=where, hint=_nearest(context["metric"].strip("'"), context["known"]))
    if kind == "unused_key":
        return SuiteError(details["msg"], where=where, hint=f"remove {context['key']}")
    if kind == "twice":
        return SuiteError(details["msg"], where=where, hint="give every task its own name")
    if kind == "no_tasks":
        return SuiteError(details["msg"], where=where, hint="list at least one under tasks:")
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


def _near_file(path: Path) -> str:
    names = sorted(entry.name for entry in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    close = get_close_matches(path.name, names, n=1)
    return f"did you mean {path.with_name(close[0])}?" if close else f"looked from {Path.cwd()}"


def _missing_data(raw: dict[str, Any], path: Path) -> Iterator[SuiteError]:
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
