"""The calibration batches of a merge: whether there are any where some are needed, and cut so that a part can be left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hubmerge.align_choices import is_matched_on_data
from hubmerge.errors import PlanError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["FOLDS", "Batch", "check_batches", "in_folds"]

Batch = Mapping[str, "Tensor"]
"""What a model's `forward` takes, by name."""

FOLDS = 4
"""Parts of the data, of which each is left out once to find a ridge."""


def in_folds(batches: Sequence[Batch]) -> list[Batch]:
    """The batches, cut smaller where there are too few to leave a part of them out.

    A batch whose tensors have not all as many entries, as with more images than texts, stays whole.
    """
    if not batches or len(batches) >= FOLDS:
        return list(batches)
    cut: list[Batch] = []
    for batch in batches:
        size = len(next(iter(batch.values())))
        if any(len(values) != size for values in batch.values()):
            cut.append(batch)
            continue
        step = max(1, -(-size * len(batches) // FOLDS))
        cut += [{name: values[low : low + step] for name, values in batch.items()} for low in range(0, size, step)]
    return cut


def check_batches(batches: Sequence[Batch], base: nn.Module, align: str, fit: str | None, *, renormalise: bool) -> None:
    """Raise `PlanError` where there are no batches for what needs some."""
    from torch.nn.modules.batchnorm import _BatchNorm

    has_statistics = any(isinstance(module, _BatchNorm) for module in base.modules())
    needs = {
        f'align="{align}"': is_matched_on_data(align),
        f'fit="{fit}"': fit is not None,
        "renormalise=True": renormalise and has_statistics,
    }
    needed = next((what for what, is_needed in needs.items() if is_needed), None)
    if needed is not None and not batches:
        raise PlanError(
            f"{needed} needs calibration data, and there are no batches",
            where="batches",
            hint='give batches, or align="weights", fit=None, renormalise=False, which need none',
        )
