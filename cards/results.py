"""`Results`: what a suite measured on several models, with n, standard error, seed and data digest.

Serialises to JSON and back, to pandas, to HTML for notebooks, and to the Hub's model-index.
"""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cards.errors import ResultsError
from cards.suite import HITS, Metric, TaskKind, metric_words

if TYPE_CHECKING:
    import pandas as pd
    from huggingface_hub import EvalResult

__all__ = [
    "RESULTS_VERSION",
    "ModelResult",
    "Outcomes",
    "Results",
    "SuiteIdentity",
    "TaskResult",
    "decimals",
    "format_value",
    "read_results",
]

RESULTS_VERSION: Literal[1] = 1

_HUB_TASK = {
    "image-classification": "image-classification",
    "text-classification": "text-classification",
    "perplexity": "text-generation",
}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Outcomes(_Record):
    """What happened sample by sample, in the data's order: what a paired comparison of two models needs.

    correct: an accuracy's samples, or hits, one bit each (first sample = highest bit of the first byte), as hex.
    losses, counts: a perplexity's windows: summed negative log-likelihood in nats, and token count.
    """

    correct: str = ""
    losses: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


class TaskResult(_Record):
    """One metric of one model on one task.

    n: samples, or windows of tokens for a perplexity.  stderr: of an accuracy and of hits Bernoulli's sqrt(p (1 - p) / n);
    a perplexity's comes from its windows by the delta method, None for a single window.  data: the name that the suite
    gives the data's file or folder.  labels: the distinct label names in the data.  joint: the tasks whose rows are
    measured as one, empty for a task of its own.  heads: the models whose heads it was read from, one for each task;
    empty when it is the model's own.  seconds: of the whole task, shared by its metrics; a joint measurement's are those
    of its tasks, which gave its numbers.  notes: what a reader of the value must know.
    """

    name: str
    task: TaskKind
    metric: Metric
    value: float
    stderr: float | None = Field(None, ge=0)
    n: int = Field(ge=1)
    higher_is_better: bool
    seed: int
    data: str
    split: str | None = None
    data_sha256: str
    labels: tuple[str, ...] = ()
    joint: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    outcomes: Outcomes = Outcomes()

    @property
    def is_share(self) -> bool:
        """Whether the value is the share of samples that came out right: an accuracy, or hits."""
        return self.metric == "accuracy" or self.metric in HITS.values()


class ModelResult(_Record):
    """One model and its results.

    model: as it was named, which may be a local path; an ensemble's models with commas.  name: short and public, unique
    in the `Results`.  merge: the plan hash of the merge in this folder, None for other models.  parameters:
    floating-point elements of its weight files; size_bytes: those tensors' bytes.  dtype: what it ran in.
    """

    model: str
    name: str
    merge: str | None = None
    commit: str | None = None
    parameters: int
    size_bytes: int
    dtype: str
    seconds: float
    tasks: tuple[TaskResult, ...]

    def result(self, task: str, metric: Metric) -> TaskResult | None:
        """Its result of a metric on the task of that name; None without one."""
        return next((found for found in self.tasks if (found.name, found.metric) == (task, metric)), None)


class SuiteIdentity(_Record):
    """Which suite was run; sha256 is `Suite.sha256`."""

    name: str
    seed: int
    sha256: str


