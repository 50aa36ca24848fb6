"""The stages of an assembly as a recipe writes them: `align`, how parents come into one order, and `fit`, what is refitted.

Both may be written as a word, the stage's method.  What is left out is the assembly's own (`hubmerge.assemblies`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from hubmerge.errors import RecipeError, shown
from hubmerge.recipe_parts import Part

__all__ = [
    "Align",
    "AlignKey",
    "AlignMethod",
    "Fit",
    "FitFollow",
    "FitInputs",
    "FitKey",
    "FitMethod",
    "Labels",
    "Residual",
    "Ridge",
    "Widths",
]

AlignMethod = Literal["activations", "weights", "balanced", "zip", "optimal_transport", "identity"]
Widths = Literal["base", "union", "fold"]
BudgetPolicy = Literal["uniform", "greedy"]
FitMethod = Literal["least_squares", "regmean", "none"]
FitInputs = Literal["auto", "merged", "parents"]
FitFollow = Literal["confident", "all"]
Labels = Literal["shared", "disjoint", "none"]
Residual = Literal["keep", "activations", "orthogonal"]
"""What becomes of a residual stream under a norm: it keeps its order; it is matched like other units; or it is turned, by weights."""


class _Refused(RecipeError, ValueError):
    """A fault with a hint of its own, in the form that a validator may raise."""


def _ridge(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value == "auto" or (is_number and 0 < value < float("inf")):
        return value
    raise ValueError(f"ridge must be a number above 0, or auto, got {shown(value)}")


Ridge = Annotated[
    float | Literal["auto"],
    BeforeValidator(_ridge, json_schema_input_type=Annotated[float, Field(gt=0)] | Literal["auto"]),
]


class Align(Part):
    """How the units of every parent are brought into the order of the base model's, and which stay separate."""

    method: AlignMethod | None = Field(
        None,
        description="how units are matched: by activations (on the calibration data), weights, both (balanced), zip (contracted, the "
        "most alike first, within a model too), optimal_transport (in part, many to many), or identity (as they stand); before a method "
        "on tensors weights or activations; default: that of merge_method, weights before a method on tensors",
    )
    widths: Widths | None = Field(
        None,
        description="base: as wide as the base model, units without a partner are left out; fold: as wide, and they join the most "
        "similar one or are copied; union: pairs too unlike stay separate, which makes layers wider; before a method on tensors base or "
        "fold; default: that of merge_method, base before a method on tensors",
    )
    budget: float | None = Field(
        None,
        ge=1,
        strict=True,
        allow_inf_nan=False,
        description="with union, what the merge may cost: its multiplications and additions, written dense, over the base model's",
    )
    policy: BudgetPolicy | None = Field(
        None,
        description="with budget, how it is spent: uniform, the same share of every group's units stays separate; greedy, units of those "
        "groups whose pairs are least alike for what they cost, which is known when units are matched; default uniform",
    )
    ratio: float | None = Field(
        None,
        ge=0,
        le=1,
        strict=True,
        description="with union, instead of budget: the share of each group's units that stay separate",
    )
    min_similarity: float = Field(
        0.0,
        ge=-1,
        le=1,
        strict=True,
        description="pairs less alike than this are not merged; before a method on tensors, with activations, the unit is the base's own",
    )
    balance: float | None = Field(
        None, ge=0, le=1, strict=True, description="with balanced, the share of weights in the similarity; default 0.5"
    )
    regularisation: float | None = Field(
        None,
        ge=0,
        strict=True,
        allow_inf_nan=False,
        description="with optimal_transport, how strongly units are spread over several, in units of a correlation; 0 for the exact "
        "plan; default 0.03",
    )
    without: tuple[str, ...] = Field(
        (), description="groups whose units keep the order they have; `hubmerge symmetry show` lists the groups"
    )
    residual: Residual | None = Field(
        None,
        description="pleas, transport: a residual stream under a norm: keep its order; match it by activations like other units; or "
        "orthogonal, turn it as a whole, by the weights; default: it is turned between strangers where that can be done, and kept otherwise",
    )


class Fit(Part):
    """Whether the merged layers are fitted to what the parents' layers compute."""

    method: FitMethod | None = Field(
        None,
        description="least_squares, to what the parents compute; regmean, the weights that come nearest to each parent's on its own "
        "inputs; or none; default: that of merge_method",
    )
    inputs: FitInputs | None = Field(
        None,
        description="what a layer is fitted on: its inputs in the merged model, or the parents' averaged; auto: in the merged "
        "model, held at what the parents' give, the more so the less data there is; default: that of merge_method",
    )
    ridge: Ridge | None = Field(
        None,
        description="how strongly a layer is held at its merged weights, in units of the mean square of its inputs, or auto; "
        "default: that of merge_method",
    )
    follow: FitFollow | None = Field(
        None,
        description="which parents a layer of the merged model is fitted to: confident, on every sample those that are sure of "
        "their answer; all, by their weights; default: that of merge_method",
    )
    non_diagonal: float | None = Field(
        None,
        ge=0,
        le=1,
        strict=True,
        description="of regmean: what products of two different inputs are multiplied with, its paper's alpha; default 0.9",
    )


def _word_or_mapping(key: str, word: Any, part: Any) -> BeforeValidator:
    """Reads ``key: word`` as ``key: {method: word}``; word: the words there are, as a `Literal`; part: the mapping."""
    words = get_args(word)

    def read(value: Any) -> Any:
        if isinstance(value, str):
            if value not in words:
                known = f"{', '.join(words[:-1])} or {words[-1]}"
                raise _Refused(f"{key} must be {known}, got {shown(value)}", hint="see docs/recipe.md")
            return {"method": value}
        if value is None or isinstance(value, Mapping | Part):
            return value
        raise _Refused(f"{key} is a word or a mapping, got {shown(value)}", hint=f"write {key}: {words[0]}")

    return BeforeValidator(read, json_schema_input_type=word | part | None)


AlignKey = Annotated[Align | None, _word_or_mapping("align", AlignMethod, Align)]
FitKey = Annotated[Fit | None, _word_or_mapping("fit", FitMethod, Fit)]
