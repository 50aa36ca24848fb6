"""The plan as data: what will be read, computed and written, tensor by tensor.  Frozen; nothing is decided later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from hubmerge.adapters import LowRank
from hubmerge.io.shards import INDEX_NAME, Layout
from hubmerge.method import MergeMethod
from hubmerge.recipe import Recipe
from zoo_index.reference import ModelRef
from zoo_index.tensors import TensorMeta

if TYPE_CHECKING:
    from hubmerge.alignment.plan_types import PlannedAlignment
    from hubmerge.preparation import PlannedPreparation
    from hubmerge.wrapper import Prepared

__all__ = [
    "Action",
    "CarriedFile",
    "Download",
    "Operand",
    "Plan",
    "PlannedParent",
    "RowFill",
    "RowMap",
    "Step",
    "VocabularyRows",
]

Action = Literal["merge", "average", "count", "copy"]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Operand:
    """One parent's tensor in one step: bytes on disk, and the adapter's term on top.

    parent: index into `Plan.parents`.  in_adapter: the bytes are in the adapter's file, which replaces the tensor.
    rows: for embeddings and heads whose vocabulary is not the output's: where each row of the output is read.
    """

    parent: int
    tensor: TensorMeta
    low_rank: LowRank | None = None
    in_adapter: bool = False
    rows: RowMap | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RowFill:
    """Rows that a parent lacks and that are read from another's tensor.

    operand: the other's tensor, its rows as stored.  at: rows of the output, ascending; rows: the other's rows for them;
    shares: float32 factors, 1 for a row taken over, 1/n for one of n that are averaged.
    """

    operand: Operand
    at: Numbers
    rows: Numbers
    shares: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class RowMap:
    """Where the rows of a tensor in the output's vocabulary come from, for one parent.

    own: for every token the parent's row, -1 where it has none.  fills: the rows it lacks, summed over the fills; those in
    none are zero.  padding: rows after those of the tokens, each the mean of the rows before it.
    """

    own: Numbers
    fills: tuple[RowFill, ...] = ()
    padding: int = 0

    @property
    def size(self) -> int:
        """Rows of the output."""
        return int(self.own.size) + self.padding

    @property
    def moves_only(self) -> bool:
        """Whether every row is one that is stored, or zero: nothing is computed."""
        return not self.padding and all(bool((fill.shares == 1).all()) for fill in self.fills)

    @property
    def digest(self) -> str:
        """sha256 of the map, as hex."""
        found = hashlib.sha256(f"{self.padding}".encode() + self.own.tobytes())
        for fill in self.fills:
            found.update(f"{fill.operand.parent} {fill.operand.tensor.name}".encode())
            for array in (fill.at, fill.rows, fill.shares):
                found.update(array.tobytes())
        return found.hexdigest()


@dataclass(frozen=True, slots=True)
class Step:
    """How one tensor of the output comes about.

    action: "merge" by the method; "average" with coefficients that sum to 1 (running statistics); "count": the largest
    (counters); "copy": the parents agree byte for byte, or there is only one.  values: the method's parameters for this
    tensor, by field; `PerParent` ones as tuples in the order of `operands`.
    """

    output: TensorMeta
    action: Action
    operands: tuple[Operand, ...]
    base: Operand | None
    values: Mapping[str, Any]

    @property
    def inputs(self) -> tuple[Operand, ...]:
        """Everything that is combined, the base first."""
        return (self.base, *self.operands) if self.base else self.operands

    @property
    def read(self) -> tuple[Operand, ...]:
        """Every tensor that is read: the inputs, and what fills rows that they lack."""
        fills = (fill.operand for operand in self.inputs if operand.rows for fill in operand.rows.fills)
        return (*self.inputs, *fills)

    @property
    def stored(self) -> Iterator[tuple[int, TensorMeta, bool]]:
        """What is read from disk for that, scales and adapters' factors too: parent, tensor, whether the adapter has it."""
        for operand in self.read:
            yield operand.parent, operand.tensor, operand.in_adapter
            if operand.tensor.scale is not None:
                yield operand.parent, operand.tensor.scale.tensor, operand.in_adapter
            if operand.low_rank is not None:
                for meta in operand.low_rank.stored:
                    yield operand.parent, meta, True


