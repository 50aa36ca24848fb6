"""The parameters of `mal`, and all choices of a recipe for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from hubmerge.method_parameters import Parameters
from hubmerge.recipe_calibration import Calibration
from hubmerge.recipe_zoo import Probe

if TYPE_CHECKING:
    from hubmerge.recipe import Recipe
    from zoo_index.reference import ModelRef

__all__ = ["FACTORS", "Choose", "MalParameters", "MalStages", "mal_stages_of"]

FACTORS = tuple(i / 20 for i in range(11))
"""0, .05, .1, ..., .5: what shares of a donor are tried, unless others are given."""

Choose = Literal["largest", "best"]


class MalParameters(Parameters):
    tau: float = Field(
        0.1, ge=0, description="the largest drift of a layer's output, over its size, against the base's"
    )
    eps: float = Field(
        0.05, ge=0, description="with a probe, by how much the loss may exceed the control's: 0.05 is 5 %"
    )
    rounds: int = Field(1, ge=1, description="how often all donors and layers have their turn")
    choose: Choose = Field(
        "largest",
        description="which share is taken: the largest that is allowed, or, with a probe, that of the lowest loss (best)",
    )
    factors: tuple[float, ...] = Field(FACTORS, description="the donor's shares that are tried, from 0 to 1")
    min_cka: float = Field(0.0, ge=0, le=1, description="layers less alike than this are not paired")


@dataclass(frozen=True)
class MalStages:
    """A recipe for `mal` with every choice made.

    base: the model that stays what it is.  min_similarity, without: of the matching of units.  calibration: None for noise.  probe: None
    where drift alone decides.
    """

    base: ModelRef
    parameters: MalParameters
    min_similarity: float
    without: tuple[str, ...]
    calibration: Calibration | None
    probe: Probe | None

    @property
    def tried(self) -> tuple[float, ...]:
        """The shares above 0, the largest first."""
        return tuple(sorted({factor for factor in self.parameters.factors if factor > 0}, reverse=True))

    @property
    def choices(self) -> dict[str, Any]:
        """How layers and units are paired and shares are chosen, as plain values."""
        own = self.parameters.model_dump(mode="json")
        return {**own, "min_similarity": self.min_similarity, "without": list(self.without)}


def mal_stages_of(recipe: Recipe) -> MalStages:
    """The choices of a recipe for `mal`, which is known to be right."""
    assert recipe.base_model is not None
    known = {name: value for name, value in recipe.parameters.items() if name in MalParameters.model_fields}
    return MalStages(
        recipe.base_model,
        MalParameters.model_validate({name: value for name, value in known.items() if value is not None}),
        recipe.align.min_similarity if recipe.align else 0.0,
        recipe.align.without if recipe.align else (),
        recipe.calibration,
        recipe.probe,
    )
