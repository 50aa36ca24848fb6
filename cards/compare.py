"""Is the merged model better than its parents?  Differences with their own standard error, paired where possible.

Two models that saw the same samples are compared sample by sample: what is hard for both cancels out, so a paired
difference is known far better than either value.  Each metric is, to first order, a mean of one influence per sample;
the standard error of a difference is that of the difference of the influences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cards.results import ModelResult, Results, TaskResult
from cards.suite import Metric

__all__ = ["Comparison", "compare", "compare_tasks", "mcnemar_p", "pack_outcomes", "unpack_outcomes"]

Outcome = Literal["better", "worse", "within noise", "unknown"]

_Z = 1.96
"""Two-sided 5 %, for differences without an exact test."""


@dataclass(frozen=True)
class Comparison:
    """One task and metric of `model` against `other`.

    difference: value of `model` minus that of `other`.  paired: from the same samples, one by one.
    outcome: at the 5 % level, for this one comparison (not corrected for how many are made); ``unknown`` without a
    standard error.
    """

    task: str
    metric: Metric
    model: str
    other: str
    difference: float
    stderr: float | None
    paired: bool
    outcome: Outcome


def compare(results: Results, model: ModelResult) -> tuple[Comparison, ...]:
    """`model` against every other model of `results`, task by task."""
    return tuple(
        compare_tasks(mine, theirs, model=model.name, other=other.name)
        for other in results.models
        if other.name != model.name
        for mine in model.tasks
        for theirs in other.tasks
        if (mine.name, mine.metric) == (theirs.name, theirs.metric)
    )


def compare_tasks(mine: TaskResult, theirs: TaskResult, *, model: str = "", other: str = "") -> Comparison:
    """Compare one metric of two models.

    Accuracies and hits on the same samples are tested by McNemar's exact test on the samples that only one of them got right,
    perplexities on the same windows by their mean losses, everything else by the values themselves; these two against
    1.96 standard errors of the difference.
    """
    difference = mine.value - theirs.value
    pairs = _influence_pairs(mine, theirs)
    if pairs is not None:
        stderr: float | None = _paired_stderr(pairs, bernoulli=mine.is_share)
    elif mine.stderr is None or theirs.stderr is None:
        stderr = None
    else:
        stderr = math.hypot(mine.stderr, theirs.stderr)
    return Comparison(
        task=mine.name,
        metric=mine.metric,
        model=model,
        other=other,
        difference=difference,
        stderr=stderr,
        paired=pairs is not None,
        outcome=_outcome(mine, theirs, difference, stderr, paired=pairs is not None),
    )


def mcnemar_p(only_mine: int, only_theirs: int) -> float:
    """Two-sided exact p-value that two models differ, from the samples that only one of them got right.

    Under the null each such sample is a fair coin (McNemar 1947, exact binomial form).
    """
    total = only_mine + only_theirs
    tail, ways = 0, 1
    for wins in range(min(only_mine, only_theirs) + 1):
        tail += ways
        ways = ways * (total - wins) // (wins + 1)
    return min(1.0, 2 * tail / (1 << total))


def pack_outcomes(correct: list[bool]) -> str:
    """One bit per sample, first sample highest, as hex; the last byte is filled with zeros."""
    bits = "".join("1" if right else "0" for right in correct)
    padded = bits + "0" * (-len(bits) % 8)
    return int(padded, 2).to_bytes(len(padded) // 8, "big").hex() if padded else ""


def unpack_outcomes(packed: str, n: int) -> list[bool]:
    """The first `n` outcomes of `packed`."""
    return [bit == "1" for byte in bytes.fromhex(packed) for bit in f"{byte:08b}"][:n]


def _outcome(mine: TaskResult, theirs: TaskResult, difference: float, stderr: float | None, *, paired: bool) -> Outcome:
    if stderr is None:
        return "unknown"
    if paired and not mine.is_share:
        # of the mean losses: a perplexity's own scale would add the noise of their common level to the difference
        losses = zip(_loss_influence(mine, slope=1.0), _loss_influence(theirs, slope=1.0), strict=True)
        real = abs(_mean_loss(mine) - _mean_loss(theirs)) > _Z * _paired_stderr(list(losses), bernoulli=False)
    elif paired:
        pairs = list(zip(_correct(mine), _correct(theirs), strict=True))
        only_mine = sum(left and not right for left, right in pairs)
        only_theirs = sum(right and not left for left, right in pairs)
        real = mcnemar_p(only_mine, only_theirs) < 0.05
    else:
        real = abs(difference) > _Z * stderr
    if not real:
        return "within noise"
    return "better" if (difference > 0) == mine.higher_is_better else "worse"


def _correct(task: TaskResult) -> list[bool]:
    return unpack_outcomes(task.outcomes.correct, task.n)


def _influence_pairs(mine: TaskResult, theirs: TaskResult) -> list[tuple[float, float]] | None:
    """The two models' influences sample by sample, or None when they did not see the same samples.

    Windows of tokens are the same samples only when both tokenizers cut the text into equally many tokens.
    """
    if (mine.data_sha256, mine.seed, mine.n) != (theirs.data_sha256, theirs.seed, theirs.n):
        return None
    if mine.is_share:
        if not mine.outcomes.correct or not theirs.outcomes.correct:
            return None
        return list(zip(_share_influence(mine), _share_influence(theirs), strict=True))
    if mine.n < 2 or not mine.outcomes.counts or mine.outcomes.counts != theirs.outcomes.counts:
        return None
    return list(zip(_loss_influence(mine), _loss_influence(theirs), strict=True))


def _share_influence(task: TaskResult) -> list[float]:
    return [(right - task.value) / task.n for right in _correct(task)]


def _loss_influence(task: TaskResult, slope: float | None = None) -> list[float]:
    """Each window's part in the value: its part in the mean loss, times the metric's derivative by that mean."""
    mean, total = _mean_loss(task), sum(task.outcomes.counts)
    if slope is None:
        slope = task.value if task.metric == "perplexity" else task.value / mean if mean else 0.0
    rows = zip(task.outcomes.losses, task.outcomes.counts, strict=True)
    return [slope * (loss - mean * count) / total for loss, count in rows]


def _mean_loss(task: TaskResult) -> float:
    return sum(task.outcomes.losses) / sum(task.outcomes.counts)


def _paired_stderr(pairs: list[tuple[float, float]], *, bernoulli: bool) -> float:
    total = sum((left - right) ** 2 for left, right in pairs)
    return math.sqrt(total if bernoulli else total * len(pairs) / (len(pairs) - 1))
