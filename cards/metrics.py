"""The metrics as `evaluate.Metric` subclasses that need no network, and their standard errors.

Importing this module imports `evaluate` (and with it torch): only the code that scores does so.
"""

from __future__ import annotations

import math
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import evaluate
import numpy as np

__all__ = ["Accuracy", "BitsPerByte", "Perplexity", "compute", "ratio_stderr", "share"]


class _Offline(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """What our metrics share: a description, two columns, and no cached module code."""

    description = ""
    inputs = ""
    columns: dict[str, str] = {}  # noqa: RUF012 - a constant of the subclass

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=self.description,
            citation="",
            inputs_description=self.inputs,
            features=datasets.Features({name: datasets.Value(kind) for name, kind in self.columns.items()}),
        )


class Accuracy(_Offline):
    """Share of equal pairs, with the Bernoulli standard error sqrt(p (1 - p) / n), which is 0 at p = 0 and p = 1."""

    description = "Share of samples whose predicted label is the true one."
    inputs = "predictions, references: label ids"
    columns = {"predictions": "int64", "references": "int64"}  # noqa: RUF012

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        value, stderr = share(np.asarray(predictions) == np.asarray(references))
        return {"accuracy": value, "stderr": stderr}


class Perplexity(_Offline):
    """exp of the mean negative log-likelihood per token; standard error by the delta method over windows."""

    description = "exp(total negative log-likelihood / total tokens)."
    inputs = "predictions: summed negative log-likelihood of each window, in nats; references: its token count"
    columns = {"predictions": "float64", "references": "int64"}  # noqa: RUF012

    def _compute(self, predictions: Any, references: Any) -> dict[str, float | None]:
        mean, stderr = ratio_stderr(predictions, references)
        value = math.exp(mean) if mean < 700 else math.inf
        return {"perplexity": value, "stderr": None if stderr is None else value * stderr}


class BitsPerByte(_Offline):
    """Total negative log-likelihood in bits, divided by the UTF-8 bytes of the text: comparable between tokenizers."""

    description = "total negative log-likelihood / ln 2 / bytes of text."
    inputs = "predictions, references: as for perplexity; text_bytes: UTF-8 bytes of all texts"
    columns = {"predictions": "float64", "references": "int64"}  # noqa: RUF012

    def _compute(self, predictions: Any, references: Any, text_bytes: int) -> dict[str, float | None]:
        mean, stderr = ratio_stderr(predictions, references)
        scale = float(np.sum(references)) / math.log(2) / text_bytes
        return {"bits_per_byte": mean * scale, "stderr": None if stderr is None else stderr * scale}


_METRICS = {"accuracy": Accuracy, "perplexity": Perplexity, "bits_per_byte": BitsPerByte}


def compute(name: str, predictions: Any, references: Any, **extra: Any) -> tuple[float, float | None]:
    """Value and standard error of metric `name`; `extra` goes to the metric (``text_bytes`` for bits per byte)."""
    # evaluate makes a folder for every metric even when all is kept in memory; this one goes away again
    with TemporaryDirectory(prefix="hubmerge-metric-") as folder:
        metric = _METRICS[name](keep_in_memory=True, cache_dir=folder, seed=0)
        found = metric.compute(predictions=predictions, references=references, **extra)
    return found[name], found["stderr"]


def share(correct: Any) -> tuple[float, float]:
    """The share of true among `correct`, and its Bernoulli standard error: of an accuracy, of hits."""
    value = float(np.mean(np.asarray(correct)))
    return value, math.sqrt(value * (1 - value) / len(correct))


def ratio_stderr(totals: Any, counts: Any) -> tuple[float, float | None]:
    """Mean per count of windows (sum of `totals` / sum of `counts`), and its standard error.

    The ratio estimator's: sqrt(m / (m - 1) * sum((total - mean * count)^2)) / sum(counts) over m windows, which are
    taken as independent; windows of one document are not quite, so it is a lower bound there.  None for one window.
    """
    totals, counts = np.asarray(totals, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    mean = float(totals.sum() / counts.sum())
    windows = len(totals)
    if windows < 2:
        return mean, None
    spread = float(np.sum((totals - mean * counts) ** 2))
    return mean, math.sqrt(windows / (windows - 1) * spread) / float(counts.sum())
