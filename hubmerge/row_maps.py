"""Rows by token: which row of which parent every row of a merged embedding or head is read from.

mergekit's rule for a token that a parent lacks, as its documentation has it: the base model's row if that has the token,
the row of the only model that has it, else the mean of the rows of those that have it.  The models asked are those whose
tensors the step combines; when none of them has the token, all others of the merge (mergekit then writes zeros).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge.parents import ParentModel
from hubmerge.plan_types import Numbers, Operand, RowFill, RowMap
from zoo_index.fingerprint import is_vocabulary_tensor
from zoo_index.tensors import TensorMeta

__all__ = ["RowPlan", "VocabularyTensors", "own_rows", "vocabulary_tensors"]

_INPUT = {"embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "shared"}
_OF_LABELS = {"classifier", "score", "qa_outputs", "classification_head"}


@dataclass(frozen=True)
class VocabularyTensors:
    """The tensors of a model with one row for each id: their names, and how many rows they have (0 without any)."""

    names: frozenset[str]
    rows: int


def vocabulary_tensors(model: ParentModel) -> VocabularyTensors:
    """Which tensors of a model are sized by its vocabulary: by their first axis, and by name where a size proves nothing.

    The number of rows is that of the input embedding, else the config's vocab_size.  A tensor of that length counts when
    its name says so (``wte``, ``lm_head``, ...), or when no other size of the config or of a tensor is the same.  A bias
    (1, rows) counts too.
    """
    floats = [meta for meta in model.table.values() if meta.dtype.is_float]
    found = {meta.shape[0] for meta in floats if len(meta.shape) > 1 and _INPUT & set(meta.name.split("."))}
    text = model.config.get("text_config")
    stated = model.config.get("vocab_size", text.get("vocab_size") if isinstance(text, Mapping) else None)
    rows = found.pop() if len(found) == 1 else stated
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
        return VocabularyTensors(frozenset(), 0)
    others = {size for meta in floats for size in _widths(meta)}
    telling = rows not in _sizes(model.config) | others
    names = frozenset(meta.name for meta in floats if _length(meta) == rows and (telling or _by_name(meta.name)))
    return VocabularyTensors(names, rows if names else 0)


def _length(meta: TensorMeta) -> int:
    if len(meta.shape) > 1 and all(size == 1 for size in meta.shape[:-1]):
        return meta.shape[-1]
    return meta.shape[0] if meta.shape else 0


def _widths(meta: TensorMeta) -> tuple[int, ...]:
    """The sizes of a tensor beside its length."""
    return () if meta.shape[:1] == (1,) else meta.shape[1:]


def _by_name(name: str) -> bool:
    parts = set(name.split("."))
    return not parts & _OF_LABELS and (is_vocabulary_tensor(name) or bool(parts & _INPUT) or "lm_head" in parts)


def _sizes(config: Mapping[str, Any]) -> set[int]:
    """Every whole number of a config but its vocabulary's size and the ids of tokens."""
    found: set[int] = set()
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _sizes(value)
        elif isinstance(value, int) and "vocab" not in key and "token_id" not in key:
            found.add(value)
    return found


def own_rows(tokens: Sequence[str], ids: Mapping[str, int], rows: int) -> Numbers:
    """For every token its row in a model with these ids and so many rows; -1 where it has none."""
    found = np.fromiter((ids.get(token, -1) for token in tokens), np.int64, len(tokens))
    found[found >= rows] = -1
    return found


