"""`Suite`: what to measure, as a person writes it in YAML; `load_suite` reads it and reports all faults at once.

name: digits
seed: 0
tasks:
  - name: low-digits
    task: image-classification
    data: data/low
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from cards.errors import SuiteError
from cards.suite_faults import missing_data, near_file, suite_fault
from hubmerge.dialect import read_yaml
from hubmerge.errors import RecipeError
from zoo_index.reference import local_path

__all__ = ["HITS", "METRICS", "Joint", "Metric", "Suite", "Task", "TaskKind", "load_suite", "metric_words"]

TaskKind = Literal["image-classification", "text-classification", "perplexity"]

Metric = Literal["accuracy", "perplexity", "bits_per_byte", "hits@1", "hits@3", "hits@5"]

HITS: dict[int, Metric] = {1: "hits@1", 3: "hits@3", 5: "hits@5"}
"""The metrics of a joint measurement: the share of rows whose true label is among the k that score highest."""

METRICS: dict[TaskKind, tuple[Metric, ...]] = {
    "image-classification": ("accuracy",),
    "text-classification": ("accuracy",),
    "perplexity": ("perplexity", "bits_per_byte"),
}
"""Every metric of a kind of task; a task without `metric` reports all of them."""

_UNUSED_KEYS: dict[TaskKind, tuple[str, ...]] = {
    "image-classification": ("text_column", "max_length"),
    "text-classification": ("image_column",),
    "perplexity": ("image_column", "label_column", "head", "unknown_labels"),
}


def metric_words(metric: Metric) -> str:
    """A metric's name as a reader sees it: ``bits per byte``, ``hits@3``."""
    return metric.replace("_", " ")


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(_Spec):
    """One measurement on one set of data.

    data: relative to the suite file (or absolute): an image folder with one subfolder per label name, or a .jsonl,
    .json, .csv, .parquet or .txt file, or a folder of such files.  split: a subfolder, or the file of that name,
    inside `data`.  samples: at most so many rows, drawn with the suite's seed.  max_length: tokens per text (longer
    ones are cut) or per perplexity window; for perplexity it is the same for all models, so that they are comparable.
    metric: one of `METRICS` for the kind of task, None for all of them.

    head: a model of the same architecture whose classification head takes the place of every model's own, as for a
    merge of models that were trained with a head each: a folder relative to the suite file, org/name, or base+adapter.
    unknown_labels: refuse a model whose head has no output for a label of the data, or count such rows as wrong.
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
    head: str | None = Field(None, min_length=1)
    unknown_labels: Literal["refuse", "wrong"] = "refuse"

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


class Joint(_Spec):
    """Several classification tasks measured as one (KnOTS, arXiv:2410.19735): no model is told which task a row is of.

    tasks: their names, all of one kind; none named are all of the suite's.  Every row of every task is scored against
    the union of their labels, where labels of exactly the same name are one, and all rows count alike (`HITS`).
    ensemble: the model trained for each of the tasks, in their order, named as a `Task.head` is; a row then goes through all of
    them, and that is one more line of the results.
    """

    name: str = Field("joint", min_length=1)
    tasks: tuple[str, ...] = ()
    ensemble: tuple[str, ...] = ()


class Suite(_Spec):
    """Tasks to run every model on.  Relative paths are looked up from `folder`, which is no part of the value."""

    name: str = Field(min_length=1)
    seed: int = Field(0, ge=0)
    tasks: tuple[Task, ...]
    joint: Joint | None = None
    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """The folder from which relative paths are looked up (the suite file's)."""
        return self._folder

    @property
    def sha256(self) -> str:
        """Digest of the suite's content, independent of layout, comments and place of the file."""
        later = {"head": None, "unknown_labels": "refuse"}  # left out where unused: older suites keep their digests
        unused = {
            number: {key for key in later if getattr(task, key) == later[key]} for number, task in enumerate(self.tasks)
        }
        text = self.model_dump_json(exclude={"tasks": unused, **({} if self.joint else {"joint": True})})
        return sha256(text.encode()).hexdigest()

    @property
    def joint_tasks(self) -> tuple[Task, ...]:
        """The tasks that are measured together, in the order in which `joint` names them; none without `joint`."""
        if self.joint is None:
            return ()
        named = {task.name: task for task in self.tasks}
        return tuple(named[name] for name in self.joint.tasks or named)

    def at(self, folder: Path) -> Suite:
        """The same suite with its data looked up from `folder`."""
        placed = self.model_copy()
        placed._folder = folder  # noqa: SLF001 - our own copy; a frozen model keeps its place beside its value
        return placed

    def path_of(self, task: Task) -> Path:
        """Where the data of `task` is."""
        return self._folder / local_path(task.data)

    def model_at(self, named: str) -> str:
        """The model that a `Task.head` names: its folders as paths from here, everything else as it is."""
        placed = [self._folder / local_path(part) for part in (named, *named.split("+"))]
        whole, *parts = (str(place) if place.is_dir() else "" for place in placed)
        return whole or "+".join(place or part for place, part in zip(parts, named.split("+"), strict=True))

    @model_validator(mode="after")
    def _tasks_can_be_told_apart(self) -> Suite:
        if not self.tasks:
            raise PydanticCustomError("no_tasks", "the suite has no tasks")
        names = [task.name for task in self.tasks]
        for name in names:
            if names.count(name) > 1:
                raise PydanticCustomError("twice", "two tasks are named {name}", {"name": repr(name)})
        if self.joint is not None:
            _check_joint(self.joint, self.tasks)
        return self


def _check_joint(joint: Joint, tasks: tuple[Task, ...]) -> None:
    named = {task.name: task for task in tasks}
    names = joint.tasks or tuple(named)
    lacking = next((name for name in names if name not in named), None)
    if lacking is not None:
        raise _joint_fault(f"joint names {lacking!r}, which is no task", f"the tasks are {', '.join(named)}")
    if len(set(names)) < max(2, len(names)):
        raise _joint_fault("joint takes at least two tasks, each once", "name them under joint: tasks:")
    if joint.name in named:
        raise _joint_fault(f"a task is named {joint.name!r}, as joint is", "give joint a name: of its own")
    kinds = {named[name].task for name in names}
    if len(kinds) > 1 or "perplexity" in kinds:
        hint = "name the tasks of one kind of classification under joint: tasks:"
        raise _joint_fault(f"joint takes classification tasks of one kind, not {' and '.join(sorted(kinds))}", hint)
    if len({named[name].head is None for name in names}) > 1:
        raise _joint_fault(
            "some of the tasks of joint have a head, others have none", "give each of them a head:, or none"
        )
    if joint.ensemble and len(joint.ensemble) != len(names):
        what = f"joint has {len(names)} tasks and {len(joint.ensemble)} models under ensemble"
        raise _joint_fault(what, "name one model for each task, in the order of the tasks")


def _joint_fault(what: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("joint", "{what}", {"what": what, "hint": hint})


def load_suite(path: str | Path) -> Suite:
    """Read a suite from a YAML file; its data is looked up from the file's folder.

    Raises `SuiteError` with every fault of the file: unreadable YAML, a key given twice, unknown or missing keys,
    values out of range, data that does not exist.
    """
    path = Path(path)
    raw = _read_yaml(path)
    faults: list[SuiteError] = []
    suite: Suite | None = None
    known: Mapping[str, tuple[str, ...]] = {
        "suite": tuple(Suite.model_fields),
        "task": tuple(Task.model_fields),
        "joint": tuple(Joint.model_fields),
    }
    try:
        suite = Suite.model_validate(raw).at(path.parent)
    except ValidationError as error:
        faults.extend(suite_fault(details, path, known) for details in error.errors())
    faults.extend(missing_data(raw, path))
    if faults or suite is None:
        raise SuiteError.of(faults)
    return suite


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise SuiteError("no such suite file", where=str(path), hint=near_file(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"the suite cannot be read ({error})", where=str(path), hint="name a YAML file") from error
    except RecipeError as fault:  # suites are written in the same YAML as recipes
        raise SuiteError(fault.message, where=fault.where, hint=fault.hint) from None
    if not isinstance(raw, dict):
        hint = "a suite is a mapping with name, seed and tasks"
        raise SuiteError("the suite is not a mapping", where=str(path), hint=hint)
    return raw
