"""`Intruders`: the leading directions of models that their base has not, matrix by matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hubmerge.deltas.kinship_record import OUTSIDE
from hubmerge.pools import layer_name
from zoo_index.table import Table

__all__ = ["Counted", "Directions", "Intruders"]

By = Literal["layer", "tensor"]


@dataclass(frozen=True, eq=False)
class Directions:
    """One matrix of N models: for each the leading left singular vectors.

    values: their singular values; cosines: of each the largest magnitude of its cosines with the base's left singular vectors.
    Float64 (k,), one for each model; k is smaller than asked for where the rank is.
    """

    tensor: str
    values: tuple[npt.NDArray[np.float64], ...]
    cosines: tuple[npt.NDArray[np.float64], ...]


@dataclass(frozen=True)
class Counted:
    """A layer or a matrix: how many of the leading directions of each model are intruders, and of how many."""

    part: str
    counts: tuple[int, ...]
    directions: int


@dataclass(frozen=True, eq=False)
class Intruders:
    """Intruder dimensions of N models.  top: leading directions of each matrix.  threshold: what an intruder's cosines are below."""

    models: tuple[str, ...]
    base: str
    top: int
    threshold: float
    tensors: tuple[Directions, ...]
    notes: tuple[str, ...] = ()

    def counts(self, threshold: float | None = None) -> npt.NDArray[np.int64]:
        """Intruders of every matrix and model, (matrices, N), at another threshold if one is given."""
        below = self.threshold if threshold is None else threshold
        rows = [[int((cosines < below).sum()) for cosines in tensor.cosines] for tensor in self.tensors]
        return np.array(rows, np.int64).reshape(len(rows), len(self.models))

    @property
    def total(self) -> tuple[int, ...]:
        """Intruders of every model."""
        return tuple(self.counts().sum(0).tolist())

    @property
    def lowest(self) -> tuple[float, ...]:
        """For every model the smallest of its directions' cosines: how near it is to an intruder; 1 without any direction."""
        return tuple(
            min((float(tensor.cosines[place].min(initial=1.0)) for tensor in self.tensors), default=1.0)
            for place in range(len(self.models))
        )

    @property
    def directions(self) -> int:
        """Leading directions of a model that were looked at."""
        return sum(max((own.size for own in tensor.cosines), default=0) for tensor in self.tensors)

    def table(self, by: By = "layer") -> Table[Counted]:
        """A row for every layer, what is in none last; by "tensor": for every matrix.  A column for every model."""
        groups: dict[str, list[int]] = {}
        for place, tensor in enumerate(self.tensors):
            groups.setdefault(tensor.tensor if by == "tensor" else layer_name(tensor.tensor) or OUTSIDE, []).append(
                place
            )
        counts, sizes = self.counts(), [max(own.size for own in tensor.cosines) for tensor in self.tensors]
        rows = tuple(
            Counted(name, tuple(counts[places].sum(0).tolist()), sum(sizes[place] for place in places))
            for name, places in sorted(groups.items(), key=lambda group: group[0] == OUTSIDE)
        )
        columns: dict[str, Callable[[Counted], object]] = {
            by: lambda row: row.part,
            "directions": lambda row: row.directions,
        }
        columns |= {name: _count(place) for place, name in enumerate(self.models)}
        return Table(rows, columns, len(rows))

    def to_pandas(self, by: By = "layer") -> Any:
        """A data frame of `table`."""
        return self.table(by).to_pandas()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: every direction of every matrix with its singular value and cosine."""
        layers = [{"layer": row.part, "counts": list(row.counts)} for row in self.table()]
        tensors = [
            {
                "tensor": tensor.tensor, "counts": counts, "cosines": [own.tolist() for own in tensor.cosines],
                "values": [own.tolist() for own in tensor.values],
            }
            for tensor, counts in zip(self.tensors, self.counts().tolist(), strict=True)
        ]  # fmt: skip
        return {
            "base": self.base, "models": list(self.models), "top": self.top, "threshold": self.threshold, "directions": self.directions,
            "total": list(self.total), "lowest": list(self.lowest), "layers": layers, "tensors": tensors, "notes": list(self.notes),
        }  # fmt: skip

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _count(place: int) -> Callable[[Counted], object]:
    return lambda row: row.counts[place]
