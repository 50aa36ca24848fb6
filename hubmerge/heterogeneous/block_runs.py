"""Blocks of a model as they are run: what each gives, as rows, and noise to run a model on where there is no data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.layers import channels_last
from hubmerge.heterogeneous.uses import run_watched

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["block_output", "block_rows", "noise_batches"]


def block_rows(model: Any, blocks: Sequence[str], batch: Batch) -> dict[str, Tensor]:
    """What every one of the modules `blocks` gives for one batch: (rows, channels)."""
    found: dict[str, Tensor] = {}
    mask = batch.get("attention_mask")

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            found[name] = block_output(output, mask)

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in blocks]
    run_watched(model, batch, handles)
    return found


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
