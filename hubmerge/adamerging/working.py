"""The model that the descent runs: its weights are base + sum of coefficient * delta, its gradients become those of the coefficients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hubmerge.adamerging.changes import Change
from hubmerge.errors import NumbersError, PlanError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["WorkingModel", "head_of"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WorkingModel:
    """A model whose weights follow coefficients.

    rows: the model's parameters that follow, by the row of their coefficients; base: their values at coefficients 0, float32; deltas: for
    every parent what is added to each at 1.
    """

    model: nn.Module
    names: tuple[str, ...]
    base: tuple[Tensor, ...]
    deltas: tuple[tuple[Change, ...], ...]

    def parameters(self) -> tuple[Any, ...]:
        own = dict(self.model.named_parameters())
        return tuple(own[name] for name in self.names)

    def follow(self, coefficients: Array) -> None:
        """Set the weights.  coefficients: (parameters, parents)."""
        import torch

        with torch.no_grad():
            for i, parameter in enumerate(self.parameters()):
                parameter.copy_(self.base[i])
                for own, share in zip(self.deltas, coefficients[i], strict=True):
                    own[i].add_to(parameter, float(share))

    @contextmanager
    def gradients(self, skip: Sequence[str] = ()) -> Iterator[Array]:
        """While it lasts, backward adds <dL/dW, delta> of every parameter and parent to what is yielded, and frees the gradient at once.

        skip: parameters that the loss is not asked about.  `NumbersError` for a gradient that is not finite.
        """
        found = np.zeros((len(self.names), len(self.deltas)))
        with ExitStack() as stack:
            for parameter in self.model.parameters():
                parameter.requires_grad_(False)
            for i, parameter in enumerate(self.parameters()):
                if self.names[i] not in skip:
                    parameter.requires_grad_(True)
                    handle = parameter.register_post_accumulate_grad_hook(self._hook(i, found))
                    stack.callback(handle.remove)
            yield found

    def _hook(self, row: int, found: Array) -> Callable[[Any], None]:
        def reduce(parameter: Any) -> None:
            gradient, parameter.grad = parameter.grad, None
            for k, own in enumerate(self.deltas):
                found[row, k] += own[row].dot(gradient)
            if not np.isfinite(found[row]).all():
                raise NumbersError(
                    f"the gradient of tensor {self.names[row]!r} is not finite",
                    where="calibration",
                    hint="a row of the calibration data is damaged, or the coefficients are too large",
                )

        return reduce


def head_of(model: Any, batch: Mapping[str, Tensor], whose: str) -> tuple[str, ...]:
    """The names of the parameters of the module that gives the logits.

    `PlanError` where no module with parameters gives them as they are, and for one whose parameters another module has, too.
    """
    import torch

    given: list[tuple[str, Any]] = []

    def listen(name: str) -> Callable[..., None]:
        def heard(_module: Any, _inputs: Any, output: Any) -> None:
            given.append((name, output))

        return heard

    with ExitStack() as stack, torch.no_grad():
        for name, module in model.named_modules():
            if next(module.parameters(recurse=False), None) is not None:
                stack.callback(module.register_forward_hook(listen(name)).remove)
        from hubmerge.sensitivity.answers import answers_of

        logits = answers_of(model, batch, whose)
    found = [name for name, output in given if output is logits]
    if not found:
        raise PlanError(
            "no module of it gives the logits as they are, so its head is not known",
            where=whose,
            hint="write heads: merged",
        )
    head = model.get_submodule(found[-1])
    everywhere = [id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False)]
    if any(everywhere.count(id(parameter)) > 1 for parameter in head.parameters(recurse=False)):
        raise PlanError(
            f"its head {found[-1]} is tied to another module, and cannot be exchanged alone",
            where=whose,
            hint="write heads: merged",
        )
    return tuple(f"{found[-1]}.{name}" if found[-1] else name for name, _ in head.named_parameters(recurse=False))
