"""`align_model`: a model with its units in the order of another model's: other numbers, the same function, a folder to merge."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hubmerge.carry import files_of_copy
from hubmerge.errors import MergeError, PlanError
from hubmerge.parents import ParentModel, open_parent, refuse_adapter
from hubmerge.symmetry import Element, Group, Matching, SymmetrySpec, load_spec, match_weights, transform
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

    base, model: folders or names on the Hub, of one architecture, with the same shapes and the same groups.  The rest as for
    `hubmerge.symmetry.match_weights`.  The new model computes what the old one does, up to the rounding of sums in another
    order: every weight is moved, and where a group allows it negated, and none is changed otherwise.  What goes along with
    the weights is what goes along with a merge's, and the model's card.

    Raises `SymmetryError` for an architecture without a table; `PlanError` for adapters, models whose shapes or groups differ,
    types that are not plain floating-point numbers, or an `out` that exists; `MergeError` for what cannot be read or written.
    """
    target = Path(out)
    with _disk_faults(target):
        if target.exists():
            raise PlanError(f"{target} exists", where=str(target), hint="choose another OUT")
        ours, theirs = _opened(base), _opened(model)
        spec = _common_spec(ours, theirs, base, model)
        _check_names(spec, without, model)
        files = files_of_copy(theirs)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.", suffix=".partial", dir=target.parent))
        try:
            fetch(
                [(parent.source, name) for parent, names in ((ours, ours.headers), (theirs, files)) for name in names]
            )
            matching = match_weights(
                spec, _Weights(ours), _Weights(theirs), seed=seed, restarts=restarts, without=without
            )
            _write(partial, theirs, files, spec, matching.element)
            record = _record(base, model, seed, restarts, matching)
            (partial / ALIGNMENT_NAME).write_text(json.dumps(record, indent=2) + "\n")
            partial.chmod(0o755)
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return matching


@contextmanager
def _disk_faults(out: Path) -> Iterator[None]:
    """What the system refuses, as a `MergeError` that says where."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise MergeError("the disk is full", where=str(out), hint="free some space and align again") from error
        raise MergeError(
            f"the model cannot be aligned ({error.strerror or error})",
            where=str(error.filename or out),
            hint="check the file or folder and its permissions",
        ) from error


def _check_names(spec: SymmetrySpec, without: Collection[str], model: str) -> None:
    unknown = spec.unknown(without)
    if unknown:
        raise PlanError(
            f"{model} has no group {min(unknown)!r}",
            where="--without",
            hint=f"`hubmerge symmetry show {model}` lists them",
        )


def _opened(name: str) -> ParentModel:
    reference = ModelRef.parse(name)
    refuse_adapter(reference, "a model with an adapter is not aligned")
    return open_parent(reference)


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
        for parent, whose in ((ours, base), (theirs, model)):
            dtype = parent.table[name].dtype
            if dtype.is_float and dtype not in _TYPES:
                raise PlanError(
                    f"tensor {name!r} is stored as {dtype.value}", where=whose, hint="save the model in bfloat16 first"
                )
    difference = _first_difference(spec, other)
    if difference is not None:
        what, left, right = difference
        raise PlanError(
            f"{what} is {left} in {base} and {right} in {model}",
            where=model,
            hint="only models with the same groups are aligned; compare their config.json",
        )
    return other


def _first_difference(ours: SymmetrySpec, theirs: SymmetrySpec) -> tuple[str, str, str] | None:
    """The first group, or else the first tensor by its axes, that is not the same in both, and what it is in each."""
    for name in dict.fromkeys([*ours.groups, *theirs.groups]):
        groups = [_group_text(spec.groups.get(name)) for spec in (ours, theirs)]
        if groups[0] != groups[1]:
            return f"group {name!r}", groups[0], groups[1]
    for name, tensor in ours.tensors.items():
        if tensor.axes != theirs.tensors[name].axes:
            return f"tensor {name!r}", str(tensor), str(theirs.tensors[name])
    return None


def _group_text(group: Group | None) -> str:
    if group is None:
        return "not there"
    inside = f" in each {group.outer}" if group.outer else ""
    norm = f" under {group.norm} norm" if group.norm else ""
    return f"{group.kind.value} of {group.size}{inside}{norm}"


def _shown(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else str(list(shape))


class _Weights(Mapping[str, "Tensor"]):
    """A model's tensors, each read from its file when it is asked for."""

    def __init__(self, parent: ParentModel) -> None:
        self._parent = parent

    def __getitem__(self, name: str) -> Tensor:
        import torch

        meta = self._parent.table[name]
        path = self._parent.source.path(meta.file)
        stored = np.fromfile(path, np.uint8, meta.nbytes, offset=meta.start)
        if stored.size < meta.nbytes:
            raise MergeError(
                f"{path.name} ended inside tensor {name!r}", where=str(path), hint="the file changed; align again"
            )
        return torch.from_numpy(stored).view(getattr(torch, meta.dtype.torch_name)).reshape(meta.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parent.table)

    def __len__(self) -> int:
        return len(self._parent.table)


def _write(folder: Path, parent: ParentModel, files: Iterable[str], spec: SymmetrySpec, element: Element) -> None:
    """The parent's files, and over their places in them the tensors that change."""
    import torch

    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(parent.source.path(name), folder / name)
    weights = _Weights(parent)
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
