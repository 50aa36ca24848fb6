"""What is wrong with `align` in the recipe of a method that merges tensor by tensor, as far as it shows without the models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hubmerge.errors import RecipeError
from zoo_index.reference import ModelRef

if TYPE_CHECKING:
    from hubmerge.recipe import Recipe

__all__ = ["aligned_models", "alignment_faults", "alignment_method", "order_of"]

_READ = frozenset({"method", "widths", "min_similarity", "without"})
"""What of `align` is read here; the rest says how a merge becomes wider."""
_OF_MERGES = ("balanced", "zip", "optimal_transport")
"""Ways to match that merges of unlike models alone have."""
_WHOLE = "merge whole models into one first, and take layers of that"


def alignment_method(recipe: Recipe) -> str:
    """What units are matched by: `align.method`, where it is silent the weights, which take no data."""
    return (recipe.align and recipe.align.method) or "weights"


def order_of(recipe: Recipe) -> ModelRef:
    """The model whose order of units all others are brought into."""
    return recipe.base_model or recipe.references[0]


def aligned_models(recipe: Recipe) -> tuple[ModelRef, ...]:
    """The models that are brought into that order; none without `align`, and for an assembly, which aligns in its own way."""
    if recipe.align is None or recipe.assembly is not None:
        return ()
    return tuple(model for model in recipe.references if model != order_of(recipe))


def alignment_faults(recipe: Recipe) -> list[RecipeError]:
    """Faults of `align` and of what it does not go with; the parts of the recipe are right one by one."""
    if recipe.align is None:
        return []
    faults = [
        RecipeError(f"align matches the units of whole models, and {key} takes layers of them", where=key, hint=_WHOLE)
        for key in ("slices", "modules")
        if getattr(recipe, key)
    ]
    return faults or [*_method_faults(recipe), *_key_faults(recipe)]


def _method_faults(recipe: Recipe) -> list[RecipeError]:
    method = alignment_method(recipe)
    faults = []
    if method == "identity":
        message = "identity leaves all units as they stand, as a recipe without align does"
        faults.append(RecipeError(message, where="align", hint="remove align, or write align: weights"))
    if method in _OF_MERGES:
        message = f"units are brought into one order by pairs, and align: {method} is for methods that put unlike models together"
        hint = "write align: weights or align: activations, or merge_method: pleas"
        faults.append(RecipeError(message, where="align", hint=hint))
    if method == "activations" and recipe.calibration is None:
        hint = "add calibration: with a dataset, a file or a folder; align: weights needs none"
        message = "units are matched by their activations, which needs data"
        faults.append(RecipeError(message, where="calibration", hint=hint))
    if not aligned_models(recipe):
        message = f"there is no model to bring into the order of {order_of(recipe)}"
        faults.append(RecipeError(message, where="align", hint="list another model, or remove align"))
    return faults


def _key_faults(recipe: Recipe) -> list[RecipeError]:
    assert recipe.align is not None
    asked = recipe.align.model_fields_set
    name = recipe.merge_method or recipe.combine
    unlike = "remove it, or write merge_method: pleas"
    faults = [
        RecipeError(f"{key} is for methods that put unlike models together, which {name} does not",
                    where=f"align.{key}", hint=unlike)
        for key in sorted(asked - _READ)
        if getattr(recipe.align, key) is not None
    ]  # fmt: skip
    if recipe.align.widths == "union":
        message = f"widths: union makes layers wider, and {name} writes the base model's shapes"
        hint = "write widths: base or fold, or merge_method: pleas, which makes them wider"
        faults.append(RecipeError(message, where="align.widths", hint=hint))
    if "min_similarity" in asked and alignment_method(recipe) == "weights":
        message = "min_similarity is of pairs of units, and weights say only of a whole group how alike it is"
        hint = "remove it, or write method: activations"
        faults.append(RecipeError(message, where="align.min_similarity", hint=hint))
    return faults
