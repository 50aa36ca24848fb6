"""All choices of a recipe for an assembly: what it says, and the assembly's own where it is silent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hubmerge.align_choices import BALANCE, REGULARISATION, is_matched_on_data
from hubmerge.recipe_calibration import Calibration
from hubmerge.recipe_stages import AlignMethod, BudgetPolicy, FitFollow, FitInputs, FitMethod, Labels, Residual, Widths

if TYPE_CHECKING:
    from hubmerge.assemblies import Assembly
    from hubmerge.recipe import Recipe
    from zoo_index.reference import ModelRef

__all__ = ["AssemblyStages", "stages_of"]

_NON_DIAGONAL = 0.9
"""What RegMean multiplies products of two different inputs with, where a recipe is silent."""


@dataclass(frozen=True)
class AssemblyStages:
    """The stages of one assembly with every choice made.

    budget, ratio: at most one is given, both None for the base model's widths or where `min_similarity` alone decides.
    labels: None leaves it to the models' label names.  weights: one for each of the recipe's models, in their order; 0
    or more, not all 0, unless deltas are carried.  bases: then of each of them what it was trained from.
    policy: how a budget is spent.  residual: None for the assembly's own way.  balance, regularisation: of the methods of matching that
    have one, None for the others.
    """

    align: AlignMethod
    widths: Widths
    budget: float | None
    ratio: float | None
    min_similarity: float
    without: tuple[str, ...]
    fit: FitMethod
    inputs: FitInputs
    ridge: float | Literal["auto"]
    follow: FitFollow
    calibration: Calibration | None
    labels: Labels | None
    base: ModelRef
    weights: tuple[float, ...]
    bases: tuple[ModelRef, ...] = ()
    residual: Residual | None = None
    balance: float | None = None
    regularisation: float | None = None
    non_diagonal: float = _NON_DIAGONAL
    policy: BudgetPolicy = "uniform"

    @property
    def needs_data(self) -> bool:
        """Whether it cannot be done without calibration data."""
        return is_matched_on_data(self.align) or self.fit != "none"


def stages_of(assembly: Assembly, recipe: Recipe) -> AssemblyStages:
    """The stages of a recipe for `assembly`: what it says, and the assembly's own where it is silent."""
    align, fit = recipe.align, recipe.fit
    method: AlignMethod = (align and align.method) or assembly.align
    (section,) = recipe.sections
    values = [section.scopes.resolve(assembly, model, "", 0.0) for model in section.models]
    return AssemblyStages(
        align=method,
        widths=(align and align.widths) or assembly.widths,
        budget=align.budget if align else None,
        ratio=align.ratio if align else None,
        min_similarity=align.min_similarity if align else 0.0,
        without=align.without if align else (),
        fit=(fit and fit.method) or assembly.fit,
        inputs=(fit and fit.inputs) or assembly.inputs,
        ridge=(fit and fit.ridge) or assembly.ridge,
        follow=(fit and fit.follow) or assembly.follow,
        calibration=recipe.calibration,
        labels=recipe.labels,
        base=recipe.base_model or section.models[0],
        weights=tuple(float(row.get("weight", 1.0)) for row in values),
        bases=tuple(entry.base for entry in recipe.models if entry.base is not None) if assembly.carries else (),
        residual=align.residual if align else None,
        balance=_said(recipe, "balance", BALANCE if method == "balanced" else None),
        regularisation=_said(recipe, "regularisation", REGULARISATION if method == "optimal_transport" else None),
        non_diagonal=fit.non_diagonal if fit and fit.non_diagonal is not None else _NON_DIAGONAL,
        policy=(align and align.policy) or "uniform",
    )


def _said(recipe: Recipe, key: str, default: float | None) -> float | None:
    """A number under align, or `default` where there is none."""
    value: float | None = getattr(recipe.align, key, None)
    return default if value is None else value
