"""What a layer gives when its weights are changed and its input is not: the drift of its output, and the loss of the whole model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.block_runs import block_output
from hubmerge.heterogeneous.held_values import bytes_held, held_on_disk
from hubmerge.heterogeneous.model_copies import sharing_copy

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hubmerge.heterogeneous.scratch import Scratch

__all__ = ["LayerCall", "drift", "layer_calls", "mean_loss", "reference_of"]


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer in the base: what it was given, and what it gave, (rows, channels), without tokens that do not count."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    mask: Tensor | None
    output: Tensor


def reference_of(base: Any, *, fresh_statistics: bool) -> Any:
    """A copy of the base to measure with, in evaluation mode and without a cache of keys; it shares its weights.

    fresh_statistics: BatchNorm normalises by the batch that it sees, as it does while its statistics are estimated anew.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    model = sharing_copy(base).eval()
    for module in model.modules():
        if getattr(getattr(module, "config", None), "use_cache", None):  # a decoder has a config of its own
            module.config.use_cache = False  # a layer that is called twice would find its own keys there
        if isinstance(module, _BatchNorm):
            module.train(fresh_statistics)
    return model


def layer_calls(
    reference: Any,
    layer: str,
    batches: Iterable[Batch],
    noise: int | None = None,
    scratch: Scratch | None = None,
) -> list[LayerCall]:
    """The calls of the module `layer` in the reference, one for every batch; no further than to this layer is run.

    noise: a seed; then the layer is given normal noise of its input's shape instead.  scratch: takes what the calls hold beyond its room.
    """
    import torch

    module = reference.get_submodule(layer)
    random = None if noise is None else torch.Generator().manual_seed(noise)
    calls, held = [], 0
    for batch in batches:
        args, kwargs = _given(reference, module, batch)
        if random is not None:
            args, kwargs = _noisy(args, kwargs, random)
        with torch.no_grad():
            output = module(*args, **kwargs)
        mask = batch.get("attention_mask")
        own = (args, kwargs, mask, block_output(output, mask))
        held += bytes_held(own)
        if scratch is not None and held > scratch.room:
            own = held_on_disk(own, scratch)
        calls.append(LayerCall(*own))
    return calls


def drift(reference: Any, layer: str, tensors: Mapping[str, Tensor], calls: Sequence[LayerCall]) -> float:
    """||f_M(x) - f_b(x)|| / ||f_b(x)|| over all calls, Frobenius norms; 0 for the base's own tensors.

    tensors: what the layer's tensors are replaced with, by their names in it; they are not changed.  Infinite where f_M is not a number.
    """
    import torch
    from torch.func import functional_call

    module = reference.get_submodule(layer)
    apart = norm = 0.0
    for call in calls:
        own = {name: values.clone() for name, values in tensors.items()}  # BatchNorm counts in its buffers
        with torch.no_grad():
            output = block_output(functional_call(module, own, call.args, dict(call.kwargs)), call.mask)
        apart += float((output - call.output).double().square().sum())
        norm += float(call.output.double().square().sum())
    if apart == 0:
        return 0.0
    return (apart / norm) ** 0.5 if norm > 0 and apart < float("inf") else float("inf")


def mean_loss(model: Any, probe: Sequence[Batch]) -> float:
    """The model's own loss over batches with labels, the mean by their sizes; `PlanError` where it gives none."""
    import torch

    total, rows = 0.0, 0
    for batch in probe:
        before = getattr(model.config, "problem_type", None)
        with torch.no_grad():
            loss = model(**batch).loss
        if before is None and getattr(model.config, "problem_type", None) is not None:
            model.config.problem_type = None  # transformers writes down which loss it took for the labels
        if loss is None:
            raise PlanError("the model gives no loss on the probe", where="probe", hint="give batches with labels")
        size = len(next(iter(batch.values())))
        total += float(loss) * size
        rows += size
    return total / rows


class _ReachedError(Exception):
    """The layer was called: there is no need to go on."""


def _given(model: Any, module: nn.Module, batch: Batch) -> tuple[tuple[Any, ...], dict[str, Any]]:
    import torch

    kept: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    with torch.no_grad(), _stopping(module, kept):
        try:
            model(**batch)
        except _ReachedError:
            return kept[0]
    raise RuntimeError("the layer is not used")


@contextmanager
def _stopping(module: nn.Module, kept: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> Iterator[None]:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept.append((args, kwargs))
        raise _ReachedError

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _noisy(args: tuple[Any, ...], kwargs: Mapping[str, Any], random: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with noise for the layer's input, its first argument."""
    import torch

    def drawn(values: Tensor) -> Tensor:
        return torch.randn(values.shape, generator=random, dtype=values.dtype)

    if args:
        return (drawn(args[0]), *args[1:]), dict(kwargs)
    return args, {**kwargs, "hidden_states": drawn(kwargs["hidden_states"])}
