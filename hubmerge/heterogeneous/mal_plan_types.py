"""`MalPlan`: a merge of single layers into a base as data: donors, which layers could be paired, what is tried, what stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hubmerge.calibration.check import CalibrationFacts
from hubmerge.heterogeneous.mal_structure import StagePairs
from hubmerge.heterogeneous.whole_plan import WholePlan
from hubmerge.mal_stages import MalStages
from hubmerge.recipe_zoo import ZooQuery

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


@dataclass(frozen=True, kw_only=True)
class MalPlan(WholePlan):
    """Everything that can be told of a merge of single layers before models and data are read.

    recipe: as it is carried out: donors from a catalog are listed in it like others, and no catalog is asked again.  base: the place of
    the model that stays what it is.  layers: how many each parent has.  stages_of: for every donor, in the order of `order`, what could
    be paired.  samples: what layers are tried on.
    """

    stages: MalStages
    layers: tuple[int, ...]
    stages_of: tuple[tuple[StagePairs, ...], ...]
    catalog: AskedCatalog | None
    probe: CalibrationFacts | None
    samples: int

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

    def __str__(self) -> str:
        from hubmerge.heterogeneous.mal_explain import mal_text

        return mal_text(self)

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
