"""What is wrong with a recipe beyond its spelling, as far as it shows without the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hubmerge.adapter_checks import adapter_faults, is_for_adapters, misplaced_adapter_words, written_adapter_faults
from hubmerge.alignment_checks import alignment_faults
from hubmerge.assemblies import assembly_of
from hubmerge.assembly_checks import assembly_faults, misplaced_keys, written_faults
from hubmerge.chat_template import template_fault
from hubmerge.errors import RecipeError
from hubmerge.method import MergeMethod, parameter_values
from hubmerge.sections import Section, forms_of, read_sections
from hubmerge.stages import method_of
from hubmerge.wrapper_checks import misplaced_data, wrapper_faults
from zoo_index.errors import HubmergeError

if TYPE_CHECKING:
    from hubmerge.recipe import Recipe

__all__ = ["form_faults", "method_faults", "model_faults", "value_faults"]


def form_faults(raw: Mapping[str, Any]) -> list[HubmergeError]:
    """Faults of what is merged: models, slices or modules, one of them; `raw` may be wrong in any other way."""
    forms = forms_of(raw)
    if not forms:
        if raw.get("zoo") is not None:  # the models come from a catalog; what else reads no zoo says so
            return []
        hint = "write one `- model: org/name` line for each"
        name = raw.get("merge_method")
        assembly = assembly_of(name) if isinstance(name, str) else None
        if assembly is not None and "zoo" in assembly.keys:
            hint += ", or find them in a catalog: zoo: {text: words}"
        return [RecipeError("no models are listed", where="models", hint=hint)]
    if len(forms) > 1:
        message = f"a recipe has either models, slices or modules; this one has {' and '.join(forms)}"
        return [RecipeError(message, where=forms[1], hint="keep one of them")]
    faults: list[HubmergeError] = []
    modules = raw.get("modules") or {}
    for name, module in modules.items() if isinstance(modules, Mapping) else ():
        inside = [form for form in forms_of(module) if form != "modules"]
        if isinstance(module, Mapping) and len(inside) != 1:
            has = "both" if inside else "neither"
            faults.append(
                RecipeError(
                    f"a module has either slices or models; this one has {has}",
                    where=f"modules.{name}",
                    hint="keep one of them" if inside else "write slices: or models: under it",
                )
            )
    return faults


def method_faults(raw: Mapping[str, Any]) -> list[HubmergeError]:
    """Faults of the method's name and of all parameters; tolerant of whatever else is wrong."""
    name, sparsify, combine = (raw.get(key) for key in ("merge_method", "sparsify", "combine"))
    if any(each is not None and not isinstance(each, str) for each in (name, sparsify, combine)):
        return []
    if is_for_adapters(raw):
        return written_adapter_faults(raw)
    misplaced = misplaced_adapter_words(raw)
    if any(fault.where == "merge_method" for fault in misplaced):
        return [*misplaced]
    assembly = assembly_of(name)
    if assembly is not None:
        return [*misplaced, *misplaced_data(raw, assembly.name), *written_faults(assembly, raw)]
    try:
        method = method_of(name, sparsify, combine, raw.get("parameters"))
    except RecipeError as fault:
        return [fault]
    takes = method.wrapper is not None and "calibration" in method.wrapper.takes
    misplaced += [
        fault for fault in misplaced_keys(raw) if method.wrapper is None or fault.where not in {"align", "calibration"}
    ]
    misplaced += misplaced_data(raw, method.name, takes=takes)
    return [*misplaced, *wrapper_faults(method, raw), *read_sections(method, raw).faults]


def model_faults(recipe: Recipe) -> list[HubmergeError]:
    """Faults in the number and choice of models and of the tokenizer; the method's name is known to be right."""
    if recipe.merges_adapters:
        return adapter_faults(recipe)
    if recipe.assembly is not None:
        return assembly_faults(recipe.assembly, recipe)
    faults: list[HubmergeError] = []
    for section in recipe.sections:
        found = [
            RecipeError(f"{model} is listed twice", where=section.where, hint="list each model once, with its weight")
            for model in dict.fromkeys(model for model in section.models if section.models.count(model) > 1)
        ]
        found += _base_faults(section, recipe.method) + _length_faults(section)
        faults += found or _count_faults(section, recipe.method)
    return [*faults, *_tokenizer_faults(recipe), *alignment_faults(recipe)]


