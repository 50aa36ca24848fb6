"""The errors of recipes, plans and merges; each says what, where and what to do (`zoo_index.errors`)."""

from __future__ import annotations

from typing import Any

from zoo_index.errors import HubmergeError

__all__ = [
    "HubmergeError",
    "ManifestError",
    "MergeError",
    "MergeInterrupted",
    "NumbersError",
    "PlanError",
    "RecipeError",
    "VerifyError",
    "shown",
]

_LONGEST = 80


class RecipeError(HubmergeError):
    """The recipe itself is wrong, whatever the models: spelling, ranges, parameters."""


class PlanError(HubmergeError):
    """The recipe and the models do not go together: shapes, dtypes, disk, memory, the output folder."""


class MergeError(HubmergeError):
    """The merge failed while it ran: a number that is not finite, a full disk, a file that changed."""


class NumbersError(MergeError):
    """The parents' numbers stop the merge, and will whenever it is tried: damaged, too large, or in contradiction.

    What has been merged is of no use then, since a parent or the recipe has to change.
    """


class MergeInterrupted(KeyboardInterrupt):
    """Ctrl-C during a merge; its text says what is left of the work."""


class ManifestError(HubmergeError):
    """hubmerge.json is missing or cannot be understood."""


class VerifyError(HubmergeError):
    """A merged model is not what its manifest says."""


def shown(value: Any) -> str:
    """A stranger's value for an error message: its repr, cut after 80 characters."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more than 4,300 digits has none
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
