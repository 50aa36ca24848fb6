"""From tables of tensors to steps: every tensor of every parent is merged, copied or refused, and none vanishes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from hubmerge.depth import LayerDepths
from hubmerge.errors import PlanError, RecipeError
from hubmerge.method import parameter_values
from hubmerge.parameters import ParameterScopes
from hubmerge.parents import ParentModel
from hubmerge.plan_types import Action, Operand
from hubmerge.recipe import Recipe
from zoo_index.errors import HubmergeError
from zoo_index.tensors import DType, TensorMeta

__all__ = ["DraftStep", "draft_steps"]

_COUNTERS = ("num_batches_tracked",)
_RUNNING = ("running_mean", "running_var")
_SHAPING = {"vocab_size", "num_labels", "type_vocab_size", "tie_word_embeddings"}
_EMBEDDINGS = ("embed_tokens", "word_embeddings", "wte", "shared", "embed_in")


@dataclass(frozen=True)
class DraftStep:
    """A step without its place on disk."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    action: Action
    operands: tuple[Operand, ...]
    base: Operand | None
    values: Mapping[str, Any]


@dataclass
class _Drafting:
    recipe: Recipe
    models: Sequence[ParentModel]
    parents: tuple[int, ...]
    base: int | None
    involved: tuple[int, ...]
    depths: LayerDepths
    scopes: ParameterScopes
    unfit: list[HubmergeError] = field(default_factory=list)
    found: dict[str, tuple[Callable[[str], HubmergeError], list[str]]] = field(default_factory=dict)

    def fault(self, kind: str, name: str, make: Callable[[str], HubmergeError]) -> None:
        """Keep a fault of tensor `name`; a mistake that shows in 300 tensors is one fault, made from all their names."""
        self.found.setdefault(kind, (make, []))[1].append(name)

    def raise_faults(self) -> None:
        faults = [*self.unfit, *(make(_counted(names)) for make, names in self.found.values())]
        if faults:
            raise PlanError.of(faults)


def _counted(names: Sequence[str]) -> str:
    return f"tensor {names[0]!r}" if len(names) == 1 else f"{len(names)} tensors (first {names[0]!r})"


def draft_steps(
    recipe: Recipe, models: Sequence[ParentModel], parents: tuple[int, ...], base: int | None, donor: int
) -> tuple[DraftStep, ...]:
    """One draft for every tensor of the donor's table, in the order of its files.

    Buffers of whole numbers may be in some parents only, as old transformers saved positions that new ones make up: one that
    the donor has is copied from those that have it.

    models: all inputs; parents: indices of those that the method combines, in order; base: index of the base model, for
    methods that need it.  Raises `PlanError` with every fault: tensors that only some parents have, different shapes,
    parameters that do not go together.
    """
    involved = tuple(dict.fromkeys([donor, *parents, *([base] if base is not None else [])]))
    drafting = _Drafting(
        recipe, models, parents, base, involved, LayerDepths(models[donor].table), recipe.sections[0].scopes
    )
    _check_shapes(drafting, donor, involved)
    drafting.raise_faults()
    order = sorted(models[donor].table.values(), key=lambda meta: (meta.file, meta.start))
    drafts = [_draft(drafting, meta) for meta in order]
    drafting.raise_faults()
    return tuple(drafts)


def _check_shapes(drafting: _Drafting, donor: int, involved: Iterable[int]) -> None:
    first = drafting.models[donor]
    for index in involved:
        other = drafting.models[index]
        if other is first:
            continue
        different = [
            name for name, meta in other.table.items() if name in first.table and first.table[name].shape != meta.shape
        ]
        extra = [name for name, meta in other.table.items() if name not in first.table and meta.dtype.is_float]
        missing = [
            name
            for name, meta in first.table.items()
            if name not in other.table and meta.dtype.is_float and _tied(name, first, other) is None
        ]
        if different:
            drafting.unfit.append(_different_shapes(first, other, different))
        elif extra or missing:
            drafting.unfit.append(_different_names(first, other, extra, missing))


def _different_fields(first: ParentModel, other: ParentModel) -> list[str]:
    """The fields of the configs that explain why two models have other tensors."""
    from zoo_index.compat import differing_fields

    rows = differing_fields(first.record, other.record)
    return [str(row) for row in rows if row.hard or row.field in _SHAPING]


def _different_shapes(first: ParentModel, other: ParentModel, names: list[str]) -> PlanError:
    name = names[0]
    tensor = f"{name} is {list(first.table[name].shape)} vs {list(other.table[name].shape)}"
    return PlanError(
        f"{first.reference} and {other.reference} have different shapes: "
        + ", ".join([*_different_fields(first, other), tensor]),
        where=f"{len(names)} tensor{'s' * (len(names) > 1)}",
        hint="same-shape methods need parents of one architecture; `hubmerge zoo compatible` finds some",
    )


