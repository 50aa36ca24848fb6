"""A model's weights in float32 in a file of their own: transformers maps that, where it would hold numbers of another type in memory."""

from __future__ import annotations

import shutil
from pathlib import Path

from hubmerge.alignment.stored import StoredWeights
from hubmerge.io.shards import lay_out
from hubmerge.parents import ParentModel
from zoo_index.tensors import DType

__all__ = ["float32_copy"]


def float32_copy(parent: ParentModel, folder: Path) -> None:
    """Write the parent's config and its tensors into the new `folder`, those of floating-point numbers in float32; one is in memory at a time."""
    import torch

    folder.mkdir(parents=True)
    shutil.copyfile(parent.source.path("config.json"), folder / "config.json")
    table = parent.table
    rows = [(name, DType.F32 if meta.dtype.is_float else meta.dtype, meta.shape) for name, meta in table.items()]
    layout = lay_out(rows, sum(dtype.nbytes(shape) for _, dtype, shape in rows) + 1)
    ((name, header),) = layout.headers.items()
    weights = StoredWeights(parent, "merge again")
    with (folder / name).open("wb") as file:
        file.write(header)
        for meta in sorted(layout.tensors, key=lambda each: each.start):
            values = weights[meta.name]
            values = values.to(torch.float32) if values.is_floating_point() else values
            file.write(values.contiguous().view(-1).view(torch.uint8).numpy().data)
