"""`AssemblyPlan`: a merge of unlike models as data: parents, which groups become how large, on which data, what it costs and writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hubmerge.assemblies import Assembly, AssemblyStages
from hubmerge.calibration.check import CalibrationFacts
from hubmerge.heterogeneous.depths import StageDepths
from hubmerge.heterogeneous.labels import MergedLabels
from hubmerge.heterogeneous.position_rows import PositionRows
from hubmerge.heterogeneous.token_rows import TokenRows
from hubmerge.plan_types import CarriedFile, Download, PlannedParent
from hubmerge.recipe import Recipe
from hubmerge.symmetry.costs import Cost, Sharing
from zoo_index.tensors import DType, TensorMeta

__all__ = ["AssemblyPlan", "PlannedGroup"]


@dataclass(frozen=True)
class PlannedGroup:
    """One group of units that are matched.

    row: its name in the family's table.  sizes: of the models, the base's first.  merged: in the merge.  sharing: of which models
    its units are where as many as possible are merged.
    """

    name: str
    row: str
    sizes: tuple[int, ...]
    merged: int
    sharing: Sharing

    @property
    def apart(self) -> int:
        """How many of the merged units are one model's alone, at least."""
        return sum(count for owners, count in self.sharing if len(owners) == 1)

    @property
    def left_out(self) -> int:
        """How many units of the other models have no place in the merge."""
        return sum(max(0, size - self.merged) for size in self.sizes[1:])


@dataclass(frozen=True)
class AssemblyPlan:
    """Everything that can be told of an assembly before its models and its data are read.

    parents: in the recipe's order.  base: the place of the one in whose order of units the others come.  tensors: of each parent.
    widths: of each parent, what its config says of its sizes.  depths: the stages of layers in which not all models have as many.
    groups: those whose units are matched; kept: the others that could be, with
    the reason.  changed: fields of the base's config that become another number.  labels: None without a head.  cost, base_cost: of the
    merge and of the base, dense; blocks: of the merge without what is zero.  exact: whether sizes and costs are those of the merge, not
    estimates from a size of inputs that is not known yet.  bytes_written, peak_memory: estimates.  warnings have the notes in them.
    tokens: for each of `order` but the first its rows in the base's vocabulary, None where it has the same.  positions: the same of
    tables of positions.
    """

    recipe: Recipe
    assembly: Assembly
    stages: AssemblyStages
    parents: tuple[PlannedParent, ...]
    base: int
    family: str
    tensors: tuple[tuple[TensorMeta, ...], ...]
    widths: tuple[Mapping[str, str], ...]
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
    calibration: CalibrationFacts | None
    tokenizer_donor: int | None
    dtype: str
    tensor_count: int
    carried: tuple[CarriedFile, ...]
    downloads: tuple[Download, ...]
    left: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    bytes_written: int
    peak_memory: int
    hash: str

    @property
    def config_donor(self) -> int:
        """The base's place among the parents."""
        return self.base

    @property
    def order(self) -> tuple[int, ...]:
        """The places of the parents with the base's first, as `merge_models` takes them."""
        return (self.base, *(i for i in range(len(self.parents)) if i != self.base))

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

    @property
    def stored(self) -> Iterator[tuple[int, TensorMeta, bool]]:
        """Every tensor that is read: the parent's place, where it is, and that no adapter has it."""
        return ((i, meta, False) for i, tensors in enumerate(self.tensors) for meta in tensors)

    @property
    def texts(self) -> Mapping[str, str]:
        """Files that are written before the weights are known: none, since the config is written with them."""
        return {}

    @property
    def bytes_read(self) -> int:
        return sum(meta.nbytes for tensors in self.tensors for meta in tensors)

    @property
    def bytes_to_download(self) -> int:
        return sum(file.size for file in self.downloads)

    @property
    def main_dtype(self) -> DType:
        found = DType.from_torch_name(self.dtype)
        assert found is not None
        return found

    def __str__(self) -> str:
        from hubmerge.heterogeneous.explain import assembly_text

        return assembly_text(self)

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        from hubmerge.heterogeneous.plan_json import assembly_dict

        return assembly_dict(self)

    def to_pandas(self) -> Any:
        """One row per group."""
        import pandas as pd

        return pd.DataFrame(self.to_dict()["groups"])