@dataclass(frozen=True, eq=False)
class RowPlan:
    """The output's vocabulary and every model's rows in it.

    tokens: how many; padding: rows after theirs.  own: for each model the row of every token, -1 where it has none.
    tensors: each model's tensors that are sized by the vocabulary.  base: index of the base model.  sources: number of a
    token -> the model and row that the recipe names for it, None for zeros; forced: numbers of tokens whose row is
    taken from there for all models.
    """

    tokens: int
    padding: int
    own: tuple[Numbers, ...]
    tensors: tuple[VocabularyTensors, ...]
    base: int | None
    sources: Mapping[int, tuple[int, int] | None] = field(default_factory=dict)
    forced: frozenset[int] = frozenset()
    _known: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> int:
        """Rows of the output's embeddings."""
        return self.tokens + self.padding

    def concerns(self, model: int, meta: TensorMeta) -> bool:
        """Whether a tensor of a model is sized by the vocabulary."""
        return meta.name in self.tensors[model].names

    def shape(self, model: int, meta: TensorMeta) -> tuple[int, ...]:
        """The shape that a tensor of a model has in the output's vocabulary: its own when it is not sized by one."""
        if not self.concerns(model, meta):
            return meta.shape
        first = meta.shape[0] == self.tensors[model].rows
        return (self.rows, *meta.shape[1:]) if first else (*meta.shape[:-1], self.rows)

    def mapped(self, operands: Sequence[Operand], other: Callable[[int], Operand | None]) -> tuple[Operand, ...]:
        """The inputs of one step that is sized by the vocabulary, each with the map of its rows where it needs one.

        other: the tensor of a model that is not among them and stands in the same place, None without one.
        """
        inputs = {operand.parent: operand for operand in operands}
        return tuple(self._mapped(operand, inputs, other) for operand in operands)

    def _mapped(
        self, operand: Operand, inputs: Mapping[int, Operand], other: Callable[[int], Operand | None]
    ) -> Operand:
        own, fills = self._filled(operand.parent, tuple(inputs))
        stored = self.tensors[operand.parent].rows
        if not self.padding and self.tokens == stored and not fills and bool((own == np.arange(stored)).all()):
            return operand
        found: list[RowFill] = []
        for model, at, rows, shares in fills:
            source = inputs.get(model) or other(model)
            if source is not None:
                found.append(RowFill(source, at, rows, shares))
        return replace(operand, rows=RowMap(own, tuple(found), self.padding))

    def lacking(self, model: int) -> int:
        """How many tokens a model has no row for."""
        return int((self.own[model] < 0).sum())

    def filled_from(self, model: int) -> dict[int, int]:
        """For each model how many of the rows that `model` lacks, or is given, it has a part in, when all models are merged."""
        _, fills = self._filled(model, tuple(range(len(self.own))))
        return {source: int(at.size) for source, at, _, _ in fills}

    def nowhere(self) -> Numbers:
        """Numbers of the tokens that no model has and no `sources` entry names: their rows are zero."""
        none = np.all([own < 0 for own in self.own], axis=0)
        none[list(self.sources)] = False
        return np.flatnonzero(none)

    def _filled(
        self, model: int, inputs: tuple[int, ...]
    ) -> tuple[Numbers, tuple[tuple[int, Numbers, Numbers, Any], ...]]:
        """One model's rows, and what fills the others: model, rows of the output, its rows, shares."""
        key = (model, inputs)
        if key not in self._known:
            own = self.own[model].copy()
            own[list(self.forced)] = -1
            need = own < 0
            fills = []
            for source, (rows, shares) in self._defaults(inputs).items():
                at = np.flatnonzero(need & (rows >= 0))
                if at.size:
                    fills.append((source, at, rows[at], shares[at]))
            self._known[key] = (own, tuple(fills))
        return self._known[key]  # type: ignore[no-any-return]

    def _defaults(self, inputs: tuple[int, ...]) -> dict[int, tuple[Numbers, npt.NDArray[np.float32]]]:
        """For each model its rows that stand in where a row is lacking, -1 where another's do, with their shares."""
        if inputs in self._known:
            return self._known[inputs]  # type: ignore[no-any-return]
        found = {
            model: (np.full(self.tokens, -1, np.int64), np.ones(self.tokens, np.float32))
            for model in range(len(self.own))
        }
        open_ = np.ones(self.tokens, bool)
        for number, source in self.sources.items():
            open_[number] = False
            if source is not None:
                found[source[0]][0][number] = source[1]
        others = tuple(model for model in range(len(self.own)) if model not in inputs)
        for group in ((self.base,) if self.base is not None else (), inputs, others):
            counts = np.sum([self.own[model] >= 0 for model in group], axis=0) if group else np.zeros(self.tokens, int)
            for model in group:
                chosen = open_ & (self.own[model] >= 0)
                found[model][0][chosen] = self.own[model][chosen]
                found[model][1][chosen] = np.float32(1) / counts[chosen].astype(np.float32)
            open_ &= counts == 0
        self._known[inputs] = found
        return found
