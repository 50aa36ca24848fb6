"""What a careful person would want to know before a merge: warnings, which can be mended, and notes, which are facts."""

from __future__ import annotations

from collections.abc import Sequence

from hubmerge.parents import ParentModel
from hubmerge.recipe import Recipe
from hubmerge.steps import DraftStep

__all__ = ["notes_of", "warnings_of"]


def warnings_of(
    recipe: Recipe, models: Sequence[ParentModel], parents: Sequence[int], drafts: Sequence[DraftStep], donor: int
) -> list[str]:
    """What is likely to be a mistake in the recipe or in the choice of models; `--strict` makes errors of these."""
    from zoo_index.compat import compare

    found = list(recipe.warnings)
    found += dict.fromkeys(
        f"base_model {section.base} is not listed under models and is averaged in, as mergekit does"
        for section in recipe.sections
        if section.base_is_averaged_in(recipe.method)
    )
    found += [
        f"{m.reference} was moved on the Hub and is now {m.moved_to}; write that name" for m in models if m.moved_to
    ]
    names = [draft.name for draft in drafts]
    found += dict.fromkeys(
        f"parameters.{name}: filter {pattern!r} is part of no tensor's name"
        for section in recipe.sections
        for name, setting in section.scopes.settings
        for pattern in setting.filters
        if not any(pattern in tensor for tensor in names)
    )
    for i in dict.fromkeys(parents):
        if i != donor:
            alone = [name for name in models[i].table if name not in models[donor].table]
            found += [
                f"{models[i].reference}: buffer {name!r} is left out, {models[donor].reference} does not have it"
                for name in alone
            ]
            reasons = compare(models[donor].record, models[i].record).reasons
            pair = f"{models[donor].reference} and {models[i].reference}"
            found += [f"{pair}: {reason.sentence}" for reason in reasons if reason.severity == "warn"]
    return found


def notes_of(recipe: Recipe, drafts: Sequence[DraftStep]) -> list[str]:
    """What is done in a way that one might not expect."""
    notes: list[str] = []
    if any(section.scopes.has_gradient for section in recipe.sections):
        notes.append(
            "gradients run from the first layer to the last; embeddings take the first value, final norm and head the last (mergekit: the first)"
        )
    kinds = sorted(
        {
            operand.tensor.dtype.torch_name
            for draft in drafts
            for operand in (*draft.operands, *([draft.base] if draft.base else []))
            if draft.dtype.is_float
        }
    )
    if len(kinds) > 1 and not (recipe.dtype or recipe.out_dtype):
        wide = "float64" if "float64" in kinds else "float32"
        notes.append(
            f"parents are stored as {' and '.join(kinds)}; tensors that mix them are written as {wide}; set dtype to choose"
        )
    if "float64" in kinds:
        notes.append("float64 tensors are computed in float32")
    if any(draft.action == "average" for draft in drafts):
        notes.append(
            "running statistics (BatchNorm) are averaged, not merged; re-estimate them on training data if accuracy matters"
        )
    return notes