def _tokenizer_faults(recipe: Recipe) -> list[HubmergeError]:
    """Faults of whose tokenizer is taken and of the chat template."""
    faults: list[HubmergeError] = []
    if recipe.tokenizer is not None and recipe.tokenizer_source is not None:
        hint = "keep tokenizer: {source: ...}"
        faults.append(RecipeError("tokenizer_source and tokenizer say the same twice", where="tokenizer", hint=hint))
    sources = {"tokenizer_source": recipe.tokenizer_source}
    sources["tokenizer.source"] = recipe.tokenizer.source if recipe.tokenizer else None
    known = {str(name) for reference in recipe.references for name in (reference, reference.model)}
    for where, source in sources.items():
        if source not in {None, "base", "union", *known}:
            hint = "write union, base, or one of " + ", ".join(map(str, recipe.references))
            faults.append(RecipeError(f"{source} is none of the models", where=where, hint=hint))
    template = template_fault(recipe.chat_template) if recipe.chat_template is not None else None
    return [*faults, template] if template else faults


def _base_faults(section: Section, method: MergeMethod) -> list[RecipeError]:
    base = section.base
    if base is None and method.base in {"required", "start"}:
        what = "starts from a base model" if method.base == "start" else "merges what parents learned on top of a base"
        hint = "add base_model: the model they were all trained from"
        if method.base == "required" and section.whole:
            hint += "; a recipe of LoRA adapters alone needs none, but basis: knots or core"
        return [RecipeError(f"{method.name} {what}, and none is named", where="base_model", hint=hint)]
    if base is None or base in section.models:
        return []
    if not section.whole and method.base != "none":
        layers = next(list(source.layers) for source in section.sources if source.layers is not None)
        return [
            RecipeError(
                f"base_model {base} is not among the sources",
                where=section.where,
                hint=f"add it with the layers to start from: {{model: {base}, layer_range: {layers}}}",
            )
        ]
    averages = section.whole and method.base == "none" and method.parents[1] != 1
    if averages and not section.base_is_averaged_in(method):
        return [
            RecipeError(
                f"base_model {base} is not among the models, and {method.name} averages all it is given",
                where="base_model",
                hint="list it under models with a weight, or remove base_model",
            )
        ]
    return []


def _length_faults(section: Section) -> list[RecipeError]:
    """A slice merges layer by layer, so that every source has to bring equally many."""
    lengths = {source.layers[1] - source.layers[0] for source in section.sources if source.layers is not None}
    if len(lengths) <= 1:
        return []
    told = [f"{s.layers[1] - s.layers[0]} of {s.model}" for s in section.sources if s.layers is not None]
    return [
        RecipeError(
            f"the sources bring different numbers of layers: {', '.join(told)}",
            where=section.where,
            hint="all layer_range of one slice have the same length",
        )
    ]


def _count_faults(section: Section, method: MergeMethod) -> list[RecipeError]:
    fewest, most = method.parents
    parents = section.parents(method)
    if fewest <= len(parents) and (most is None or len(parents) <= most):
        return []
    wanted = str(fewest) if fewest == most else f"at least {fewest}" if most is None else f"{fewest} to {most}"
    plural = "" if wanted.endswith(" 1") or wanted == "1" else "s"
    beside = (
        " beside the base" if method.base == "required" else ", the base among them" if method.base == "start" else ""
    )
    names = ", ".join(map(str, parents))
    whose = "recipe" if section.where == "models" else "slice"
    hint = f"given: {names}" if names else "list models other than base_model"
    return [
        RecipeError(
            f"{method.name} takes {wanted} model{plural}{beside}; the {whose} has {len(parents)}",
            where=section.where,
            hint=hint,
        )
    ]


def value_faults(recipe: Recipe) -> list[HubmergeError]:
    """Faults of values that do not go together, where they are the same in every tensor; the plan sees the others."""
    if recipe.merges_adapters or recipe.assembly is not None:
        return []
    method = recipe.method
    faults: list[HubmergeError] = []
    for section in recipe.sections:
        rows = [section.scopes.resolve(method, parent, "", 0.0) for parent in section.parents(method)]
        try:
            if method.check is not None and section.scopes.is_constant:
                method.check(parameter_values(method, rows))
        except RecipeError as fault:
            faults.append(fault)
    return faults[:1]
