"""`align_model`: a model with its units in the order of another model's: other numbers, the same function, a folder to merge."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hubmerge.errors import PlanError
from hubmerge.parents import ParentModel, open_parent
from hubmerge.symmetry import Element, Matching, SymmetrySpec, load_spec, match_weights, transform
from zoo_index.hub import fetch
from zoo_index.reference import ModelRef
from zoo_index.tensors import DType

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ALIGNMENT_NAME", "align_model"]

ALIGNMENT_NAME = "hubmerge_alignment.json"
"""What was aligned with what, and how near they came, beside the weights."""

_TYPES = frozenset({DType.F64, DType.F32, DType.F16, DType.BF16})


def align_model(
    base: str, model: str, out: str | Path, *, seed: int = 0, restarts: int = 2, without: Collection[str] = ()
) -> Matching:
    """Write `model` into the folder `out` with its units in the order in which they are most like those of `base`.

    base, model: folders or names on the Hub, of one architecture and with the same shapes.  The rest as for
    `hubmerge.symmetry.match_weights`.  The new model computes what the old one does, up to the rounding of sums in another
    order: every weight is moved, and where a group allows it negated, and none is changed otherwise.

    Raises `SymmetryError` for an architecture without a table, and `PlanError` for shapes that differ, types that are not
    plain floating-point numbers, or an `out` that exists.
    """
    target = Path(out)
    if target.exists():
        raise PlanError(f"{target} exists", where=str(target), hint="choose another OUT")
    ours, theirs = (open_parent(ModelRef.parse(name)) for name in (base, model))
    spec = _common_spec(ours, theirs, base, model)
    unknown = set(without) - {name for group in spec.groups.values() for name in (group.name, group.row)}
    if unknown:
        raise PlanError(
            f"{model} has no group {min(unknown)!r}",
            where="--without",
            hint=f"`hubmerge symmetry show {model}` lists them",
        )
    for parent in (ours, theirs):
        fetch([(parent.source, name) for name in parent.headers])
    matching = match_weights(spec, Weights(ours), Weights(theirs), seed=seed, restarts=restarts, without=without)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.", suffix=".partial", dir=target.parent))
    try:
        _write(partial, theirs, spec, matching.element)
        (partial / ALIGNMENT_NAME).write_text(
            json.dumps(_record(base, model, seed, restarts, matching), indent=2) + "\n"
        )
        partial.chmod(0o755)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return matching


def _common_spec(ours: ParentModel, theirs: ParentModel, base: str, model: str) -> SymmetrySpec:
    spec, other = (
        load_spec(parent.config, {name: meta.shape for name, meta in parent.table.items()}, where=name)
        for parent, name in ((ours, base), (theirs, model))
    )
    if spec.family != other.family:
        raise PlanError(
            f"{base} is {spec.family}, {model} is {other.family}", where=model, hint="align models of one family"
        )
    for name in dict.fromkeys([*ours.table, *theirs.table]):
        shapes = [parent.table[name].shape if name in parent.table else None for parent in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise PlanError(
                f"tensor {name!r} is {_shown(shapes[0])} in {base} and {_shown(shapes[1])} in {model}",
                where=model,
                hint="only models of the same shapes are aligned",
            )
        dtype = theirs.table[name].dtype
        if dtype.is_float and dtype not in _TYPES:
            raise PlanError(
                f"tensor {name!r} is stored as {dtype.value}", where=model, hint="save the model in bfloat16 first"
            )
    return other


def _shown(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else str(list(shape))


class Weights(Mapping[str, "Tensor"]):
    """A model's tensors, each read from its file when it is asked for."""

    def __init__(self, parent: ParentModel) -> None:
        self._parent = parent

    def __getitem__(self, name: str) -> Tensor:
        import torch

        meta = self._parent.table[name]
        stored = np.fromfile(self._parent.source.path(meta.file), np.uint8, meta.nbytes, offset=meta.start)
        return torch.from_numpy(stored).view(getattr(torch, meta.dtype.torch_name)).reshape(meta.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parent.table)

    def __len__(self) -> int:
        return len(self._parent.table)


def _write(folder: Path, parent: ParentModel, spec: SymmetrySpec, element: Element) -> None:
    """The parent's files, and over their places in them the tensors that change."""
    import torch

    for name in parent.source.files():
        if "/" not in name and (name in parent.headers or not name.endswith((".safetensors", ".bin", ".gguf"))):
            shutil.copyfile(parent.source.path(name), folder / name)
    weights = Weights(parent)
    for name, meta in parent.table.items():
        before = weights[name]
        after = transform(spec, {name: before}, element)[name]
        if after is not before:
            with (folder / meta.file).open("r+b") as file:
                file.seek(meta.start)
                file.write(after.contiguous().view(torch.uint8).numpy().tobytes())


def _record(base: str, model: str, seed: int, restarts: int, matching: Matching) -> dict[str, object]:
    groups = {name: vars(group) for name, group in matching.groups.items()}
    return {
        "model": model, "in_the_order_of": base, "method": "weights", "seed": seed, "restarts": restarts,
        "similarity": matching.similarity, "before": matching.before, "groups": groups,
    }  # fmt: skip
