"""The ways of merging and of carrying that are measured between tiny language models, and which of them are held against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.heterogeneous.language_models import Way

__all__ = ["CARRIED", "CONTROLS", "MERGED", "PAIRS", "TARGETS", "Carry", "Merge", "Pair", "Part"]

Part = Literal["merged", "carried"]

CONTROLS: Mapping[str, str] = {
    "base": "the base alone",
    "other": "the other alone",
    "ensemble": "both run, the mean of their probabilities",
}

_UNFITTED: Mapping[str, Any] = {"fit": None}
_NOT_PERMUTED: Mapping[str, Any] = {"align": "identity"}
_WEIGHTS: Mapping[str, Any] = {"align": "weights"}
_KEEP: Mapping[str, Any] = {"residual": "keep"}
_MATCHED: Mapping[str, Any] = {"residual": "activations"}
_TURNED: Mapping[str, Any] = {"residual": "orthogonal"}


@dataclass(frozen=True)
class Merge(Way):
    """One way of merging.  untied: heads that share the embeddings' rows get rows of their own before, as they do where a stream is turned."""

    untied: bool = False


MERGED: tuple[Merge, ...] = (
    Merge("average", "plain average", {**_NOT_PERMUTED, **_UNFITTED}),
    Merge("turned_average", "stream turned, nothing permuted", {**_NOT_PERMUTED, **_UNFITTED, **_TURNED}),
    Merge("activations", "matched by activations, stream kept", {**_UNFITTED, **_KEEP}),
    Merge("activations_matched", "matched by activations, stream matched", {**_UNFITTED, **_MATCHED}),
    Merge("activations_turned", "matched by activations, stream turned", {**_UNFITTED, **_TURNED}),
    Merge("average_fit", "not permuted, fitted", _NOT_PERMUTED),
    Merge("turned_average_fit", "stream turned, nothing permuted, fitted", {**_NOT_PERMUTED, **_TURNED}),
    Merge("activations_fit", "matched by activations, stream kept, fitted", _KEEP),
    Merge("activations_matched_fit", "matched by activations, stream matched, fitted", _MATCHED),
    Merge("activations_turned_fit", "matched by activations, stream turned, fitted", _TURNED),
    Merge("untied_average_fit", "not permuted, heads untied, fitted", _NOT_PERMUTED, untied=True),
    Merge("untied_activations_fit", "matched by activations, stream kept, heads untied, fitted", _KEEP, untied=True),
    Merge("untied_matched_fit", "matched by activations, stream matched, heads untied, fitted", _MATCHED, untied=True),
    Merge("weights_fit", "matched by weights, stream kept, fitted", {**_WEIGHTS, **_KEEP}),
    Merge("weights_turned_fit", "matched by weights, stream turned, fitted", {**_WEIGHTS, **_TURNED}),
)
"""Arguments are of `merge_models`; fitted is hubmerge's default fit.

The lines with heads untied came after the results of the others: a turned GPT-2's head has rows of its own, and the fit reaches them.
"""

TARGETS: Mapping[str, str] = {"base": "nothing", "tuned": "(the target trained on prose itself)"}


@dataclass(frozen=True)
class Carry:
    """One task vector, added to the target.

    donor: who learned it, on top of its own base.  weight: how much of it is added.  order: random for units of the task vector in a
    random order, each tensor having the numbers that it had.  arguments: of `transport_deltas`.
    """

    key: str
    label: str
    donor: str
    weight: float
    arguments: Mapping[str, Any] = field(default_factory=dict)
    order: Literal["own", "random"] = "own"


_AS_IT_STANDS: Mapping[str, Any] = {"align": "identity"}

CARRIED: tuple[Carry, ...] = (
    Carry("sibling_half", "half of the sibling's, as it stands", "sibling", 0.5, _AS_IT_STANDS),
    Carry("sibling", "all of the sibling's, as it stands", "sibling", 1.0, _AS_IT_STANDS),
    Carry("sibling_aligned", "all of the sibling's, by activations", "sibling", 1.0),
    Carry("plain_half", "half of the stranger's, as it stands", "other", 0.5, _AS_IT_STANDS),
    Carry("plain", "all of the stranger's, as it stands", "other", 1.0, _AS_IT_STANDS),
    Carry("kept_half", "half of the stranger's, by activations, stream kept", "other", 0.5, _KEEP),
    Carry("matched_half", "half of the stranger's, by activations, stream matched", "other", 0.5, _MATCHED),
    Carry("turned_half", "half of the stranger's, by activations, stream turned", "other", 0.5, _TURNED),
    Carry("turned", "all of the stranger's, by activations, stream turned", "other", 1.0, _TURNED),
    Carry(
        "random_half",
        "half of the stranger's with its units in a random order, by activations, stream turned",
        "other",
        0.5,
        _TURNED,
        "random",
    ),
    Carry(
        "weights_turned_half",
        "half of the stranger's, by weights, stream turned",
        "other",
        0.5,
        {**_WEIGHTS, **_TURNED},
    ),
    Carry("wide_half", "half of the wide stranger's, by activations, stream turned", "wide", 0.5, _TURNED),
)


@dataclass(frozen=True)
class Pair:
    """Two lines of a part whose losses are compared seed by seed: what `key` has more than `other`."""

    part: Part
    key: str
    other: str


PAIRS: tuple[Pair, ...] = (
    Pair("merged", "activations_turned", "average"),
    Pair("merged", "activations_turned", "turned_average"),
    Pair("merged", "activations_turned", "activations"),
    Pair("merged", "activations_turned", "activations_matched"),
    Pair("merged", "activations_turned_fit", "average_fit"),
    Pair("merged", "activations_turned_fit", "turned_average_fit"),
    Pair("merged", "activations_turned_fit", "activations_fit"),
    Pair("merged", "activations_turned_fit", "activations_matched_fit"),
    Pair("merged", "activations_turned_fit", "untied_average_fit"),
    Pair("merged", "activations_turned_fit", "untied_activations_fit"),
    Pair("merged", "activations_turned_fit", "untied_matched_fit"),
    Pair("merged", "untied_activations_fit", "activations_fit"),
    Pair("merged", "activations_fit", "average_fit"),
    Pair("merged", "weights_turned_fit", "weights_fit"),
    Pair("merged", "weights_turned_fit", "activations_turned_fit"),
    Pair("merged", "activations_turned_fit", "base"),
    Pair("merged", "activations_turned_fit", "other"),
    Pair("merged", "activations_turned_fit", "ensemble"),
    Pair("merged", "weights_turned_fit", "base"),
    Pair("merged", "weights_turned_fit", "ensemble"),
    Pair("carried", "tuned", "base"),
    Pair("carried", "sibling_half", "base"),
    Pair("carried", "sibling", "base"),
    Pair("carried", "sibling", "tuned"),
    Pair("carried", "sibling_aligned", "sibling"),
    Pair("carried", "plain_half", "base"),
    Pair("carried", "kept_half", "base"),
    Pair("carried", "matched_half", "base"),
    Pair("carried", "turned_half", "base"),
    Pair("carried", "turned", "base"),
    Pair("carried", "turned_half", "plain_half"),
    Pair("carried", "turned_half", "kept_half"),
    Pair("carried", "turned_half", "matched_half"),
    Pair("carried", "turned_half", "random_half"),
    Pair("carried", "weights_turned_half", "base"),
    Pair("carried", "weights_turned_half", "turned_half"),
    Pair("carried", "wide_half", "base"),
)