@dataclass(frozen=True, slots=True)
class VocabularyRows:
    """What became of the rows of embeddings and heads, in numbers and in words.

    tokens: of the merge; rows: with padding; lines: what all models share, then one sentence for each model.
    """

    tokens: int
    rows: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedParent:
    """One input model, pinned.  headers: weight file -> sha256 of its header; parameters: as in the recipe."""

    reference: ModelRef
    role: Literal["base", "parent"]
    commit: str | None
    adapter_commit: str | None
    headers: Mapping[str, str]
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CarriedFile:
    """A file that goes along unchanged from a parent's folder."""

    name: str
    parent: int
    size: int


@dataclass(frozen=True, slots=True)
class Download:
    """A file of a parent, or of its adapter, that has to be fetched from the Hub; size in bytes."""

    parent: int
    name: str
    size: int
    in_adapter: bool = False


@dataclass(frozen=True)
class Plan:
    """Everything a merge will do.  bytes_read counts a tensor once for each pass over it; peak_memory is an upper
    estimate in bytes above the interpreter and its libraries; `hash` identifies recipe, parents and method.  written: files
    of the tokenizer that are made, not copied, by name.  vocabulary: what became of the rows of embeddings and heads,
    where the recipe asks for one vocabulary.  warnings: what a person should know before the merge; notes: those of them
    that are facts and no mistakes to mend, which `strict` lets pass.  alignment: what is done with parents before the steps,
    which then read aligned copies in their place; None where they are merged as they are.  preparation: what the method's wrapper runs
    the parents on, None without data; prepared: what it found, with which the steps' weights are multiplied already
    (`hubmerge.prepare`), None before, and for methods without a wrapper.
    """

    recipe: Recipe
    parents: tuple[PlannedParent, ...]
    steps: tuple[Step, ...]
    layout: Layout
    config: Mapping[str, Any]
    config_donor: int
    tokenizer_donor: int | None
    carried: tuple[CarriedFile, ...]
    downloads: tuple[Download, ...]
    left: tuple[str, ...]
    warnings: tuple[str, ...]
    jobs: int
    bytes_read: int
    bytes_written: int
    peak_memory: int
    hash: str
    written: Mapping[str, str] = field(default_factory=dict)
    vocabulary: VocabularyRows | None = None
    notes: tuple[str, ...] = ()
    alignment: PlannedAlignment | None = None
    preparation: PlannedPreparation | None = None
    prepared: Prepared | None = None

    @property
    def method(self) -> MergeMethod:
        return self.recipe.method

    @property
    def dtype(self) -> str:
        """The type most of the merged numbers are stored in, as config.json names it."""
        return str(self.config.get("dtype") or self.config.get("torch_dtype"))

    @property
    def texts(self) -> dict[str, str]:
        """The files that are written rather than computed or copied: config.json, and the index of several shards."""
        config = json.dumps(self.config, indent=2, ensure_ascii=False) + "\n"
        written = {"config.json": config, **self.written}
        return written if self.layout.index is None else {**written, INDEX_NAME: self.layout.index}

    @property
    def stored(self) -> Iterator[tuple[int, TensorMeta, bool]]:
        """What all steps read from disk; see `Step.stored`.  Of a parent that is aligned it is its own files, whatever its copy's shapes."""
        own = {} if self.alignment is None else self.alignment.stored
        rows = (row for step in self.steps for row in step.stored)
        return ((i, own.get((i, meta.name), meta), inside) for i, meta, inside in rows)

    @property
    def parameters(self) -> int:
        """Floating-point entries written."""
        return sum(step.output.numel for step in self.steps if step.output.dtype.is_float)

    @property
    def bytes_to_download(self) -> int:
        return sum(file.size for file in self.downloads)

    def count(self, action: Action) -> int:
        return sum(step.action == action for step in self.steps)

    def __str__(self) -> str:
        from hubmerge.explain import plan_text

        return plan_text(self)

    def _repr_html_(self) -> str:
        from hubmerge.explain import plan_html

        return plan_html(self)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        from hubmerge.explain import plan_dict

        return plan_dict(self)

    def to_pandas(self) -> Any:
        """One row per step."""
        from hubmerge.explain import plan_frame

        return plan_frame(self)
