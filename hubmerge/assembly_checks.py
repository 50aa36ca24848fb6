"""What is wrong with a recipe for an assembly of unlike models, as far as it shows without the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_origin

from hubmerge.align_choices import is_matched_on_data, misfits
from hubmerge.assemblies import ASSEMBLIES, Assembly
from hubmerge.assembly_stages import AssemblyStages, stages_of
from hubmerge.errors import RecipeError
from hubmerge.mal_checks import mal_faults, mal_value_faults
from hubmerge.sections import read_sections
from hubmerge.transport_checks import carrying_faults, carrying_keys, misplaced_bases
from zoo_index.errors import HubmergeError

if TYPE_CHECKING:
    from hubmerge.recipe import Recipe

__all__ = ["ASSEMBLY_KEYS", "assembly_faults", "misplaced_keys", "written_faults"]

ASSEMBLY_KEYS = tuple(dict.fromkeys(key for assembly in ASSEMBLIES.values() for key in assembly.keys))
"""Keys of a recipe that assemblies read."""
_OF_ALIGNMENTS = ("align", "calibration")
"""Those that a method on tensors reads as well, with `align` among them."""

_BASE_IS_KEPT = "the merge has that of base_model, by default the first model's"
_REFUSED = {
    "slices": "list whole models under models: their layers are matched, not stacked",
    "modules": "list whole models under models",
    "sparsify": "remove it: there are no deltas from a common ancestor to thin",
    "combine": "remove it: merge_method says already how models become one",
    "tokenizer_source": f"remove it: {_BASE_IS_KEPT}",
    "tokenizer": f"remove it: {_BASE_IS_KEPT}",
    "chat_template": f"remove it: {_BASE_IS_KEPT}",
}
"""Keys that mean nothing to an assembly, and what to do instead."""
_REFUSED_OF = {
    "fit": "remove it: layers are mixed, and none is fitted",
    "labels": "remove it: the merge has the base model's head",
    "zoo": "list the models under models, or write merge_method: mal",
    "probe": "remove it: nothing is measured while it merges; `hubmerge evaluate` does afterwards",
}
"""Keys that only some assemblies read, and what to do under the others."""


def misplaced_keys(raw: Mapping[str, Any]) -> list[RecipeError]:
    """A fault for each of `ASSEMBLY_KEYS` in the recipe of a method that merges tensor by tensor, but for an alignment's."""
    method = raw.get("merge_method") or raw.get("combine")
    aligns = raw.get("align") is not None
    return misplaced_bases(raw, str(method)) + [
        RecipeError(
            f"{key} is for methods that put unlike models together, which {method} does not",
            where=key,
            hint=f"remove it, {'add align: activations, ' if key in _OF_ALIGNMENTS else ''}or write merge_method: {_readers(key)}",
        )
        for key in ASSEMBLY_KEYS
        if raw.get(key) is not None and not (aligns and key in _OF_ALIGNMENTS)
    ]


def _readers(key: str) -> str:
    """The assemblies that read a key."""
    return " or ".join(name for name, assembly in ASSEMBLIES.items() if key in assembly.keys)


def written_faults(assembly: Assembly, raw: Mapping[str, Any]) -> list[HubmergeError]:
    """Faults of the keys and parameters of a recipe for `assembly`; `raw` may be wrong in any other way."""
    others = {key: hint for key, hint in _REFUSED_OF.items() if key not in assembly.keys}
    refused = [
        *([] if assembly.carries else misplaced_bases(raw, assembly.name)),
        *(carrying_keys(assembly, raw) if assembly.carries else ()),
    ]
    refused += [
        RecipeError(f"{assembly.name} takes no {key}", where=key, hint=hint)
        for key, hint in {**_REFUSED, **others}.items()
        if raw.get(key) not in (None, [], {})
    ]
    lists, own = _lists(assembly), raw.get("parameters")
    single = {name: value for name, value in own.items() if name not in lists} if isinstance(own, Mapping) else own
    faults = read_sections(assembly, {**raw, "slices": None, "modules": None, "parameters": single}).faults
    told = [*refused, *faults, *(fault for place, own in _scopes(raw) for fault in _varying(assembly, place, own))]
    return [*told, *(mal_value_faults(raw) if assembly.takes == "layers" else [])]


def _lists(assembly: Assembly) -> frozenset[str]:
    """The parameters of which one value is a list."""
    fields = assembly.parameters.model_fields
    return frozenset(
        assembly.parameters.alias(name) for name, info in fields.items() if get_origin(info.annotation) is tuple
    )


def _scopes(raw: Mapping[str, Any]) -> list[tuple[str, Any]]:
    models = raw.get("models")
    listed = models if isinstance(models, list | tuple) else ()
    own = [
        (f"models[{i}].parameters", row.get("parameters")) for i, row in enumerate(listed) if isinstance(row, Mapping)
    ]
    return [*own, ("parameters", raw.get("parameters"))]


