"""`extract_adapter`: a LoRA adapter out of a fine-tune, tensor by tensor.

The nearest matrix of a rank is that of its leading singular triplets (Eckart and Young 1936, The approximation of one matrix by another
of lower rank), so every module gets those of its change.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hubmerge.cores import cores
from hubmerge.deltas.beside import opened
from hubmerge.deltas.extraction_choice import Choice, choose
from hubmerge.deltas.extraction_record import Extraction
from hubmerge.deltas.extraction_writing import Change, write_extraction
from hubmerge.deltas.linear_weights import LinearWeight
from hubmerge.deltas.reading import sum_of_squares, sums_of_squares, whole_tensors
from hubmerge.deltas.truncation import Solver, Truncated, truncated
from hubmerge.errors import MergeError, NumbersError, PlanError
from hubmerge.io.input_files import InputFiles
from hubmerge.lora.low_rank import reduced
from hubmerge.plan_types import Step
from hubmerge.staged import random_key
from hubmerge.torch_threads import one_torch_thread

__all__ = ["extract_adapter"]

_RANK = 16

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Wanted:
    rank: int | None
    energy: float | None
    solver: Solver
    seed: int
    save_rest: bool


def extract_adapter(
    base: str,
    fine_tuned: str,
    out: str | Path,
    *,
    rank: int | None = None,
    energy: float | None = None,
    solver: Solver = "auto",
    modules: Sequence[str] = (),
    alpha: float | None = None,
    save_rest: bool = False,
    seed: int = 0,
    jobs: int | None = None,
) -> Extraction:
    """Write a LoRA adapter into the new folder `out` that makes of `base` what is nearest to `fine_tuned`.

    base, fine_tuned: folders or names on the Hub, either with an adapter (``base+adapter``).  rank: of each module's factors, at most;
    16 where neither it nor `energy` is given.  energy: of every module's change, the share of its sum of squares that is kept, by as few
    directions as have it.  solver: see `truncated`.  modules: which get factors, by name, end of a name or pattern; default all linear
    layers and convolutions.  alpha: lora_alpha of the config, for tools that want one; B is scaled so that the change is the same.
    save_rest: whole tensors of what changed beside them, where PEFT can have it.  jobs: threads, default the cores at hand.

    Memory: for every thread two tensors, then their difference and its singular vectors; and the adapter.  The bytes do not depend on `jobs`.

    Raises `PlanError` before a weight is read, for models that do not fit, choices that do not go together and an `out` that holds
    something; `NumbersError` for numbers that are not finite; `MergeError` where nothing changed that factors could have.
    """
    target = Path(out)
    _check(target, rank, energy, alpha)
    first, tuned = opened([base, fine_tuned], [base, fine_tuned])
    choice = choose(first, tuned, modules)
    wanted = _Wanted(_RANK if rank is None and energy is None else rank, energy, solver, seed, save_rest)
    with choice.models.files() as files, one_torch_thread(), ThreadPoolExecutor(jobs or cores()) as pool:
        changes = list(pool.map(lambda step: _change(step, files, choice, wanted), choice.models.steps))
    for change in changes:
        if not np.isfinite(change.squares + change.base):
            broken = fine_tuned if np.isfinite(change.base) else base
            message = f"tensor {change.tensor!r} has a number that is not finite"
            raise NumbersError(message, where=broken, hint="the model is damaged; fetch or save it again")
    if not any(change.factors for change in changes):
        moved = [change.tensor for change in changes if change.squares]
        if not moved:
            raise MergeError(
                f"it has the numbers of {base} everywhere, so there is nothing to extract",
                where=fine_tuned,
                hint="name the fine-tune second",
            )
        raise MergeError(
            f"of what may have factors nothing changed; {len(moved)} other tensors did, {moved[0]!r} the first",
            where=fine_tuned,
            hint="choose other --modules; a LoRA changes linear layers only",
        )
    return write_extraction(target, choice, changes, alpha=alpha, save_rest=save_rest, seed=seed)


def _check(out: Path, rank: int | None, energy: float | None, alpha: float | None) -> None:
    faults = []
    if rank is not None and rank < 1:
        faults.append(PlanError(f"rank must be 1 or more, got {rank}", where="--rank", hint=f"{_RANK} is usual"))
    if energy is not None and not 0 < energy <= 1:
        faults.append(PlanError(f"energy must be in (0, 1], got {energy}", where="--energy", hint="95 % is 0.95"))
    if alpha is not None and not 0 < alpha < np.inf:
        hint = "leave it out for each module's rank; the change is the same"
        faults.append(PlanError(f"alpha must be above 0, got {alpha}", where="--alpha", hint=hint))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        faults.append(PlanError(f"{out} holds something already", where=str(out), hint="name a new folder"))
    if faults:
        raise PlanError.of(faults)


def _change(step: Step, files: InputFiles, choice: Choice, wanted: _Wanted) -> Change:
    name = step.output.name
    weight = choice.factored.get(name)
    if weight is None and not wanted.save_rest:
        return Change(name, *sums_of_squares(step, files))
    base, tuned = whole_tensors(step, files)
    squares = sum_of_squares(base)
    delta = np.subtract(tuned, base, out=base)
    own = sum_of_squares(delta)
    if weight is None:
        return Change(name, own, squares, values=tuned if own or tuned.ndim < 2 else None)
    if not own or not np.isfinite(own + squares):
        return Change(name, own, squares)
    del base, tuned
    found = _triplets(delta, weight, wanted, name)
    factors = reduced((found.left, found.values, found.right), found.rank).factors
    return Change(name, own, squares, factors, found.energy, found.solver)


def _triplets(delta: Floats, weight: LinearWeight, wanted: _Wanted, name: str) -> Truncated:
    import torch

    matrix = delta.T if weight.transposed else delta.reshape(delta.shape[0], -1)
    seed = int(random_key(wanted.seed, 0, name) >> np.uint64(1))
    return truncated(torch.from_numpy(matrix), wanted.rank, wanted.energy, wanted.solver, seed)
