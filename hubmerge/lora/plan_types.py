"""`AdapterPlan`: a merge of LoRA adapters as data: adapters, modules, ranks, what differs, what it costs and writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hubmerge.adapter_words import Combination, Missing
from hubmerge.lora.headers import AdapterHeader
from hubmerge.lora.planned_wholes import PlannedWholes
from hubmerge.method import MergeMethod
from hubmerge.plan_types import CarriedFile, Download, Plan, PlannedParent
from hubmerge.recipe import Recipe
from zoo_index.tensors import TensorMeta

__all__ = ["AdapterPlan", "PlannedModule"]


@dataclass(frozen=True)
class PlannedModule:
    """One module that is merged.  shape: (out, in) of its change.  ranks: of each adapter, None where it leaves the module alone.
    rank: of the merge, at most; possible: of what is merged before it is cut.
    """

    name: str
    shape: tuple[int, int]
    ranks: tuple[int | None, ...]
    rank: int
    possible: int


@dataclass(frozen=True)
class AdapterPlan:
    """Everything that can be told of a merge of adapters before any of their numbers is read.

    parents: the adapters in the recipe's order, behind the base where the result is a model or whole tensors are changes of its own.  wholes:
    what is merged beside factors.  adapters: their headers.  basis: knots, core
    or none.  base_model, base_revision: what the merged adapter belongs to, None where nobody says.  differs: in what the adapters do, in
    sentences.  dense: for a model, how the merged adapter is added to the base, tensor by tensor; its one parent is the base, and its
    adapter the merged one.  running: of a method that runs models, the plan of base+adapter models, whose preparation says on what; nothing
    is merged by it.  peak_memory: an estimate of bytes above the interpreter and its libraries.  warnings have the notes in them.
    """

    recipe: Recipe
    method: MergeMethod | Combination
    parents: tuple[PlannedParent, ...]
    adapters: tuple[AdapterHeader, ...]
    basis: Literal["knots", "core", "none"]
    missing: Missing
    modules: tuple[PlannedModule, ...]
    wholes: PlannedWholes
    base_model: str | None
    base_revision: str | None
    differs: tuple[str, ...]
    dense: Plan | None
    running: Plan | None
    downloads: tuple[Download, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    bytes_written: int
    peak_memory: int
    jobs: int | None
    hash: str

    @property
    def first(self) -> int:
        """The place of the first adapter among the parents."""
        return len(self.parents) - len(self.adapters)

    @property
    def carried(self) -> tuple[CarriedFile, ...]:
        """Files that go along unchanged: of a model its base's, of an adapter none."""
        return self.dense.carried if self.dense is not None else ()

    @property
    def texts(self) -> Mapping[str, str]:
        """Files that are known before the weights are: those of a model."""
        return self.dense.texts if self.dense is not None else {}

    @property
    def stored(self) -> Iterator[tuple[int, TensorMeta, bool]]:
        """Every tensor that is read: the parent's place, where it is, and that it is the parent's own."""
        if self.dense is not None:
            yield from (row for row in self.dense.stored if not row[2])
        elif self.running is not None:
            base = next(i for i, parent in enumerate(self.running.parents) if parent.role == "base")
            yield from ((0, meta, False) for place, meta, inside in self.running.stored if place == base and not inside)
        yield from ((0, meta, False) for meta in self.wholes.origin.values())
        for place, adapter in enumerate(self.adapters, self.first):
            yield from ((place, meta, False) for meta in adapter.given.values())

    @property
    def merged_bytes(self) -> int:
        """What the merged factors, and what is merged beside them, take in float32, at most."""
        return sum(4 * module.rank * sum(module.shape) for module in self.modules) + 4 * self.wholes.entries

    @property
    def parameters(self) -> int:
        """Floating-point entries written, at most."""
        return self.dense.parameters if self.dense is not None else self.merged_bytes // 4

    @property
    def dtype(self) -> str:
        """The type of what is written."""
        return self.dense.dtype if self.dense is not None else "float32"

    @property
    def bytes_read(self) -> int:
        return sum(meta.nbytes for _, meta, _ in self.stored)

    @property
    def bytes_to_download(self) -> int:
        return sum(file.size for file in self.downloads)

    def __str__(self) -> str:
        from hubmerge.lora.explain import adapter_text

        return adapter_text(self)

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        from hubmerge.lora.explain import adapter_dict

        return adapter_dict(self)

    def to_pandas(self) -> Any:
        """One row per module."""
        import pandas as pd

        return pd.DataFrame(self.to_dict()["modules"])
