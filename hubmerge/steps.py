"""From tables of tensors to steps: every tensor of every parent is merged, copied or refused, and none vanishes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from hubmerge.errors import PlanError, RecipeError
from hubmerge.method import parameter_values
from hubmerge.parents import ParentModel
from hubmerge.placement import Placement, Row
from hubmerge.plan_types import Action, Operand
from hubmerge.recipe import Recipe
from hubmerge.row_maps import RowPlan
from zoo_index.errors import HubmergeError
from zoo_index.fingerprint import is_vocabulary_tensor
from zoo_index.float8 import FLOAT8
from zoo_index.reference import ModelRef
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
    index: Mapping[ModelRef, int]
    rows: RowPlan | None = None
    unfit: list[HubmergeError] = field(default_factory=list)
    found: dict[str, tuple[Callable[[str], HubmergeError], list[str]]] = field(default_factory=dict)

    def fault(self, kind: str, name: str, make: Callable[[str], HubmergeError]) -> None:
        """Keep a fault of tensor `name`; a mistake that shows in 300 tensors is one fault, made from all their names."""
        self.found.setdefault(kind, (make, []))[1].append(name)

    def shape(self, model: int, meta: TensorMeta) -> tuple[int, ...]:
        """The shape of a model's tensor once its rows are those of the output's vocabulary."""
        return self.rows.shape(model, meta) if self.rows is not None else meta.shape

    def raise_faults(self) -> None:
        faults = [*self.unfit, *(make(_counted(names)) for make, names in self.found.values())]
        if faults:
            raise PlanError.of(faults)


def _counted(names: Sequence[str]) -> str:
    return f"tensor {names[0]!r}" if len(names) == 1 else f"{len(names)} tensors (first {names[0]!r})"


def draft_steps(
    recipe: Recipe, models: Sequence[ParentModel], placement: Placement, rows: RowPlan | None = None
) -> tuple[DraftStep, ...]:
    """One draft for every row of `placement`, in its order.

    Buffers of whole numbers may be in some parents only, as old transformers saved positions that new ones make up: one that
    the leading input has is copied from those that have it.

    models: all inputs.  rows: how embeddings and heads come into one vocabulary, None where they stay as they are.  Raises
    `PlanError` with every fault: tensors that only some parents have, different shapes, parameters that do not go together.
    """
    drafting = _Drafting(recipe, models, {model.reference: i for i, model in enumerate(models)}, rows)
    _check_shapes(drafting, placement)
    _check_stacked(drafting, placement)
    _check_heads(drafting, placement)
    drafting.raise_faults()
    drafts = [_draft(drafting, row) for row in placement.rows]
    drafting.raise_faults()
    return tuple(drafts)


def _check_shapes(drafting: _Drafting, placement: Placement) -> None:
    different: dict[tuple[int, int], list[tuple[TensorMeta, TensorMeta]]] = {}
    missing: dict[tuple[int, int], list[str]] = {}
    extra: dict[tuple[int, int], list[str]] = {}
    for row in placement.rows:
        first = drafting.models[row.lead]
        meta = first.table[row.names[row.lead]]
        for i, name in row.names.items():
            other = drafting.models[i]
            if name in other.table and drafting.shape(i, other.table[name]) != drafting.shape(row.lead, meta):
                different.setdefault((row.lead, i), []).append((meta, other.table[name]))
            elif name not in other.table and meta.dtype.is_float and _tied(drafting, i, row) is None:
                missing.setdefault((row.lead, i), []).append(name)
    for lead, i, names in placement.extras:
        floats = [name for name in names if drafting.models[i].table[name].dtype.is_float]
        if floats:
            extra.setdefault((lead, i), []).extend(floats)
    for lead, i in dict.fromkeys([*different, *missing, *extra]):
        first, other = drafting.models[lead], drafting.models[i]
        if (lead, i) in different:
            drafting.unfit.append(_different_shapes(first, other, different[lead, i]))
        else:
            drafting.unfit.append(_different_names(first, other, extra.get((lead, i), []), missing.get((lead, i), [])))


def _check_stacked(drafting: _Drafting, placement: Placement) -> None:
    """Layers of another model than the config's must be such as the config describes."""
    donor = drafting.models[placement.donor]
    for layers in placement.layers.values():
        stack = layers[0].stack
        shapes: dict[str, set[tuple[int, ...]]] = {}
        for meta in donor.table.values():
            if (place := stack.split(meta.name)) is not None:
                shapes.setdefault(place[1], set()).add(meta.shape)
        for lead in dict.fromkeys(row.lead for row in layers if row.lead != placement.donor):
            other = drafting.models[lead]
            used = {row.layer for row in layers if row.lead == lead}
            taken = [
                (meta, place[1])
                for meta in other.table.values()
                if (place := stack.split(meta.name)) is not None and place[0] in used
            ]
            odd = [(meta, rest) for meta, rest in taken if rest in shapes and meta.shape not in shapes[rest]]
            extra = [meta.name for meta, rest in taken if rest not in shapes and meta.dtype.is_float]
            if odd:
                pairs = [(replace(meta, shape=min(shapes[rest])), meta) for meta, rest in odd]
                drafting.unfit.append(_different_shapes(donor, other, pairs))
            elif extra:
                drafting.unfit.append(_different_names(donor, other, extra, []))