def _different_names(first: ParentModel, other: ParentModel, extra: list[str], missing: list[str]) -> PlanError:
    def told(names: list[str], has: ParentModel, lacks: ParentModel) -> str:
        return f"{_counted(names)} of {has.reference} {'is' if len(names) == 1 else 'are'} not in {lacks.reference}"

    parts = [told(extra, other, first)] if extra else []
    parts += [told(missing, first, other)] if missing else []
    fields = _different_fields(first, other)
    head = len(extra) == 1 and first.config.get("tie_word_embeddings", False)
    hint = (
        "the first ties its head to its embeddings, the other does not: name the other as base_model"
        if head
        else "every parent must have the same tensors; `hubmerge zoo compatible` finds such models"
    )
    return PlanError("; ".join(parts) + (f": {', '.join(fields)}" if fields else ""), where="models", hint=hint)


def _tied(name: str, donor: ParentModel, other: ParentModel) -> TensorMeta | None:
    """The embedding that stands for a head which `other` does not store because it is tied."""
    text = other.config.get("text_config")
    nested = text.get("tie_word_embeddings") if isinstance(text, Mapping) else None
    if not (
        other.config.get("tie_word_embeddings", nested if nested is not None else True) and name.endswith("head.weight")
    ):
        return None
    shape = donor.table[name].shape
    found = [m for m in other.table.values() if m.shape == shape and any(part in m.name for part in _EMBEDDINGS)]
    return found[0] if len(found) == 1 else None


def _operand(drafting: _Drafting, index: int, name: str, like: ParentModel) -> Operand:
    model = drafting.models[index]
    meta = model.table[name] if name in model.table else _tied(name, like, model)
    if meta is None:
        raise PlanError(f"tensor {name!r} is not in {model.reference}", where="models")
    effect = model.effect
    if effect is not None and meta.name in effect.replaced:
        return Operand(index, effect.replaced[meta.name], effect.low_rank.get(meta.name), in_adapter=True)
    low_rank = effect.low_rank.get(meta.name) if effect is not None else None
    return Operand(index, meta, low_rank)


def _draft(drafting: _Drafting, meta: TensorMeta) -> DraftStep:
    name, recipe, method = meta.name, drafting.recipe, drafting.recipe.method
    like = next(model for model in drafting.models if model.table.get(name) is meta)
    if not meta.dtype.is_float:
        holders = [i for i in drafting.involved if name in drafting.models[i].table]
        return _draft_buffer(drafting, meta, tuple(_operand(drafting, i, name, like) for i in holders))
    operands = tuple(_operand(drafting, index, name, like) for index in drafting.parents)
    base = _operand(drafting, drafting.base, name, like) if drafting.base is not None else None
    every = (base, *operands) if base else operands
    if any(not operand.tensor.dtype.is_float for operand in every):
        return _draft_buffer(drafting, meta, every)
    dtype = _output_dtype(recipe, every)
    values = _values(drafting, name)
    if name.endswith(_RUNNING):
        shares = method.shares(values, len(operands)) if values else (1.0,) * len(operands)
        return DraftStep(name, dtype, meta.shape, "average", operands, None, {"weight": shares, "normalize": False})
    only = operands[0]
    unchanged = method.name == "passthrough" and values.get("scale") == 1.0
    if unchanged and only.tensor.dtype is dtype and only.low_rank is None:
        return DraftStep(name, dtype, meta.shape, "copy", operands, None, values)
    return DraftStep(name, dtype, meta.shape, "merge", operands, base, values)


def _draft_buffer(drafting: _Drafting, meta: TensorMeta, operands: tuple[Operand, ...]) -> DraftStep:
    kinds = sorted({operand.tensor.dtype.value for operand in operands})
    if len(kinds) > 1:
        stored = " and ".join(kinds)
        drafting.fault(
            f"stored {stored}",
            meta.name,
            lambda names: PlanError(
                f"{names}: stored as {stored} by different parents",
                where="models",
                hint="save the models with one dtype",
            ),
        )
    counter = meta.name.endswith(_COUNTERS)
    return DraftStep(meta.name, meta.dtype, meta.shape, "count" if counter else "copy", operands, None, {})


def _output_dtype(recipe: Recipe, operands: Sequence[Operand]) -> DType:
    asked = DType.from_torch_name(recipe.out_dtype or recipe.dtype or "")
    if asked is not None:
        return asked
    kinds = {operand.tensor.dtype for operand in operands}
    if len(kinds) == 1:
        return kinds.pop()
    return DType.F64 if DType.F64 in kinds else DType.F32


def _values(drafting: _Drafting, name: str) -> dict[str, Any]:
    """The method's parameters for one tensor, checked."""
    recipe, depth = drafting.recipe, drafting.depths(name)
    method = recipe.method
    rows = [
        drafting.scopes.resolve(method, drafting.models[index].reference, name, depth) for index in drafting.parents
    ]
    try:
        values = parameter_values(method, rows)
        if method.check is not None:
            method.check(values)
    except ValidationError as error:
        field_name = str(error.errors()[0]["loc"][0])
        drafting.fault(
            f"no {field_name}",
            name,
            lambda names: RecipeError(
                f"{field_name} has no value for {names}",
                where=f"parameters.{field_name}",
                hint="end its filters with one value for all other tensors",
            ),
        )
        return {}
    except RecipeError as error:
        fault = error
        drafting.fault(
            f"{fault.where} {fault.hint}",
            name,
            lambda names: RecipeError(f"{fault.message}: {names}", where=fault.where, hint=fault.hint),
        )
        return {}
    return values
