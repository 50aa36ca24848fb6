"""`Extraction`: what an adapter has of a fine-tune, module by module, and what of the fine-tune's change it cannot have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from zoo_index.table import Table

__all__ = ["Extracted", "Extraction", "Left"]


@dataclass(frozen=True)
class Extracted:
    """One module's factors.  norm: of its whole change.  energy: the share of that change's sum of squares that they have."""

    module: str
    shape: tuple[int, ...]
    rank: int
    energy: float
    norm: float
    solver: str


@dataclass(frozen=True)
class Left:
    """A tensor that changed and has no factors.  why: in words.  saved: whether the adapter has the whole tensor instead."""

    tensor: str
    why: str
    norm: float
    saved: bool


@dataclass(frozen=True)
class Extraction:
    """An adapter made of a fine-tune.

    modules: with factors, in the order of layers.  left: other tensors that changed.  unchanged: modules that did not change, which get no
    factors.  base_norm: of all tensors that both have.  warnings: what speaks against the base; notes: what was left out or told by names.
    """

    base: str
    fine_tuned: str
    modules: tuple[Extracted, ...]
    left: tuple[Left, ...]
    unchanged: tuple[str, ...]
    base_norm: float
    seed: int
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def norm(self) -> float:
        """Of the whole change."""
        norms = [*(each.norm for each in self.modules), *(each.norm for each in self.left)]
        return math.hypot(*norms)

    @property
    def ratio(self) -> float:
        """The norm of the change over the base's."""
        return self.norm / self.base_norm if self.base_norm else math.inf

    @property
    def energy(self) -> float:
        """The share of the whole change's sum of squares that the adapter has, tensors that were saved whole included."""
        kept = sum(each.energy * each.norm**2 for each in self.modules)
        return (kept + sum(each.norm**2 for each in self.left if each.saved)) / self.norm**2

    @property
    def shares(self) -> dict[str, float]:
        """Why tensors have no factors -> the share of the whole change's sum of squares that is in those."""
        found: dict[str, float] = {}
        for each in self.left:
            found[each.why] = found.get(each.why, 0.0) + each.norm**2 / self.norm**2
        return found

    def table(self) -> Table[Extracted]:
        """A row for every module with factors."""
        columns = {name: _field(name) for name in ("module", "rank", "energy", "norm", "solver")}
        return Table(self.modules, columns, len(self.modules))

    def to_pandas(self) -> Any:
        """A data frame of `table`."""
        return self.table().to_pandas()

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        own: Mapping[str, Any] = {"norm": self.norm, "ratio": self.ratio, "energy": self.energy, "shares": self.shares}
        whole = asdict(self)
        rows = {"modules": [_plain(row) for row in whole.pop("modules")], "left": list(whole.pop("left"))}
        return {**{key: _plain(value) for key, value in whole.items()}, **own, **rows}


def _field(name: str) -> Any:
    return lambda row: getattr(row, name)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
