"""`WholePlan`: what the plans of merges have in common that are made of whole models at once, and not tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hubmerge.assemblies import Assembly
from hubmerge.calibration.check import CalibrationFacts
from hubmerge.heterogeneous.memory_use import MemoryUse
from hubmerge.plan_types import CarriedFile, Download, PlannedParent
from hubmerge.recipe import Recipe
from zoo_index.tensors import DType, TensorMeta

__all__ = ["WholePlan", "files_dict", "head_dict"]


@dataclass(frozen=True, kw_only=True)
class WholePlan:
    """Everything that can be told of such a merge before its models and its data are read, but for what is its own.

    parents: in the recipe's order.  base: the place of the one that the others are brought to.  tensors, widths: of each parent, its
    headers, and what its config says of its sizes.  bytes_written, peak_memory: estimates.  memory_use: what is in memory and what on the
    disk meanwhile.  warnings have the notes in them.
    """

    recipe: Recipe
    assembly: Assembly
    parents: tuple[PlannedParent, ...]
    base: int
    family: str
    tensors: tuple[tuple[TensorMeta, ...], ...]
    widths: tuple[Mapping[str, str], ...]
    calibration: CalibrationFacts | None
    tokenizer_donor: int | None
    dtype: str
    carried: tuple[CarriedFile, ...]
    downloads: tuple[Download, ...]
    left: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    bytes_written: int
    peak_memory: int
    memory_use: MemoryUse
    hash: str

    @property
    def config_donor(self) -> int:
        """The base's place among the parents."""
        return self.base

    @property
    def order(self) -> tuple[int, ...]:
        """The places of the parents with the base's first."""
        return (self.base, *(i for i in range(len(self.parents)) if i != self.base))

    @property
    def stored(self) -> Iterator[tuple[int, TensorMeta, bool]]:
        """Every tensor that is read: the parent's place, where it is, and that no adapter has it."""
        return ((i, meta, False) for i, tensors in enumerate(self.tensors) for meta in tensors)

    @property
    def texts(self) -> Mapping[str, str]:
        """Files that are written before the weights are known: none, since the config is written with them."""
        return {}

    @property
    def bytes_read(self) -> int:
        return sum(meta.nbytes for tensors in self.tensors for meta in tensors)

    @property
    def bytes_to_download(self) -> int:
        return sum(file.size for file in self.downloads)

    @property
    def main_dtype(self) -> DType:
        found = DType.from_torch_name(self.dtype)
        assert found is not None
        return found

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"


def head_dict(plan: WholePlan, *own: Mapping[str, Any]) -> dict[str, Any]:
    """What of a plan as JSON says which merge it is, and of which models; own: of each of them what this kind of plan has besides."""
    return {
        "method": plan.assembly.name,
        "method_revision": plan.assembly.revision,
        "hash": plan.hash,
        "recipe": plan.recipe.to_dict(),
        "family": plan.family,
        "parents": [
            {
                "reference": str(parent.reference),
                "role": parent.role,
                "commit": parent.commit,
                "headers": dict(parent.headers),
                **facts,
            }
            for parent, facts in zip(plan.parents, own, strict=True)
        ],
        "base": plan.base,
        "order": list(plan.order),
    }


def files_dict(plan: WholePlan) -> dict[str, Any]:
    """What of a plan as JSON is about files, findings and sizes."""
    return {
        "config_donor": plan.config_donor,
        "tokenizer_donor": plan.tokenizer_donor,
        "carried": [{"name": file.name, "parent": file.parent, "size": file.size} for file in plan.carried],
        "downloads": [{"name": file.name, "parent": file.parent, "size": file.size} for file in plan.downloads],
        "left": list(plan.left),
        "warnings": list(plan.warnings),
        "notes": list(plan.notes),
        "dtype": plan.dtype,
        "bytes_read": plan.bytes_read,
        "bytes_written": plan.bytes_written,
        "bytes_to_download": plan.bytes_to_download,
        "peak_memory": plan.peak_memory,
        "memory": {**asdict(plan.memory_use), "copied": list(plan.memory_use.copied)},
    }
