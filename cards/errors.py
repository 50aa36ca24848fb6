"""The errors of suites, evaluations, cards and publishing; each says what, where and what to do."""

from __future__ import annotations

from zoo_index.errors import HubmergeError

__all__ = ["CardError", "EvaluationError", "PublishError", "ResultsError", "SuiteError"]


class SuiteError(HubmergeError):
    """The suite file, or the data it names, cannot be used."""


class EvaluationError(HubmergeError):
    """A model cannot be scored on a task, or the score would mean nothing."""


class ResultsError(HubmergeError):
    """A results file cannot be read, or holds nothing about this merge."""


class CardError(HubmergeError):
    """A card cannot be written, or lacks something that it must have."""


class PublishError(HubmergeError):
    """A merge may not, or cannot, be published."""
