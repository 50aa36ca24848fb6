"""Which choices of the stage `align` go together, told once for recipes and for merges in memory."""

from __future__ import annotations

from dataclasses import dataclass

from hubmerge.recipe_stages import AlignMethod, Widths

__all__ = ["BALANCE", "REGULARISATION", "Misfit", "is_matched_on_data", "leaves_units_out", "misfits", "runs_together"]

BALANCE = 0.5
"""The share of weights in `balanced` where it is not said: what the published code starts from."""
REGULARISATION = 0.03
"""Of `optimal_transport` where it is not said, in units of a correlation: in small ResNets a unit then is a mean of two to six."""

_ON_DATA: tuple[AlignMethod, ...] = ("activations", "balanced", "zip", "optimal_transport")
_PLACES_OF_ALL = {
    "zip": "contracts units until the width is reached",
    "optimal_transport": "carries every unit to the base model's",
}
"""Methods without pairs of units, and what they do instead."""


@dataclass(frozen=True)
class Misfit:
    """A choice that does not go with another.  key: under align."""

    message: str
    key: str
    hint: str


def is_matched_on_data(method: str) -> bool:
    """Whether a method compares what units compute on calibration data."""
    return method in _ON_DATA


def runs_together(method: str, fit: str | None) -> bool:
    """Whether what layers of several models compute is held together row by row; regmean takes each model's inputs for itself.

    fit: as a recipe or `hubmerge.heterogeneous.merge_models` names it.
    """
    return is_matched_on_data(method) or fit not in {None, "none", "regmean"}


def leaves_units_out(method: str, widths: str) -> bool:
    """Whether units that are too many for the merge have no part in it; heads never have."""
    return widths != "fold" and method not in _PLACES_OF_ALL


def misfits(
    method: AlignMethod,
    widths: Widths,
    *,
    min_similarity: float,
    balance: float | None,
    regularisation: float | None,
) -> tuple[Misfit, ...]:
    """What of these does not go together; balance, regularisation: None where they are not said."""
    found = []
    if balance is not None and method != "balanced":
        found.append(Misfit(f"balance is of no use with align: {method}", "balance", "remove it, or write balanced"))
    if regularisation is not None and method != "optimal_transport":
        hint = "remove it, or write optimal_transport"
        found.append(Misfit(f"regularisation is of no use with align: {method}", "regularisation", hint))
    instead = _PLACES_OF_ALL.get(method)
    if instead is not None and min_similarity != 0:
        message = f"align: {method} {instead}, and leaves no pair unmerged for being unlike"
        found.append(Misfit(message, "min_similarity", "remove it"))
    if instead is not None and widths == "fold":
        found.append(
            Misfit(f"align: {method} {instead}: there is nothing left to fold", "widths", "write widths: base")
        )
    if method == "optimal_transport" and widths == "union":
        message = f"align: optimal_transport {instead}: none stays apart"
        found.append(Misfit(message, "widths", "write widths: base, or align: zip"))
    if method in {"weights", "identity"} and widths == "fold":
        message = f"align: {method} is for models of one width, where every unit has its partner"
        found.append(Misfit(message, "widths", "write align: activations or align: balanced, or widths: base"))
    return tuple(found)
