"""What is wrong with a recipe that merges LoRA adapters, as far as it shows without them; and which method it means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from hubmerge.adapter_words import COMBINATIONS, Combination, is_thinned
from hubmerge.assemblies import assembly_of
from hubmerge.errors import RecipeError, shown
from hubmerge.method import MergeMethod, method_names, parameter_values
from hubmerge.sections import read_sections
from hubmerge.stages import method_of
from hubmerge.transport_checks import misplaced_bases
from hubmerge.wrapper_checks import misplaced_data, wrapper_faults
from zoo_index.errors import HubmergeError

if TYPE_CHECKING:
    from hubmerge.recipe import Recipe

__all__ = [
    "adapter_faults",
    "adapter_method",
    "is_for_adapters",
    "method_fault",
    "misplaced_adapter_words",
    "needs_no_basis",
    "refuse_assembly",
    "written_adapter_faults",
]

_NOT_MODELS = "remove it: adapters are merged module by module, and the base stays as it is"
_REFUSED = {
    "slices": "list adapters under models",
    "modules": "list adapters under models",
    **dict.fromkeys(("align", "fit", "labels", "zoo", "probe"), _NOT_MODELS),
    "calibration": "remove it; sens_merging and adamerging take it under each of models",
    "tokenizer_source": "remove it: the tokenizer is the base model's",
    "tokenizer": "remove it: the tokenizer is the base model's",
}
"""Keys that mean nothing where adapters are merged, and what to do instead."""
_OF_MODELS = {
    **dict.fromkeys(("dtype", "out_dtype"), "remove it: an adapter's factors are written in float32"),
    "chat_template": "remove it: an adapter is used with its base model's tokenizer",
}
"""Keys that mean something only where the result is a model."""
_OTHERWISE = "add output: {kind: adapter}, or basis: knots, core or none for a model"


def is_for_adapters(raw: Mapping[str, Any]) -> bool:
    """Whether a recipe merges adapters as adapters; `raw` may be wrong in any way."""
    output = raw.get("output")
    return raw.get("basis") is not None or (isinstance(output, Mapping) and output.get("kind") == "adapter")


def adapter_method(recipe: Any) -> MergeMethod | Combination:
    """What merges the adapters of a recipe: a method in its basis, or one of PEFT's combinations without one.

    recipe: a `Recipe`, or the mapping it is read from.  Raises `RecipeError` for a name nobody knows, a method that is not on deltas, and one
    that needs a basis.
    """
    name, sparsify, combine, basis = (_get(recipe, key) for key in ("merge_method", "sparsify", "combine", "basis"))
    refuse_assembly(name, "merge_method")
    if basis in {"knots", "core"} or needs_no_basis(name, _get(recipe, "parameters")):
        method = method_of(name, sparsify, combine, _get(recipe, "parameters"))
        fault = method_fault(method, "merge_method")
        if fault is not None:
            raise fault
        return method
    if name in COMBINATIONS and sparsify is None and combine is None:
        return Combination(name)
    if name is not None and name not in method_names() and combine is None:
        near = get_close_matches(name, [*COMBINATIONS, *method_names()], n=1, cutoff=0.0)[0]
        raise RecipeError(f"there is no method {shown(name)}", where="merge_method", hint=f"the nearest name is {near}")
    if name is not None and sparsify is None and combine is None:  # some methods work in no basis
        fault = method_fault(method_of(name, None, None, _get(recipe, "parameters")), "merge_method")
        if fault is not None:
            raise fault
    what = name if name is not None and sparsify is None else "a method of stages"
    raise RecipeError(
        f"{what} merges adapters in a basis that they share, and none is named",
        where="basis",
        hint="write basis: knots or basis: core",
    )


def refuse_assembly(name: Any, where: str) -> None:
    """Raise `RecipeError` for a method that puts whole models together; anything else may be wrong with its name."""
    if assembly_of(name) is not None:
        raise RecipeError(
            f"{name} puts whole models together, and merges no adapters",
            where=where,
            hint="take a method on deltas: task_arithmetic, ties, dare_ties",
        )


def needs_no_basis(name: Any, parameters: Any) -> bool:
    """Whether a method adds changes up, which is the same in every basis; anything may be wrong with name and parameters."""
    if name not in method_names():
        return False
    try:
        return method_of(name, None, None, parameters).inner == "task_arithmetic"
    except RecipeError:
        return False


def method_fault(method: MergeMethod, where: str) -> RecipeError | None:
    """What is wrong with merging adapters by a method; None where it works in a basis."""
    if method.base != "start" and method.parents[1] != 1:
        return None
    return RecipeError(
        f"{method.name} starts from one of its models, and adapters are changes of one base",
        where=where,
        hint="take a method on deltas: task_arithmetic, ties, dare_ties",
    )


def misplaced_adapter_words(raw: Mapping[str, Any]) -> list[RecipeError]:
    """A fault for what only adapters have, in a recipe that merges models; `raw` may be wrong in any other way."""
    name, output = raw.get("merge_method"), raw.get("output")
    faults = []
    if isinstance(name, str) and name in COMBINATIONS and name not in method_names():
        faults.append(RecipeError(f"{name} combines LoRA adapters", where="merge_method", hint=_OTHERWISE))
    if raw.get("missing") is not None:
        text = "missing says what a module means that an adapter leaves alone, and the recipe merges models"
        faults.append(RecipeError(text, where="missing", hint=f"remove it, or {_OTHERWISE}"))
    if raw.get("other_bases") is not None:
        text = "other_bases is of adapters that are merged as adapters, and the recipe merges models"
        faults.append(RecipeError(text, where="other_bases", hint=f"remove it, or {_OTHERWISE}"))
    if isinstance(output, Mapping) and output.get("rank") is not None:
        faults.append(_RANK_OF_A_MODEL)
    return faults


_RANK_OF_A_MODEL = RecipeError(
    "rank is of an adapter, and the result is a model", where="output.rank", hint="remove it, or write kind: adapter"
)


def written_adapter_faults(raw: Mapping[str, Any]) -> list[HubmergeError]:
    """Faults of the keys, the method and all parameters; `raw` may be wrong in any other way."""
    output = raw.get("output")
    dense = not (isinstance(output, Mapping) and output.get("kind") == "adapter")
    refused = _REFUSED if dense else {**_REFUSED, **_OF_MODELS}
    faults: list[HubmergeError] = [
        RecipeError(f"a recipe for adapters takes no {key}", where=key, hint=hint)
        for key, hint in refused.items()
        if raw.get(key) not in (None, [], {})
    ]
    faults += misplaced_bases(raw, "adapters")
    if dense and isinstance(output, Mapping) and output.get("rank") is not None:
        faults.append(_RANK_OF_A_MODEL)
    names = [raw.get(key) for key in ("merge_method", "sparsify", "combine", "basis")]
    if any(name is not None and not isinstance(name, str) for name in names):
        return faults
    try:
        method = adapter_method(raw)
    except RecipeError as fault:
        return [*faults, fault]
    wrapper = method.wrapper if isinstance(method, MergeMethod) else None
    takes = wrapper is not None and wrapper.needs_data
    faults += misplaced_data(raw, f"a merge of adapters by {method.name}", takes=takes)
    if isinstance(method, MergeMethod):
        told = {fault.where for fault in faults}
        faults += [fault for fault in wrapper_faults(method, raw) if fault.where not in told]
    return [*faults, *read_sections(method, {**raw, "slices": None, "modules": None}).faults]


def adapter_faults(recipe: Recipe) -> list[HubmergeError]:
    """Faults in the choice of adapters and in their values, in a recipe whose parts are right one by one."""
    if not recipe.models or recipe.slices or recipe.modules:  # told already
        return []
    listed = [entry.model for entry in recipe.models]
    twice = dict.fromkeys(model for model in listed if listed.count(model) > 1)
    faults: list[HubmergeError] = [
        RecipeError(f"{model} is listed twice", where="models", hint="list each adapter once, with its weight")
        for model in twice
    ]
    faults += [
        RecipeError(
            f"{model} is a base with an adapter, and the recipe merges adapters",
            where=f"models[{i}].model",
            hint=f"write model: {model.adapter}; the base is base_model",
        )
        for i, model in enumerate(listed)
        if model.adapter is not None
    ]
    if recipe.base_model in listed:
        text = f"base_model {recipe.base_model} is among the adapters"
        faults.append(
            RecipeError(text, where="base_model", hint="name the model that they were trained on, or leave it out")
        )
    return faults or [*_count_faults(recipe, len(listed)), *_value_faults(recipe)]


def _count_faults(recipe: Recipe, count: int) -> list[HubmergeError]:
    fewest, most = adapter_method(recipe).parents
    if fewest <= count and (most is None or count <= most):
        return []
    wanted = str(fewest) if fewest == most else f"at least {fewest}" if count < fewest else f"at most {most}"
    text = f"{adapter_method(recipe).name} takes {wanted} adapters; the recipe has {count}"
    return [RecipeError(text, where="models", hint=f"given: {', '.join(str(entry.model) for entry in recipe.models)}")]


def _value_faults(recipe: Recipe) -> Iterator[HubmergeError]:
    """Faults of values that do not go together or are not the same in all modules, where they have to be."""
    method, (section,) = adapter_method(recipe), recipe.sections
    if section.scopes.has_gradient:
        yield RecipeError(
            "adapters have no depth for a gradient to run over",
            where="parameters",
            hint='choose by module: [{filter: "layers.0.", value: 0.5}, {value: 1}]',
        )
        return
    if isinstance(method, Combination):
        if not section.scopes.is_constant:
            yield RecipeError(
                f"{method.name} has one value for all modules, no filters",
                where="parameters",
                hint="filters work in a basis: basis: knots or basis: core",
            )
        elif is_thinned(method.name) and not section.scopes.speaks_for_all("density"):
            yield RecipeError(
                f"{method.name} needs density, the share of entries it keeps",
                where="parameters.density",
                hint="write parameters: {density: 0.2}",
            )
        return
    if method.check is not None and section.scopes.is_constant:
        rows = [section.scopes.resolve(method, model, "", 0.0) for model in section.models]
        try:
            method.check(parameter_values(method, rows))
        except RecipeError as fault:
            yield fault


def _get(part: Any, name: str) -> Any:
    return part.get(name) if isinstance(part, Mapping) else getattr(part, name)