def _check_heads(drafting: _Drafting, placement: Placement) -> None:
    """A head that is merged and then never read, because the config ties it to the embeddings."""
    donor = drafting.models[placement.donor]
    if _ties(donor) is not True:
        return
    for row in placement.rows:
        untied = [
            i
            for i, name in row.names.items()
            if name in drafting.models[i].table and _ties(drafting.models[i]) is False
        ]
        if row.name.endswith("head.weight") and untied:
            message = (
                f"{donor.reference} ties its head to its embeddings, {drafting.models[untied[0]].reference} does not"
            )
            hint = "the merged head would never be used: name the other as base_model"
            drafting.unfit.append(PlanError(message, where=row.name, hint=hint))


def _ties(model: ParentModel) -> Any:
    """What a config says of its head: true, false, or None when it does not say."""
    text = model.config.get("text_config")
    nested = text.get("tie_word_embeddings") if isinstance(text, Mapping) else None
    return model.config.get("tie_word_embeddings", nested)


def _different_fields(first: ParentModel, other: ParentModel) -> list[str]:
    """The fields of the configs that explain why two models have other tensors."""
    from zoo_index.compat import differing_fields

    rows = differing_fields(first.record, other.record)
    return [str(row) for row in rows if row.hard or row.field in _SHAPING]


