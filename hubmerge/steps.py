"""From tables of tensors to steps: every tensor of every parent is merged, copied or refused, and none vanishes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from hubmerge.errors import PlanError, RecipeError
from hubmerge.method import parameter_values
from hubmerge.parents import ParentModel
from hubmerge.placement import Placement, Row
from hubmerge.plan_types import Action, Operand
from hubmerge.recipe import Recipe
from hubmerge.row_maps import RowPlan
from hubmerge.step_inputs import StepInputs
from hubmerge.tensor_faults import counted, tensor_faults
from zoo_index.errors import HubmergeError
from zoo_index.float8 import FLOAT8
from zoo_index.tensors import DType, TensorMeta

__all__ = ["DraftStep", "draft_steps"]

_COUNTERS = ("num_batches_tracked",)
_RUNNING = ("running_mean", "running_var")


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
    inputs: StepInputs
    found: dict[str, tuple[Callable[[str], HubmergeError], list[str]]] = field(default_factory=dict)

    def fault(self, kind: str, name: str, make: Callable[[str], HubmergeError]) -> None:
        """Keep a fault of tensor `name`; a mistake that shows in 300 tensors is one fault, made from all their names."""
        self.found.setdefault(kind, (make, []))[1].append(name)

    def raise_faults(self) -> None:
        faults = [make(counted(names)) for make, names in self.found.values()]
        if faults:
            raise PlanError.of(faults)


def draft_steps(
    recipe: Recipe, models: Sequence[ParentModel], placement: Placement, rows: RowPlan | None = None
) -> tuple[DraftStep, ...]:
    """One draft for every row of `placement`, in its order.

    Buffers of whole numbers may be in some parents only, as old transformers saved positions that new ones make up: one that
    the leading input has is copied from those that have it.

    models: all inputs.  rows: how embeddings and heads come into one vocabulary, None where they stay as they are.  Raises
    `PlanError` with every fault: tensors that only some parents have, different shapes, parameters that do not go together.
    """
    inputs = StepInputs(models, rows)
    faults = tensor_faults(inputs, placement)
    if faults:
        raise PlanError.of(faults)
    drafting = _Drafting(recipe, inputs)
    drafts = [_draft(drafting, row) for row in placement.rows]
    drafting.raise_faults()
    return tuple(drafts)


def _draft(drafting: _Drafting, row: Row) -> DraftStep:
    inputs = drafting.inputs
    recipe, method, meta, name = drafting.recipe, drafting.recipe.method, inputs.lead(row), row.name
    if not meta.dtype.is_float:
        holders = [i for i, own in row.names.items() if own in inputs.models[i].table]
        return _draft_buffer(drafting, name, meta, tuple(inputs.operand(i, row) for i in holders))
    operands = tuple(inputs.operand(inputs.index(ref), row) for ref in row.section.parents(method))
    origin = row.section.origin(method)
    base = inputs.operand(inputs.index(origin), row) if origin else None
    every = (base, *operands) if base else operands
    if any(not operand.tensor.dtype.is_float for operand in every):
        return _draft_buffer(drafting, name, meta, every)
    dtype, shape = _output_dtype(recipe, every), inputs.shape(row.lead, meta)
    if inputs.rows is not None and inputs.rows.concerns(row.lead, meta):
        every = inputs.rows.mapped(every, lambda index: inputs.filler(index, row))
        base, operands = (every[0], every[1:]) if base else (None, every)
    values = _values(drafting, row, shape)
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


def _values(drafting: _Drafting, row: Row, shape: tuple[int, ...]) -> dict[str, Any]:
    """The method's parameters for one tensor, checked, and as they are meant for its name and shape."""
    method, name = drafting.recipe.method, row.name
    rows = [
        row.section.scopes.resolve(method, parent, name, row.depth, row.names[drafting.inputs.index(parent)])
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
    return dict(method.named(values, name, shape))
