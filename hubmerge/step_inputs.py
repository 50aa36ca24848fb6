"""The inputs of a merge as steps are drafted from them: shapes in the output's vocabulary, and heads that are tied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubmerge.errors import PlanError
from hubmerge.parents import ParentModel
from hubmerge.placement import Row
from hubmerge.plan_types import Operand
from hubmerge.row_maps import RowPlan
from zoo_index.reference import ModelRef
from zoo_index.tensors import TensorMeta

__all__ = ["StepInputs", "operand_of", "ties"]

_EMBEDDINGS = ("embed_tokens", "word_embeddings", "wte", "shared", "embed_in")


@dataclass(frozen=True)
class StepInputs:
    """All inputs by index, and how their embeddings and heads come into one vocabulary (None: they stay as they are)."""

    models: Sequence[ParentModel]
    rows: RowPlan | None = None

    def index(self, reference: ModelRef) -> int:
        """The input that a recipe names so."""
        return next(i for i, model in enumerate(self.models) if model.reference == reference)

    def shape(self, model: int, meta: TensorMeta) -> tuple[int, ...]:
        """The shape of a model's tensor once its rows are those of the output's vocabulary."""
        return self.rows.shape(model, meta) if self.rows is not None else meta.shape

    def lead(self, row: Row) -> TensorMeta:
        """The tensor of the input that says which tensors there are."""
        return self.models[row.lead].table[row.names[row.lead]]

    def tied(self, index: int, row: Row) -> TensorMeta | None:
        """The embedding that stands for a head which a model does not store because it is tied."""
        head, other = self.lead(row), self.models[index]
        if ties(other) is False or not head.name.endswith("head.weight"):
            return None
        shape = self.shape(row.lead, head)
        embeddings = [meta for meta in other.table.values() if any(part in meta.name for part in _EMBEDDINGS)]
        found = [meta for meta in embeddings if self.shape(index, meta) == shape]
        return found[0] if len(found) == 1 else None

    def operand(self, index: int, row: Row) -> Operand:
        """What is read of an input for `row`: its tensor, or the embedding that stands for it, with its adapter's term."""
        model, name = self.models[index], row.names[index]
        meta = model.table[name] if name in model.table else self.tied(index, row)
        if meta is None:
            raise PlanError(f"tensor {name!r} is not in {model.reference}", where="models")
        return operand_of(model, index, meta)

    def filler(self, index: int, row: Row) -> Operand | None:
        """The tensor of a model that is no input of `row`, for the rows of tokens that no input has."""
        model, head = self.models[index], self.lead(row)
        meta = model.table[head.name] if head.name in model.table else self.tied(index, row)
        fits = meta is not None and self.shape(index, meta) == self.shape(row.lead, head)
        return operand_of(model, index, meta) if meta is not None and fits else None


def ties(model: ParentModel) -> Any:
    """What a config says of its head: true where it is tied to the embeddings, false, or None when it does not say."""
    text = model.config.get("text_config")
    nested = text.get("tie_word_embeddings") if isinstance(text, Mapping) else None
    return model.config.get("tie_word_embeddings", nested)


def operand_of(model: ParentModel, index: int, meta: TensorMeta) -> Operand:
    """A model's tensor with what its adapter does to it.  index: the model's place among the inputs."""
    effect = model.effect
    if effect is not None and meta.name in effect.replaced:
        return Operand(index, effect.replaced[meta.name], effect.low_rank.get(meta.name), in_adapter=True)
    low_rank = effect.low_rank.get(meta.name) if effect is not None else None
    return Operand(index, meta, low_rank)