def _different_shapes(
    first: ParentModel, other: ParentModel, pairs: Sequence[tuple[TensorMeta, TensorMeta]]
) -> PlanError:
    left, right = pairs[0]
    name = left.name if left.name == right.name else f"{left.name} and {right.name}"
    tensor = f"{name} is {list(left.shape)} vs {list(right.shape)}"
    return PlanError(
        f"{first.reference} and {other.reference} have different shapes: "
        + ", ".join([*_different_fields(first, other), tensor]),
        where=f"{len(pairs)} tensor{'s' * (len(pairs) > 1)}",
        hint="write tokenizer_source: union, base or one of the models, and rows are merged token by token"
        if all(is_vocabulary_tensor(meta.name) for meta, _ in pairs)
        else "same-shape methods need parents of one architecture; `hubmerge zoo compatible` finds some",
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


def _tied(drafting: _Drafting, index: int, row: Row) -> TensorMeta | None:
    """The embedding that stands for a head which a model does not store because it is tied."""
    head, other = _lead_meta(drafting, row), drafting.models[index]
    if _ties(other) not in {None, True} or not head.name.endswith("head.weight"):
        return None
    shape = drafting.shape(row.lead, head)
    embeddings = [meta for meta in other.table.values() if any(part in meta.name for part in _EMBEDDINGS)]
    found = [meta for meta in embeddings if drafting.shape(index, meta) == shape]
    return found[0] if len(found) == 1 else None


def _operand(drafting: _Drafting, index: int, row: Row) -> Operand:
    model, name = drafting.models[index], row.names[index]
    meta = model.table[name] if name in model.table else _tied(drafting, index, row)
    if meta is None:
        raise PlanError(f"tensor {name!r} is not in {model.reference}", where="models")
    return _with_adapter(model, index, meta)


def _filler(drafting: _Drafting, index: int, row: Row) -> Operand | None:
    """The tensor of a model that is no input here, for the rows of tokens that no input has."""
    model, head = drafting.models[index], _lead_meta(drafting, row)
    meta = model.table[head.name] if head.name in model.table else _tied(drafting, index, row)
    fits = meta is not None and drafting.shape(index, meta) == drafting.shape(row.lead, head)
    return _with_adapter(model, index, meta) if meta is not None and fits else None


def _with_adapter(model: ParentModel, index: int, meta: TensorMeta) -> Operand:
    effect = model.effect
    if effect is not None and meta.name in effect.replaced:
        return Operand(index, effect.replaced[meta.name], effect.low_rank.get(meta.name), in_adapter=True)
    low_rank = effect.low_rank.get(meta.name) if effect is not None else None
    return Operand(index, meta, low_rank)


def _lead_meta(drafting: _Drafting, row: Row) -> TensorMeta:
    return drafting.models[row.lead].table[row.names[row.lead]]


def _draft(drafting: _Drafting, row: Row) -> DraftStep:
    recipe, method, meta, name = drafting.recipe, drafting.recipe.method, _lead_meta(drafting, row), row.name
    if not meta.dtype.is_float:
        holders = [i for i, own in row.names.items() if own in drafting.models[i].table]
        return _draft_buffer(drafting, name, meta, tuple(_operand(drafting, i, row) for i in holders))
    operands = tuple(_operand(drafting, drafting.index[ref], row) for ref in row.section.parents(method))
    origin = row.section.origin(method)
    base = _operand(drafting, drafting.index[origin], row) if origin else None
    every = (base, *operands) if base else operands
    if any(not operand.tensor.dtype.is_float for operand in every):
        return _draft_buffer(drafting, name, meta, every)
    dtype, shape = _output_dtype(recipe, every), drafting.shape(row.lead, meta)
    if drafting.rows is not None and drafting.rows.concerns(row.lead, meta):
        every = drafting.rows.mapped(every, lambda index: _filler(drafting, index, row))
        base, operands = (every[0], every[1:]) if base else (None, every)
    values = _values(drafting, row)
    if name.endswith(_RUNNING):
        faulty = not values and bool(method.parameters.model_fields)
        shares = (1.0,) * len(operands) if faulty else method.shares(values, len(operands))
        return DraftStep(name, dtype, shape, "average", operands, None, {"weight": shares, "normalize": False})
    only = operands[0]
    unchanged = method.name == "passthrough" and values.get("scale") == 1.0
    if unchanged and only.tensor.dtype is dtype and only.low_rank is None and only.rows is None:
        return DraftStep(name, dtype, shape, "copy", operands, None, values)
    return DraftStep(name, dtype, shape, "merge", operands, base, values)


def _draft_buffer(drafting: _Drafting, name: str, meta: TensorMeta, operands: tuple[Operand, ...]) -> DraftStep:
    kinds = sorted({operand.tensor.dtype.value for operand in operands})
    if len(kinds) > 1:
        stored = " and ".join(kinds)
        drafting.fault(
            f"stored {stored}",
            name,
            lambda names: PlanError(
                f"{names}: stored as {stored} by different parents",
                where="models",
                hint="save the models with one dtype",
            ),
        )
    counter = name.endswith(_COUNTERS)
    return DraftStep(name, meta.dtype, meta.shape, "count" if counter else "copy", operands, None, {})


def _output_dtype(recipe: Recipe, operands: Sequence[Operand]) -> DType:
    asked = DType.from_torch_name(recipe.out_dtype or recipe.dtype or "")
    if asked is not None:
        return asked
    kinds = {DType.BF16 if operand.tensor.dtype in FLOAT8 else operand.tensor.dtype for operand in operands}
    if len(kinds) == 1:
        return kinds.pop()
    return DType.F64 if DType.F64 in kinds else DType.F32


def _values(drafting: _Drafting, row: Row) -> dict[str, Any]:
    """The method's parameters for one tensor, checked."""
    method, name = drafting.recipe.method, row.name
    rows = [
        row.section.scopes.resolve(method, parent, name, row.depth, row.names[drafting.index[parent]])
        for parent in row.section.parents(method)
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
