"""`Kinship`: how alike what several models learned is, for every pair, as one vector, as a mean over tensors, and layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hubmerge.deltas.similarity import Measures, flat, mean_over_pairs, split
from hubmerge.deltas.sums import TensorSums
from hubmerge.deltas.wrong_base import TOO_ALIKE, TOO_FAR, alike_text, far_text, same_text
from hubmerge.pools import layer_name
from zoo_index.table import Table

__all__ = ["OUTSIDE", "Kinship", "Pair"]

OUTSIDE = "outside the layers"
_SHOWN = ("pearson", "cosine", "euclid")
_ALL = (*_SHOWN, "absolute")
By = Literal["pair", "layer", "tensor"]


@dataclass(frozen=True)
class Pair:
    """Two models in numbers: the measures of their whole deltas, and under ``split_...`` the means over tensors.

    part: None for the whole models, else a layer or a tensor, where both forms are of its tensors alone.
    """

    model: str
    other: str
    part: str | None
    numbers: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; a number that does not exist is None."""
        part = {} if self.part is None else {"part": self.part}
        return {"model": self.model, "other": self.other, **part, **{k: _finite(v) for k, v in self.numbers.items()}}


@dataclass(frozen=True, eq=False)
class Kinship:
    """The kinship of N models; matrices are float64 (N, N) in the order of `models`.

    tensors: the sums that all is computed from (`TensorSums`); of adapters a tensor is a module that one of them changes.
    base: None for adapters whose base was not given.  notes: what is left out.
    """

    models: tuple[str, ...]
    base: str | None
    tensors: tuple[TensorSums, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def flat(self) -> Measures:
        """Of the whole deltas, each as one vector."""
        return flat(self.tensors)

    @cached_property
    def split(self) -> Measures:
        """The mean over tensors, weighted by their entries."""
        return split(self.tensors)

    @cached_property
    def layers(self) -> dict[str, Measures]:
        """Of the deltas of every layer as one vector, by the layer's name; what is in none is the last."""
        groups: dict[str, list[TensorSums]] = {}
        for tensor in self.tensors:
            groups.setdefault(layer_name(tensor.name) or OUTSIDE, []).append(tensor)
        ordered = sorted(groups.items(), key=lambda group: group[0] == OUTSIDE)
        return {name: flat(tensors) for name, tensors in ordered}

    @cached_property
    def norms(self) -> npt.NDArray[np.float64]:
        """The norm of every delta, (N,)."""
        return np.sqrt(sum(tensor.gram.diagonal() for tensor in self.tensors))

    @cached_property
    def ratios(self) -> npt.NDArray[np.float64]:
        """The norm of every delta over that of the base's same tensors, (N,); NaN where the base is not known."""
        found: npt.NDArray[np.float64] = self.norms / math.sqrt(sum(tensor.base for tensor in self.tensors) or math.nan)
        return found

    @cached_property
    def mean(self) -> dict[str, float]:
        """The kinship of all N models: the mean over pairs of every measure, of whole deltas and as means over tensors."""
        means = {name: mean_over_pairs(getattr(self.flat, name)) for name in _ALL}
        return means | {f"split_{name}": mean_over_pairs(getattr(self.split, name)) for name in _ALL}

    @property
    def entries(self) -> int:
        """Entries of a delta."""
        return sum(tensor.entries for tensor in self.tensors)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against the base, and models that learned nothing."""
        found = [same_text(name) for name, norm in zip(self.models, self.norms, strict=True) if not norm]
        for (i, model), (j, other) in combinations(enumerate(self.models), 2):
            if self.flat.cosine[i, j] > TOO_ALIKE:
                found.append(alike_text(model, other, float(self.flat.cosine[i, j])))
        for name, ratio in zip(self.models, self.ratios.tolist(), strict=True):
            if ratio > TOO_FAR:
                found.append(far_text(name, str(self.base), ratio))
        return tuple(found)

    def pairs(self, by: By = "pair") -> Table[Pair]:
        """Every pair of models; by "layer" or "tensor": every pair in every layer or tensor."""
        if by == "pair":
            rows = self._pairs(None, {"": self.flat, "split_": self.split})
        elif by == "layer":
            rows = [row for name, own in self.layers.items() for row in self._pairs(name, {"": own})]
        else:
            rows = [row for tensor in self.tensors for row in self._pairs(tensor.name, {"": flat([tensor])})]
        columns: dict[str, Callable[[Pair], object]] = {} if by == "pair" else {by: lambda row: row.part}
        columns |= {"model": lambda row: row.model, "other": lambda row: row.other}
        columns |= {name: _number(name) for name in rows[0].numbers} if rows else {}
        return Table(tuple(rows), columns, len(rows))

    def _pairs(self, part: str | None, forms: Mapping[str, Measures]) -> list[Pair]:
        return [
            Pair(
                model,
                other,
                part,
                {f"{form}{name}": float(getattr(own, name)[i, j]) for form, own in forms.items() for name in _ALL},
            )
            for (i, model), (j, other) in combinations(enumerate(self.models), 2)
        ]

    def to_dict(self, by: By = "pair") -> dict[str, Any]:
        """Plain JSON values; a number that does not exist is None.  by: what is told beside the pairs."""
        models = [
            {"name": name, "norm": norm, "ratio": _finite(ratio)}
            for name, norm, ratio in zip(self.models, self.norms.tolist(), self.ratios.tolist(), strict=True)
        ]
        parts = {} if by == "pair" else {f"{by}s": [row.to_dict() for row in self.pairs(by)]}
        return {
            "base": self.base, "entries": self.entries, "models": models, "mean": {k: _finite(v) for k, v in self.mean.items()},
            "pairs": [row.to_dict() for row in self.pairs()], **parts, "warnings": list(self.warnings), "notes": list(self.notes),
        }  # fmt: skip

    def to_pandas(self, by: By = "pair") -> Any:
        """A data frame of `pairs`."""
        return self.pairs(by).to_pandas()

    def _repr_html_(self) -> str:
        from hubmerge.deltas.heat_map import svg_of

        return svg_of(self)


def _number(name: str) -> Callable[[Pair], object]:
    return lambda row: row.numbers[name]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
