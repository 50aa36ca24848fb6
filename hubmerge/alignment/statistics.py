"""BatchNorm's statistics of a merge estimated anew, in its files: the averaged ones are those of no model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hubmerge.errors import MergeError
from hubmerge.plan_types import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from hubmerge.calibration import Batches

__all__ = ["WrittenStatistics", "estimated_statistics", "statistics_of", "write_statistics"]

_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class WrittenStatistics:
    """The weight files that were changed, and of how many norms."""

    files: tuple[str, ...]
    norms: int


def statistics_of(plan: Plan) -> tuple[str, ...]:
    """The tensors of the merge that are statistics of BatchNorm."""
    return tuple(step.output.name for step in plan.steps if step.output.name.endswith(_STATISTICS))


def estimated_statistics(plan: Plan, folder: Path, batches: Batches) -> dict[str, Tensor]:
    """Those of the merge in `folder`, as it is run on the batches, in float32, by the tensors' names.

    Raises `MergeError` for a model that cannot be loaded or run, or whose statistics are stored under other names than transformers gives
    them.
    """
    from hubmerge.heterogeneous.loading import check_finite, check_they_run, load_in_float32
    from hubmerge.heterogeneous.norms import renormalise
    from hubmerge.model_config import read_folder_config
    from hubmerge.torch_threads import one_torch_thread

    with one_torch_thread():
        model = load_in_float32(folder, read_folder_config(folder), "the merge")
        check_they_run([model], ["the merge"], batches)
        renormalise(model, batches)
        check_finite(model, "the merge", "", "choose other data, or a wider dtype")
    found = model.state_dict()
    other = next((name for name in statistics_of(plan) if name not in found), None)
    if other is not None:
        raise MergeError(
            f"tensor {other!r} has another name in transformers, so that it cannot be estimated anew",
            where=str(plan.parents[plan.config_donor].reference),
            hint="save the models with this transformers first, or leave calibration out",
        )
    return {name: found[name] for name in statistics_of(plan)}


def write_statistics(plan: Plan, folder: Path, batches: Batches) -> WrittenStatistics:
    """Put them into the weight files of `folder`, in the type that these have."""
    import torch

    found = estimated_statistics(plan, folder, batches)
    changed = set()
    for output in (step.output for step in plan.steps if step.output.name in found):
        values = found[output.name].to(getattr(torch, output.dtype.torch_name)).contiguous()
        with (folder / output.file).open("r+b") as file:
            file.seek(output.start)
            file.write(values.view(torch.uint8).numpy().tobytes())
        changed.add(output.file)
    return WrittenStatistics(tuple(sorted(changed)), len(found) // len(_STATISTICS))
