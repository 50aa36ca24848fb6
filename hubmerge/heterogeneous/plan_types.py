"""`AssemblyPlan`: a merge of unlike models as data: parents, which groups become how large, on which data, what it costs and writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubmerge.assembly_stages import AssemblyStages
from hubmerge.heterogeneous.depths import StageDepths
from hubmerge.heterogeneous.labels import MergedLabels
from hubmerge.heterogeneous.position_rows import PositionRows
from hubmerge.heterogeneous.token_rows import TokenRows
from hubmerge.heterogeneous.whole_plan import WholePlan
from hubmerge.symmetry.costs import Cost, Sharing

__all__ = ["AssemblyPlan", "PlannedGroup"]


@dataclass(frozen=True)
class PlannedGroup:
    """One group of units that are matched.

    row: its name in the family's table.  sizes: of the models, the base's first.  merged: in the merge.  sharing: of which models
    its units are where as many as possible are merged.  heads: whether its units hold features, as attention heads do.
    """

    name: str
    row: str
    sizes: tuple[int, ...]
    merged: int
    sharing: Sharing
    heads: bool = False

    @property
    def apart(self) -> int:
        """How many of the merged units are one model's alone, at least."""
        return sum(count for owners, count in self.sharing if len(owners) == 1)

    def left_out(self, models: int) -> int:
        """How many units of the other models have no place in the merge.  models: the first so many others, not counting their own bases."""
        return sum(max(0, size - self.merged) for size in self.sizes[1 : 1 + models])


@dataclass(frozen=True, kw_only=True)
class AssemblyPlan(WholePlan):
    """Everything that can be told of an assembly before its models and its data are read.

    base: the place of the model in whose order of units the others come.  depths: the stages of layers in which not all models have as
    many.  groups: those whose units are matched; kept: the others that could be, with the reason.  changed: fields of the base's config
    that become another number.  labels: None without a head.  cost, base_cost: of the merge and of the base, dense; blocks: of the
    merge without what is zero.  exact: whether sizes and costs are those of the merge, not estimates from a size of inputs that is not
    known yet, or those of a uniform budget for a greedy one.  tokens: for each of `order` but the first its rows in the
    base's vocabulary, None where it has the same.  positions: the same of tables of positions.
    """

    stages: AssemblyStages
    depths: tuple[StageDepths, ...]
    groups: tuple[PlannedGroup, ...]
    kept: Mapping[str, str]
    tokens: tuple[TokenRows | None, ...]
    positions: tuple[PositionRows | None, ...]
    changed: Mapping[str, int]
    labels: MergedLabels | None
    base_cost: Cost
    cost: Cost
    blocks: Cost
    exact: bool
    tensor_count: int

    @property
    def positions_told(self) -> dict[str, str]:
        """What becomes of tables of positions of other lengths, by the model's name."""
        base = str(self.parents[self.base].reference)
        others = [str(self.parents[place].reference) for place in self.order[1:]]
        pairs = zip(others, self.positions, strict=True)
        return {name: rows.text(name, base) for name, rows in pairs if rows is not None}

    @property
    def joins_labels(self) -> bool:
        """Whether the merge has the labels of one model after the other's."""
        maps = self.labels.maps.values() if self.labels is not None else ()
        return any(bool((part.unit < 0).any()) for own in maps for part in own)

    @property
    def parameters(self) -> int:
        """Floating-point entries written, as far as they are known."""
        return self.cost.parameters

    def __str__(self) -> str:
        from hubmerge.heterogeneous.explain import assembly_text

        return assembly_text(self)

    @property
    def others(self) -> int:
        """How many models are merged beside the base; what they were trained from is not counted."""
        return len(self.stages.weights) if self.stages.bases else len(self.order) - 1

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        from hubmerge.heterogeneous.plan_json import assembly_dict

        return assembly_dict(self)

    def to_pandas(self) -> Any:
        """One row per group."""
        import pandas as pd

        return pd.DataFrame(self.to_dict()["groups"])
