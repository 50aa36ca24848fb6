"""Parents of other widths as their copies will be: the base's shapes, at their places in files of the same names.  No weights are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hubmerge.alignment.plan_types import PlannedAlignment
from hubmerge.io.shards import Layout, lay_out
from hubmerge.parents import ParentModel
from zoo_index.tensors import TensorMeta, TensorTable

__all__ = ["as_copied", "copied_files", "own_tensors"]


def own_tensors(models: Sequence[ParentModel], base: int, others: Sequence[int]) -> dict[tuple[int, str], TensorMeta]:
    """(place, name) -> every tensor, as it is stored, of those of the others that have another shape than the base somewhere."""
    shapes = _shapes(models[base])
    return {
        (place, name): meta
        for place in others
        if _shapes(models[place]) != shapes
        for name, meta in models[place].table.items()
    }


def as_copied(models: Sequence[ParentModel], alignment: PlannedAlignment | None) -> list[ParentModel]:
    """The models, those of other shapes with the tables that their aligned copies have."""
    if alignment is None:
        return list(models)
    shapes = _shapes(models[alignment.base])
    changed = alignment.other_shapes
    return [_copied(model, shapes) if i in changed else model for i, model in enumerate(models)]


def _copied(model: ParentModel, shapes: Mapping[str, tuple[int, ...]]) -> ParentModel:
    metas = [meta for layout in copied_files(model, shapes).values() for meta in layout.tensors]
    return replace(model, table=TensorTable.of(metas, model.table.headers))


def copied_files(model: ParentModel, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Layout]:
    """Every weight file of a copy of the model with these shapes: the same tensors in each, in the types they have."""
    found = {}
    for file in model.table.files:
        rows = sorted((meta for meta in model.table.values() if meta.file == file), key=lambda meta: meta.start)
        tensors = [(meta.name, meta.dtype, shapes[meta.name]) for meta in rows]
        layout = lay_out(tensors, 1 + sum(dtype.nbytes(shape) for _, dtype, shape in tensors))
        found[file] = replace(layout, tensors=tuple(replace(meta, file=file) for meta in layout.tensors))
    return found


def _shapes(model: ParentModel) -> dict[str, tuple[int, ...]]:
    return {name: meta.shape for name, meta in model.table.items()}
