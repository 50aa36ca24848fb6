"""`intruder_dimensions`: which leading directions of models their base has not; before and after a merge.

Source: Shuttleworth et al. 2024, LoRA vs full fine-tuning: an illusion of equivalence, arXiv:2410.21228, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge.cores import cores
from hubmerge.deltas.adapters_alone import on_its_base
from hubmerge.deltas.beside import beside, opened
from hubmerge.deltas.directions import BaseDirections, leading
from hubmerge.deltas.intruders_record import Directions, Intruders
from hubmerge.deltas.linear_weights import LinearWeight, chosen, linear_layers
from hubmerge.deltas.reading import whole_tensors
from hubmerge.errors import NumbersError, PlanError
from hubmerge.io.input_files import InputFiles
from hubmerge.plan_types import Operand, Step
from hubmerge.torch_threads import one_torch_thread

__all__ = ["intruder_dimensions"]


def intruder_dimensions(
    base: str | Path,
    models: Sequence[str | Path],
    *,
    top: int = 10,
    threshold: float = 0.6,
    modules: Sequence[str] = (),
    jobs: int | None = None,
) -> Intruders:
    """Count the leading left singular vectors of models that are like no left singular vector of the base.

    base, models: folders, names on the Hub, either with an adapter; adapters alone are put on the base.  Of every weight of a linear layer
    or convolution, (out, in), the `top` leading vectors are looked at: one whose cosines with all of the base's have magnitudes
    below `threshold` is an intruder.  modules: which, by name, end of a name or pattern.  jobs: threads, default the cores at hand.

    Cost: for every matrix one eigendecomposition of its smaller side in float64, O(side^3), for all models together, and some Lanczos
    iterations for each; every thread holds the base's matrix, its eigenvectors and one model's matrix.

    Raises `PlanError` for models that do not fit the base and for numbers out of range, before a weight is read; `NumbersError` for a
    number that is not finite.
    """
    if isinstance(models, str | Path):
        raise PlanError("models must be a list", where="models", hint=f"write [{str(models)!r}]")
    if not models:
        raise PlanError("one model or more is compared with its base", where="models", hint="name at least one")
    if top < 1 or not 0 < threshold <= 1:
        what = f"top must be 1 or more, got {top}" if top < 1 else f"threshold must be in (0, 1], got {threshold}"
        raise PlanError(
            what, where="--top" if top < 1 else "--threshold", hint=f"{10 if top < 1 else 0.6} is the default"
        )
    names = [str(model) for model in models]
    first, *others = opened([str(base), *(on_its_base(model, base) for model in models)], [str(base), *names])
    found = beside(first, others)
    layers = linear_layers(first)
    weights = chosen(layers.weights, modules)
    steps = [step for step in found.steps if step.output.name in weights]
    if not steps:
        raise PlanError(
            "it has no linear layer that all models have", where=str(base), hint="name fine-tunes of this base"
        )

    with found.files() as files, one_torch_thread(), ThreadPoolExecutor(jobs or cores()) as pool:

        def look(step: Step) -> Directions:
            return _directions(step, files, weights[step.output.name], top, (str(base), *names))

        tensors = tuple(pool.map(look, steps))
    return Intruders(tuple(names), str(base), top, threshold, tensors, (*found.notes, *layers.notes))


def _directions(step: Step, files: InputFiles, weight: LinearWeight, top: int, names: Sequence[str]) -> Directions:
    origin, *operands = step.inputs
    known = BaseDirections(_matrix(step, origin, files, weight, names[0]))
    values, cosines = [], []
    for operand, name in zip(operands, names[1:], strict=True):
        vectors, own = leading(_matrix(step, operand, files, weight, name), top)
        values.append(own)
        cosines.append(known.largest_cosines(vectors))
    return Directions(step.output.name, tuple(values), tuple(cosines))


def _matrix(step: Step, operand: Operand, files: InputFiles, weight: LinearWeight, name: str) -> npt.NDArray[Any]:
    """One model's matrix as (out, in), float64."""
    (values,) = whole_tensors(replace(step, operands=(operand,), base=None), files)
    if not np.isfinite(values).all():
        raise NumbersError(
            f"tensor {step.output.name!r} has a number that is not finite",
            where=name,
            hint="the model is damaged; fetch or save it again",
        )
    turned = values.T if weight.transposed else values.reshape(values.shape[0], -1)
    return turned.astype(np.float64)
