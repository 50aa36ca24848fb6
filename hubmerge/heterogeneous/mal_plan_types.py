"""`MalPlan`: a merge of single layers into a base as data: donors, which layers could be paired, what is tried, what stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hubmerge.assemblies import Assembly
from hubmerge.calibration.check import CalibrationFacts
from hubmerge.heterogeneous.mal_structure import StagePairs
from hubmerge.mal_stages import MalStages
from hubmerge.plan_types import CarriedFile, Download, PlannedParent
from hubmerge.recipe import Recipe
from hubmerge.recipe_zoo import ZooQuery
from zoo_index.tensors import DType, TensorMeta

__all__ = ["AskedCatalog", "MalPlan"]


@dataclass(frozen=True)
class AskedCatalog:
    """What a catalog answered.  taken: the donors that it gave; passed: models that do not fit, with the reason; left: models that were not
    looked at, since there were enough.
    """

    query: ZooQuery
    taken: tuple[str, ...]
    passed: tuple[tuple[str, str], ...]
    left: int


@dataclass(frozen=True)
class MalPlan:
    """Everything that can be told of a merge of single layers before models and data are read.

    recipe: as it is carried out: donors from a catalog are listed in it like others, and no catalog is asked again.  parents: in its order.
    base: the place of the one that stays what it is.  tensors, widths, layers: of each parent: headers, what the config says of sizes, and
    how many layers there are.  stages_of: for every donor, in the order of `order`, what could be paired.  samples: what layers are tried
    on.  bytes_written, peak_memory: estimates.  warnings have the notes in them.
    """

    recipe: Recipe
    assembly: Assembly
    stages: MalStages
    parents: tuple[PlannedParent, ...]
    base: int
    family: str
    tensors: tuple[tuple[TensorMeta, ...], ...]
    widths: tuple[Mapping[str, str], ...]
    layers: tuple[int, ...]
    stages_of: tuple[tuple[StagePairs, ...], ...]
    catalog: AskedCatalog | None
    calibration: CalibrationFacts | None
    probe: CalibrationFacts | None
    samples: int
    tokenizer_donor: int | None
    dtype: str
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
        """The places of the parents with the base's first."""
        return (self.base, *(i for i in range(len(self.parents)) if i != self.base))

    @property
    def turns(self) -> int:
        """How many decisions there will be: one for every round, donor and layer of the base."""
        return self.stages.parameters.rounds * (len(self.parents) - 1) * self.layers[self.base]

    @property
    def runs(self) -> int:
        """How often layers are run on all samples, at most: once for every decision and share that is tried."""
        most = sum(stage.paired for stages in self.stages_of for stage in stages)
        return self.stages.parameters.rounds * most * len(self.stages.tried)

    @property
    def parameters(self) -> int:
        """Floating-point entries written: the base's."""
        return sum(meta.numel for meta in self.tensors[self.base] if meta.dtype.is_float)

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
        from hubmerge.heterogeneous.mal_explain import mal_text

        return mal_text(self)

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        from hubmerge.heterogeneous.mal_plan_json import mal_dict

        return mal_dict(self)

    def to_pandas(self) -> Any:
        """One row per donor and stage."""
        import pandas as pd

        return pd.DataFrame(
            [{"donor": donor["reference"], **row} for donor in self.to_dict()["donors"] for row in donor["stages"]]
        )
