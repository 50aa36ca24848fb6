"""A model's tensors read from its files one at a time, and written over their places in a copy of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hubmerge.errors import MergeError, NumbersError
from hubmerge.io.shards import Layout
from hubmerge.parents import ParentModel
from hubmerge.symmetry.groups import SymmetrySpec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["StoredWeights", "check_weights", "write_copy", "write_resized"]


class StoredWeights(Mapping[str, "Tensor"]):
    """The tensors of `parent`, each read from its file when it is asked for.  again: what to do where a file has changed meanwhile."""

    def __init__(self, parent: ParentModel, again: str) -> None:
        self.parent = parent
        self._again = again

    def __getitem__(self, name: str) -> Tensor:
        import torch

        meta = self.parent.table[name]
        path = self.parent.source.path(meta.file)
        stored = np.fromfile(path, np.uint8, meta.nbytes, offset=meta.start)
        if stored.size < meta.nbytes:
            raise MergeError(
                f"{path.name} ended inside tensor {name!r}", where=str(path), hint=f"the file changed; {self._again}"
            )
        return torch.from_numpy(stored).view(getattr(torch, meta.dtype.torch_name)).reshape(meta.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.parent.table)

    def __len__(self) -> int:
        return len(self.parent.table)


def check_weights(weights: Mapping[str, Tensor], spec: SymmetrySpec, name: str) -> None:
    """Raise `NumbersError` for the first tensor that units are matched by and that has a number that is not finite.  name: of the model."""
    import torch

    for tensor, symmetry in spec.tensors.items():
        if any(factor.group and spec.groups[factor.group].kind.permutes for factor in symmetry.factors):
            values = weights[tensor]
            if values.is_floating_point() and not bool(torch.isfinite(values).all()):
                raise NumbersError(
                    f"tensor {tensor!r} of {name} has a number that is not finite",
                    where=name,
                    hint="the model is damaged; fetch or save it again",
                )


def write_copy(
    folder: Path, weights: StoredWeights, files: Iterable[str], changed: Callable[[str, Tensor], Tensor]
) -> None:
    """The `files` of a model in `folder`, and over their places in them the tensors that `changed` makes others of.

    changed: is given a tensor's name and the tensor, and returns it itself where it stays as it is; else one of the same shape and type.
    """
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights.parent.source.path(name), folder / name)
    for name, meta in weights.parent.table.items():
        before = weights[name]
        after = changed(name, before)
        if after is not before:
            with (folder / meta.file).open("r+b") as file:
                file.seek(meta.start)
                file.write(_bytes(after))


def write_resized(
    folder: Path, weights: StoredWeights, files: Mapping[str, Layout], changed: Callable[[str, Tensor], Tensor]
) -> None:
    """A copy of a model with other shapes in `folder`.

    files: of the copy, by name.  changed: is given a tensor's name and the tensor, and returns one of the copy's shape and the same type.
    """
    for name, layout in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as file:
            for header in layout.headers.values():  # of one file there is one
                file.write(header)
            for meta in layout.tensors:
                after = changed(meta.name, weights[meta.name])
                assert tuple(after.shape) == meta.shape
                file.seek(meta.start)
                file.write(_bytes(after))


def _bytes(values: Tensor) -> bytes:
    import torch

    return values.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
