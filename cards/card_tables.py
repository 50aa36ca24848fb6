"""The evaluation part of a card: the table beside the parents, the differences in words, the data behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cards import markdown
from cards.compare import Comparison, compare_tasks
from cards.results import ModelResult, Results, TaskResult, decimals, format_value
from cards.suite import metric_words

__all__ = ["comparison_lines", "data_lines", "results_table", "scores_sentence"]

_ARROW = {True: "↑", False: "↓"}
_OUTCOME_WORDS = {
    "better": "better, beyond what chance gives at the 5 % level",
    "worse": "worse, beyond what chance gives at the 5 % level",
    "within noise": "within noise: this data cannot tell the two apart",
    "unknown": "of unknown certainty, since there is no standard error",
}


def results_table(
    results: Results, merged: ModelResult, roles: Mapping[str, str]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns (task, metric, n; ↑ when higher is better) and rows, the merged model first and in bold."""
    columns = [
        f"{task.name}: {metric_words(task.metric)} {_ARROW[task.higher_is_better]} (n = {task.n:,})"
        for task in merged.tasks
    ]
    rows = []
    for model in sorted(results.models, key=lambda model: model is not merged):
        name = markdown.text(model.name)
        row = {
            "name": markdown.Markup(f"**{name}**") if model is merged else name,
            "role": "this model" if model is merged else roles.get(model.name, _other(model)),
            "values": [_cell(model, task) for task in merged.tasks],
        }
        rows.append(row)
    return columns, rows


def scores_sentence(merged: ModelResult) -> markdown.Markup:
    """Every value in one sentence, for the summary."""
    scores = [
        f"{metric_words(task.metric)} {format_value(task)} on {markdown.text(task.name)}" for task in merged.tasks
    ]
    return markdown.Markup(f"Measured: {', '.join(scores)}; the table below has the models it was made from beside it.")


def comparison_lines(results: Results, merged: ModelResult, roles: Mapping[str, str]) -> list[str]:
    """For every task and metric: the merged model against the best of its parents that were evaluated."""
    parents = [model for model in results.models if model.name in roles and model is not merged]
    lines = []
    for task in merged.tasks:
        rivals = [(model, found) for model in parents if (found := model.result(task.name, task.metric)) is not None]
        if rivals:
            best, found = (max if task.higher_is_better else min)(rivals, key=lambda rival: rival[1].value)
            against = compare_tasks(task, found, model=merged.name, other=best.name)
            lines.append(_sentence(task, found, against))
    return lines


def data_lines(merged: ModelResult) -> list[markdown.Markup]:
    """One line per task about its data."""
    lines: dict[str, markdown.Markup] = {}
    for task in merged.tasks:
        what = "windows of text" if task.task == "perplexity" else "samples"
        split = f", split {markdown.text(task.split)}" if task.split else ""
        labels = f", labels {markdown.some(task.labels)}" if task.labels else ""
        labels += f"; {_reading(task)}" if task.joint or task.heads else ""
        lines[task.name] = markdown.Markup(
            f"{markdown.text(task.name)} ({markdown.text(task.task)}): {task.n:,} {what} of {markdown.text(task.data)}"
            f"{split}{labels}; "
            f"SHA-256 of the data {markdown.code(task.data_sha256[:16])}"
        )
    return list(lines.values())


def _reading(task: TaskResult) -> str:
    """How the classes of a joint measurement, or those of another model's head, were read."""
    of = f" of {markdown.some(task.joint)}" if task.joint else ""
    against = f"every row{of} against all of these labels, without a word of which task it is from" if of else ""
    heads = f"read with the head of {markdown.some(task.heads)}" if task.heads else ""
    return ", ".join(part for part in (against, heads) if part)


def _other(model: ModelResult) -> str:
    """The role of a model that is none of the merge's: of an ensemble, which has joint results alone, what it is of."""
    is_ensemble = bool(model.tasks) and all(task.joint for task in model.tasks)
    return f"ensemble of {', '.join(dict.fromkeys(model.tasks[0].heads))}" if is_ensemble else "other"


def _cell(model: ModelResult, task: TaskResult) -> str:
    found = model.result(task.name, task.metric)
    return "–" if found is None else format_value(found)


def _sentence(task: TaskResult, found: TaskResult, against: Comparison) -> str:
    places = decimals(against.stderr) if against.stderr is not None else 4
    spread = f" ± {against.stderr:.{places}f}" if against.stderr is not None else ""
    sign = "−" if against.difference < 0 else "+"
    difference = f"{sign}{abs(against.difference):.{places}f}{spread}"
    return (
        f"{task.name}, {metric_words(task.metric)}: {format_value(task)}, against {format_value(found)} for "
        f"{against.other}, the best there of the models it was made from. The difference is {difference}, {_OUTCOME_WORDS[against.outcome]}."
    )
