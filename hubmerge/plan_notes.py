"""What a careful person would want to know before a merge: warnings, which can be mended, and notes, which are facts."""

from __future__ import annotations

from collections.abc import Sequence

from hubmerge.methods.task_matrices import is_table
from hubmerge.parents import ParentModel
from hubmerge.placement import Placement
from hubmerge.recipe import Recipe
from hubmerge.steps import DraftStep
from hubmerge.tensor_faults import counted

__all__ = ["STATISTICS_ARE_AVERAGED", "notes_of", "warnings_of"]

STATISTICS_ARE_AVERAGED = (
    "running statistics (BatchNorm) are averaged, not merged; re-estimate them on training data if accuracy matters"
)
"""A note that an alignment, which says more of them, takes the place of."""

_TOLD_ELSEWHERE = {"alignment", "dtype", "tie_word_embeddings", "vocab_size", "num_labels"}
"""Fields of the config that other notes speak of, or that the shapes of the tensors decide."""
_DEPTHS = {"num_hidden_layers", "num_decoder_layers", "layer_types", "depths"}


def warnings_of(
    recipe: Recipe, models: Sequence[ParentModel], placement: Placement, drafts: Sequence[DraftStep], donor: int
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
    names = {name for row in placement.rows for name in (row.name, *row.names.values())}
    found += dict.fromkeys(
        f"parameters.{name}: {said}"
        for section in recipe.sections
        for name, setting in section.scopes.settings
        for said in setting.idle_filters(names, "tensor")
    )
    found += dict.fromkeys(
        f"{models[other].reference}: buffer {name!r} is left out, {models[lead].reference} does not have it"
        for lead, other, alone in placement.extras
        for name in alone
    )
    for i in dict.fromkeys(operand.parent for draft in drafts for operand in draft.operands):
        if i != donor:
            reasons = compare(models[donor].record, models[i].record).reasons
            pair = f"{models[donor].reference} and {models[i].reference}"
            # `hubmerge.tokenizer_plan` says how many ids of different tokenizers disagree, or brings them together
            told = [reason for reason in reasons if reason.severity == "warn" and reason.field != "tokenizer"]
            found += [f"{pair}: {reason.sentence}" for reason in told]
            if placement.layers:
                found += [f"{pair}: {sentence}" for sentence in _other_use(models[donor], models[i])]
    found += _other_kinds(models, placement)
    cautions = (recipe.method.caution(draft.values) for draft in drafts if draft.action == "merge")
    found += dict.fromkeys(text for text in cautions if text)
    beyond = [draft.values["t"] for draft in drafts if recipe.method.name == "slerp" and "t" in draft.values]
    if worst := max((t for t in beyond if not 0 <= t <= 1), key=abs, default=None):
        found.append(f"t reaches {worst:g}: outside 0 and 1 slerp goes beyond its two models")
    return found


def _other_config(models: Sequence[ParentModel], drafts: Sequence[DraftStep], donor: int) -> list[str]:
    """Fields in which the config that is written is one model's, where others have another value and nothing is wrong."""
    from zoo_index.compat import compare

    notes = []
    for i in dict.fromkeys(operand.parent for draft in drafts for operand in draft.operands):
        reasons = compare(models[donor].record, models[i].record).reasons if i != donor else ()
        told = (r for r in reasons if r.severity == "info" and r.field not in {*_TOLD_ELSEWHERE, *models[i].table})
        rows = ", ".join(f"{r.field} {r.right} for its {r.left}" for r in told if r.field not in models[donor].table)
        notes += [f"config.json is that of {models[donor].reference}; {models[i].reference} has {rows}"] if rows else []
    return notes


def _other_use(first: ParentModel, other: ParentModel) -> list[str]:
    """Fields that differ between models of different depths though the layers that are stacked have the same shapes."""
    from zoo_index.compat import compare, differing_fields

    told = {reason.field for reason in compare(first.record, other.record).reasons if reason.severity == "warn"}
    return [
        f"{row}: the tensors have the same shapes but are used in another way"
        for row in differing_fields(first.record, other.record)
        if row.hard and row.field not in _DEPTHS | told
    ]


def _other_kinds(models: Sequence[ParentModel], placement: Placement) -> list[str]:
    """Layers that are merged though the configs give them other kinds (``layer_types``)."""
    found = []
    for layers in placement.layers.values():
        for j, row in enumerate(layers):
            for other, layer in row.others:
                kinds = [models[i].config.get("layer_types") for i in (row.lead, other)]
                pair = [
                    k[n] for k, n in zip(kinds, (row.layer, layer), strict=True) if isinstance(k, list) and n < len(k)
                ]
                if len(pair) > 1 and pair[0] != pair[1]:
                    names = f"{models[row.lead].reference} and {models[other].reference}"
                    found.append(f"{names}: layer {j} of the output merges {pair[0]} with {pair[1]}")
    return found


def notes_of(
    recipe: Recipe, models: Sequence[ParentModel], placement: Placement, drafts: Sequence[DraftStep], donor: int
) -> list[str]:
    """What is done in a way that one might not expect."""
    notes = [*recipe.notes, *(note for model in models for note in model.notes)]
    notes += _other_config(models, drafts, donor)
    if any(section.scopes.has_gradient for section in recipe.sections):
        layers = "layer of each slice" if placement.layers else "layer"
        notes.append(
            f"gradients run from the first {layers} to the last; embeddings take the first value, final norm and head the last (mergekit: the first)"
        )
    notes += _tied_heads(models, placement) + _unused_layers(models, placement)
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
        mixed = {draft.dtype.torch_name for draft in drafts if draft.dtype.is_float and _mixes(draft)} or {wide}
        notes.append(
            f"parents are stored as {', '.join(kinds[:-1])} and {kinds[-1]}; tensors that mix them are written as "
            f"{' or '.join(sorted(mixed))}; set dtype to choose"
        )
    if "float64" in {*kinds, *(draft.dtype.torch_name for draft in drafts)}:
        notes.append("float64 tensors are computed in float32")
    if any(draft.action == "average" for draft in drafts):
        notes.append(STATISTICS_ARE_AVERAGED)
    left_out = [draft.name for draft in drafts if draft.values.get("svd") is False and len(draft.shape) == 2]
    tables = [name for name in left_out if is_table(name)]  # others were left out by the recipe
    if tables:
        notes.append(
            f"{counted(tables)}: no {recipe.method.name}, but the mean of the deltas, as embeddings, heads over the vocabulary and tables "
            "of positions have; parameter svd chooses otherwise"
        )
    return notes


def _mixes(draft: DraftStep) -> bool:
    """Whether the models store the tensor in different types."""
    return len({o.tensor.dtype for o in (*draft.operands, *([draft.base] if draft.base else []))}) > 1


def _tied_heads(models: Sequence[ParentModel], placement: Placement) -> list[str]:
    found = (
        f"{models[i].reference} ties its head to its embeddings: they stand for its {row.name}"
        for row in placement.rows
        for i, name in row.names.items()
        if row.name.endswith("head.weight") and name not in models[i].table
    )
    return list(dict.fromkeys(found))


def _unused_layers(models: Sequence[ParentModel], placement: Placement) -> list[str]:
    """Layers of the inputs that are in no slice, and so not in the output."""
    notes = []
    for layers in placement.layers.values():
        used: dict[int, set[int]] = {}
        for row in layers:
            for i, layer in ((row.lead, row.layer), *row.others):
                used.setdefault(i, set()).add(layer)
        for i, taken in used.items():
            places = (row.stack.split(name) for row in layers[:1] for name in models[i].table)
            left = sorted({place[0] for place in places if place is not None} - taken)
            if left:
                notes.append(f"{_runs(left)} of {models[i].reference} {'is' if len(left) == 1 else 'are'} in no slice")
    return notes


def _runs(numbers: Sequence[int]) -> str:
    """``layers 0, 3-5``."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    told = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
    return f"layer{'s' * (len(numbers) > 1)} {told}"