def _varying(assembly: Assembly, place: str, own: Any) -> list[RecipeError]:
    """Values that differ from tensor to tensor: a unit is merged in all tensors alike."""
    if not isinstance(own, Mapping):
        return []
    known = {assembly.parameters.alias(field) for field in assembly.parameters.model_fields} - _lists(assembly)
    return [
        RecipeError(
            f"{name} is one number for a whole model under {assembly.name}, neither gradient nor filters",
            where=f"{place}.{name}",
            hint=f"write {name}: 0.5",
        )
        for name, value in own.items()
        if name in known and isinstance(value, list | tuple | Mapping) and value
    ]


def assembly_faults(assembly: Assembly, recipe: Recipe) -> list[HubmergeError]:
    """Faults in the models and stages of a recipe whose parts are right one by one."""
    if assembly.takes == "layers":
        return mal_faults(recipe)
    if not recipe.models or recipe.slices or recipe.modules:  # told already
        return []
    models = tuple(entry.model for entry in recipe.models)
    twice = dict.fromkeys(model for model in models if models.count(model) > 1)
    faults: list[HubmergeError] = [
        RecipeError(f"{model} is listed twice", where="models", hint="list each model once, with its weight")
        for model in twice
    ]
    if not twice and len(models) < assembly.parents[0]:
        message = f"{assembly.name} takes at least {assembly.parents[0]} models; the recipe has {len(models)}"
        faults.append(RecipeError(message, where="models", hint=f"given: {', '.join(map(str, models))}"))
    if assembly.carries:
        return [
            *faults,
            *carrying_faults(assembly, recipe),
            *_stage_faults(assembly, stages_of(assembly, recipe), recipe),
        ]
    if recipe.base_model is not None and recipe.base_model not in models:
        hint = "list it under models, or leave base_model out: then it is the first model"
        message = f"base_model {recipe.base_model} is not among the models"
        faults.append(RecipeError(message, where="base_model", hint=hint))
    return faults + _stage_faults(assembly, stages_of(assembly, recipe), recipe)


def _stage_faults(assembly: Assembly, stages: AssemblyStages, recipe: Recipe) -> list[HubmergeError]:
    faults: list[HubmergeError] = []
    if not assembly.carries and not any(stages.weights) and recipe.sections[0].scopes.is_constant:
        faults.append(RecipeError("all weights are 0", where="parameters.weight", hint="give one model at least 1"))
    if stages.residual == "activations" and not is_matched_on_data(stages.align):
        message = f"residual: activations matches the stream by activations, and align: {stages.align} has none"
        hint = "write residual: keep or residual: orthogonal"
        faults.append(RecipeError(message, where="align.residual", hint=hint))
    faults += _width_faults(stages, recipe)
    faults += [
        RecipeError(fault.message, where=f"align.{fault.key}", hint=fault.hint)
        for fault in misfits(
            stages.align,
            stages.widths,
            min_similarity=stages.min_similarity,
            balance=stages.balance,
            regularisation=stages.regularisation,
        )
    ]
    if stages.fit == "none" and recipe.fit is not None:
        faults += [
            RecipeError(f"{name} is of no use where nothing is fitted", where=f"fit.{name}", hint="remove it")
            for name in ("inputs", "ridge", "follow", "non_diagonal")
            if getattr(recipe.fit, name) is not None
        ]
    if recipe.fit is not None and stages.fit != "none":
        odd = {"regmean": "inputs", "least_squares": "non_diagonal"}[stages.fit]
        if getattr(recipe.fit, odd) is not None:
            hint = "remove it, or write method: least_squares" if odd == "inputs" else "write method: regmean beside it"
            faults.append(RecipeError(f"{odd} is of no use to {stages.fit}", where=f"fit.{odd}", hint=hint))
    if stages.needs_data and stages.calibration is None:
        uses = {"matches units by their activations": is_matched_on_data(stages.align)}
        uses["fits layers to what the parents compute"] = stages.fit != "none"
        what = " and ".join(use for use, is_used in uses.items() if is_used)
        without = "align: weights" if assembly.fit == "none" else "align: weights with fit: none"
        hint = f"add calibration: with a dataset, a file or a folder; {without} needs none"
        faults.append(RecipeError(f"{assembly.name} {what}, which needs data", where="calibration", hint=hint))
    return faults


def _width_faults(stages: AssemblyStages, recipe: Recipe) -> list[HubmergeError]:
    """Choices of how wide the merge is that do not go together."""
    faults: list[HubmergeError] = []
    if stages.budget is not None and stages.ratio is not None:
        message = "budget and ratio both say how many units stay separate"
        faults.append(RecipeError(message, where="align.ratio", hint="keep one of them"))
    wider = next((name for name in ("budget", "ratio") if getattr(stages, name) is not None), None)
    if wider is not None and stages.widths != "union":
        message = f"{wider} says how much wider the merge may be, and widths: {stages.widths} makes nothing wider"
        faults.append(RecipeError(message, where=f"align.{wider}", hint="add widths: union, or remove it"))
    if recipe.align is not None and recipe.align.policy is not None and stages.budget is None and not stages.bases:
        message = "policy says how a budget is spent, and there is none"
        faults.append(RecipeError(message, where="align.policy", hint="add budget, or remove it"))
    elif stages.policy == "greedy" and stages.align == "identity":
        message = "policy: greedy goes by how alike units are, and align: identity compares none"
        faults.append(RecipeError(message, where="align.policy", hint="remove it, or write align: activations"))
    return faults