class Results(_Record):
    """All models on all tasks of one suite, in the order in which they were named."""

    format_version: Literal[1] = RESULTS_VERSION
    suite: SuiteIdentity
    device: str
    versions: dict[str, str]
    models: tuple[ModelResult, ...]

    def to_json(self) -> str:
        """The text of a results file."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"

    def merged(self, plan_hash: str) -> ModelResult:
        """The results of the merge with this plan hash; `ResultsError` when it was not evaluated."""
        for model in self.models:
            if model.merge == plan_hash:
                return model
        raise ResultsError(
            "the results hold nothing about this merge",
            where=", ".join(model.name for model in self.models) or "no models",
            hint="run `hubmerge evaluate OUT PARENT... --suite SUITE.yaml --out results.json` on this OUT",
        )

    def eval_results(self, model: ModelResult) -> list[EvalResult]:
        """The Hub's form of one model's results, each (task, data, metric) once."""
        from huggingface_hub import EvalResult

        found: dict[tuple[str, str, str | None, str], EvalResult] = {}
        for task in model.tasks:
            key = (task.task, task.data, task.split, task.metric)
            if key in found:
                continue
            details: dict[str, Any] = {"n": task.n, "seed": task.seed}
            if task.stderr is not None:
                details["stderr"] = _rounded(task.stderr)
            found[key] = EvalResult(
                task_type=_HUB_TASK[task.task],
                dataset_type=task.data,
                dataset_name=task.name,
                dataset_split=task.split,
                dataset_revision=task.data_sha256,
                metric_type=task.metric,
                metric_name=metric_words(task.metric).capitalize(),
                metric_value=_rounded(task.value),
                metric_args=details,
            )
        return list(found.values())

    def model_index(self, model: ModelResult, name: str) -> list[dict[str, Any]]:
        """The ``model-index`` of a card for `model`, under the model name `name`."""
        from huggingface_hub.repocard_data import eval_results_to_model_index

        return eval_results_to_model_index(name, self.eval_results(model))

    def to_pandas(self) -> pd.DataFrame:
        """One row per model, task and metric."""
        import pandas as pd

        task_columns = [name for name in TaskResult.model_fields if name != "outcomes"]
        rows = [
            {"model": model.name, "parameters": model.parameters, "size_bytes": model.size_bytes}
            | {("task_name" if column == "name" else column): getattr(task, column) for column in task_columns}
            for model in self.models
            for task in model.tasks
        ]
        return pd.DataFrame(rows)

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Column titles and one row of text per model: its name, every value ± standard error, size, seconds."""
        columns: dict[tuple[str, Metric], TaskResult] = {}
        for task in (task for model in self.models for task in model.tasks):
            columns.setdefault((task.name, task.metric), task)
        titles = tuple(f"{task.name} {metric_words(task.metric)} (n={task.n})" for task in columns.values())
        rows = [
            (
                model.name,
                *("–" if (found := model.result(*column)) is None else format_value(found) for column in columns),
                f"{model.parameters:,}",
                f"{model.size_bytes / 1e6:,.1f} MB",
                f"{model.seconds:.1f}",
            )
            for model in self.models
        ]
        return ("model", *titles, "parameters", "size", "seconds"), rows

    def __str__(self) -> str:
        columns, rows = self.table()
        widths = [max(len(line[i]) for line in (columns, *rows)) for i in range(len(columns))]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (columns, *rows)
        )
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        columns, rows = self.table()
        head = "".join(f"<th>{escape(column)}</th>" for column in columns)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def format_value(task: TaskResult) -> str:
    """``0.953 ± 0.011``: as many decimals as the standard error has meaning, at most four."""
    if task.stderr is None:
        return f"{task.value:.4g}"
    return f"{task.value:.{decimals(task.stderr)}f} ± {task.stderr:.{decimals(task.stderr)}f}"


def decimals(stderr: float) -> int:
    """Decimals that show two digits of `stderr`, between 1 and 4; 4 for a standard error of 0."""
    return 4 if stderr <= 0 else min(4, max(1, 1 - math.floor(math.log10(stderr))))


def read_results(path: str | Path) -> Results:
    """Results from a JSON file; `ResultsError` when it is missing or is not one."""
    path = Path(path)
    hint = "write it with `hubmerge evaluate ... --out results.json`"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError("no such results file", where=str(path), hint=hint) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ResultsError(f"the results cannot be read ({error})", where=str(path), hint=hint) from error
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version != RESULTS_VERSION:
        what = f"the results have format_version {version!r}, this hubmerge reads {RESULTS_VERSION}"
        raise ResultsError(what, where=str(path), hint=hint)
    try:
        return Results.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ResultsError(f"not a results file: {first['msg']}", where=f"{path}: {place}", hint=hint) from error


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
