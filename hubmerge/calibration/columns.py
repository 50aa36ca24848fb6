"""Which column of the data is drawn from: the one that a recipe names, or the first whose name says what it holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hubmerge.calibration.samples import Kind
from hubmerge.errors import PlanError

__all__ = ["chosen_column"]

_TEXTS, _IMAGES, _PIXELS = ("text", "sentence", "content"), ("image", "images", "img"), ("pixel_values",)


def chosen_column(columns: Sequence[str], asked: str | None, takes: Collection[Kind], data: str) -> str:
    """The column to draw from.

    takes: what the model can be given; where the data has texts and images, it decides.  Raises `PlanError` that lists the
    columns when the one asked for is not there, or when none is asked for and none has a name that says what it holds.
    """
    listed = f"the columns are {', '.join(columns)}" if columns else "it has no columns"
    if asked is not None:
        if asked in columns:
            return asked
        raise PlanError(f"{data} has no column {asked!r}", where="calibration.column", hint=listed)
    texts: tuple[str, ...] = _TEXTS if "text" in takes else ()
    images: tuple[str, ...] = _IMAGES if "image" in takes else ()
    for name in (*texts, *images, *_PIXELS, *_TEXTS, *_IMAGES):
        if name in columns:
            return name
    hint = f"{listed}; name one in column"
    raise PlanError(
        f"no column of {data} is called {', '.join(_TEXTS)} or the like", where="calibration.column", hint=hint
    )
