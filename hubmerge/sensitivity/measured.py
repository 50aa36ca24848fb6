"""What Sens-Merging measures of models on data: sums of |w * gradient| by tensor, and distances between logits.

One model is in memory at a time.  A gradient is summed up by a hook as soon as backward has made it, and freed; logits of a model on its
own data go through a temporary file, so that every other model is compared with them without running the first again.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hubmerge.errors import MergeError, NumbersError, PlanError
from hubmerge.heterogeneous.loading import check_finite
from hubmerge.sensitivity.answers import check_labels, logits_of, loss_of, rows_of
from hubmerge.wrapper import ParentModels

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

__all__ = ["Measured", "measured"]


@dataclass(frozen=True)
class Measured:
    """sums: for every parent by tensor the mean over its own samples of sum |w * dL/dw|; a tensor that the loss does not depend on has 0.

    distances: (parents, parents), [t, s]: the mean over the samples of s, of the mean over tokens, of |z_t - z_s|_2.  losses: each
    parent's mean loss on its own data; samples: how many it has.
    """

    sums: tuple[Mapping[str, float], ...]
    distances: npt.NDArray[np.float64]
    losses: tuple[float, ...]
    samples: tuple[int, ...]


def measured(models: ParentModels, note: Callable[[str], None], scratch: Path | None) -> Measured:
    """Run every parent on its own data, forwards and backwards, and then on the others', forwards, row by row.

    Raises `PlanError` for labels that are missing or wrong, `MergeError` for a model that cannot be run, `NumbersError` for a gradient or
    a logit that is not finite, with the tensor and the parent.
    """
    parents = len(models.names)
    distances = np.zeros((parents, parents))
    for place, name in enumerate(models.names):
        check_labels(models.batches(place), f"calibration of {name}")
    with _files(parents, scratch) as files, _quickly_collected():
        own: list[_Own] = []
        for place, name in enumerate(models.names):
            note(f"{name}: sensitivities on its own data, forwards and backwards")
            own.append(_own(models, place, files[place]))
            gc.collect()  # models hold themselves in circles, and the next one needs the room
        for place, name in enumerate(models.names if parents > 1 else ()):
            note(f"{name}: logits on the data of the others")
            model = models.model(place)
            for other in range(parents):
                if other != place:
                    distances[place, other] = _distance(models, model, (place, other), files[other], own[other].shapes)
            del model
            gc.collect()
    return Measured(
        tuple(each.sums for each in own),
        distances,
        tuple(each.loss for each in own),
        tuple(len(each.shapes) for each in own),
    )


@dataclass(frozen=True)
class _Own:
    """A parent on its own data.  shapes: of the logits of every sample, which are in a file."""

    sums: Mapping[str, float]
    loss: float
    shapes: tuple[tuple[int, ...], ...]


@contextmanager
def _quickly_collected() -> Iterator[None]:
    """While it lasts, `gc.collect` looks at what was made since: going through all of torch and transformers takes longer than small models."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _files(count: int, folder: Path | None) -> Iterator[list[IO[bytes]]]:
    with ExitStack() as stack:
        yield [stack.enter_context(TemporaryFile(dir=folder)) for _ in range(count)]


def _own(models: ParentModels, place: int, file: IO[bytes]) -> _Own:
    model, name = models.model(place), models.names[place]
    known = models.tensor_names(model)
    sums = dict.fromkeys(known.values(), 0.0)
    total = 0.0
    shapes: list[tuple[int, ...]] = []
    with _reduced(model, known, name, sums):
        for row in rows_of(models.batches(place)):
            logits = logits_of(model, row, name)
            loss = loss_of(model, row, logits, f"calibration of {name}")
            logits.detach().float().cpu().contiguous().numpy().tofile(file)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            shapes.append(tuple(logits.shape))
    if not shapes:
        raise PlanError("the calibration data is empty", where=f"calibration of {name}", hint="give at least one row")
    return _Own({tensor: value / len(shapes) for tensor, value in sums.items()}, total / len(shapes), tuple(shapes))


@contextmanager
def _reduced(model: nn.Module, known: Mapping[str, str], whose: str, sums: dict[str, float]) -> Iterator[None]:
    """While it lasts, every gradient that backward makes is added to `sums` as sum |w * gradient|, and freed."""

    def hook(tensor: str) -> Callable[[Any], None]:
        def reduce(parameter: Any) -> None:
            gradient, parameter.grad = parameter.grad, None
            found = float(gradient.mul_(parameter.detach()).abs_().sum(dtype=_double()))
            if not np.isfinite(found):
                where, hint = f"calibration of {whose}", "the parent is damaged, or a row of its calibration data is"
                check_finite(model, whose, where, hint)
                raise NumbersError(
                    f"the gradient of tensor {tensor!r} of {whose} is not finite", where=where, hint=hint
                )
            sums[tensor] += found

        return reduce

    handles = []
    for name, parameter in model.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(name in known and parameter.is_floating_point())
        if parameter.requires_grad:
            handle = parameter.register_post_accumulate_grad_hook(hook(known[name]))  # type: ignore[no-untyped-call]
            handles.append(handle)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _double() -> Any:
    import torch

    return torch.float64


def _distance(
    models: ParentModels, model: nn.Module, pair: tuple[int, int], file: IO[bytes], shapes: Sequence[tuple[int, ...]]
) -> float:
    """pair: the place of `model`, and that of the parent whose logits on its own data are in `file`; the mean over its samples."""
    import torch

    name, whose = (models.names[place] for place in pair)
    total = 0.0
    file.seek(0)
    with torch.no_grad():
        for row, shape in zip(rows_of(models.batches(pair[1])), shapes, strict=True):
            logits = logits_of(model, row, name).float().cpu()
            if tuple(logits.shape) != shape:
                raise MergeError(
                    f"its logits are {list(logits.shape)} where those of {whose} are {list(shape)}",
                    where=name,
                    hint="only models of one vocabulary, or of the same classes, are compared",
                )
            stored = torch.from_numpy(np.fromfile(file, np.float32, logits.numel()))
            found = float((logits - stored.reshape(shape)).double().norm(dim=-1).mean())
            if not np.isfinite(found):
                raise NumbersError(
                    f"logits of {name} or {whose} are not finite",
                    where=f"calibration of {whose}",
                    hint="one of the two is damaged, or a row of the data is",
                )
            total += found
    return total / len(shapes)
