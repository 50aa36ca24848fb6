"""Blocks of a model as they are run: what each gives, as rows, and noise to run a model on where there is no data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.layers import channels_last
from hubmerge.heterogeneous.side_by_side import shown_together

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["block_output", "blocks_by_and_by", "noise_batches"]


def blocks_by_and_by(model: Any, blocks: Sequence[str], batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """What every one of the modules `blocks` gives for one batch, (rows, channels), as the model comes to it; it is run no further."""
    mask = batch.get("attention_mask")
    for number, (output,) in shown_together([model], [[(name, True) for name in blocks]], batch):
        yield blocks[number], block_output(output, mask)


def noise_batches(base: Any, samples: int, seed: int) -> list[dict[str, Tensor]]:
    """One batch of noise for the model's `forward`: normal pixels, random tokens; at least `samples` of them."""
    import torch

    from hubmerge.symmetry.verify import example_inputs

    drawn = [example_inputs(base, seed + i) for i in range((samples + 1) // 2)]  # two in each
    joined = {name: torch.cat([inputs[name] for inputs in drawn]) for name in drawn[0]}
    return [{name: values.float() if values.is_floating_point() else values for name, values in joined.items()}]


def block_output(output: Any, mask: Tensor | None) -> Tensor:
    """What a layer gives as rows of channels, without tokens that do not count."""
    values = output[0] if isinstance(output, tuple) else output
    rows: Tensor = channels_last(values, "convolution" if values.dim() == 4 else "linear", mask)
    return rows
