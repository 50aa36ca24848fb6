"""A CUDA device that is none: tensors that say they are on `cuda:0`, and are computed in main memory with the same numbers.

What a GPU refuses is refused here: an operation on tensors of both places, numpy's view of one that is away, pinned memory that
is not main memory.  Rounding, memory and waiting are those of the processor: only a GPU shows its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Self

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from hubmerge.device import on_device

__all__ = ["AWAY", "Ledger", "simulate_gpu", "simulated_gpu"]

AWAY = torch.device("cuda", 0)
_BETWEEN = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


@dataclass
class Ledger:
    """What the device did.  computed: its operations.  pinned: how many pinned tensors there were.  brought, fetched: bytes."""

    computed: list[str] = field(default_factory=list)
    pinned: int = 0
    brought: int = 0
    fetched: int = 0


class _Away(torch.Tensor):
    """A tensor that says it is away; what it holds is `here`.  Parts and single numbers: torch without CUDA cannot take them itself."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> Self:
        made = torch.Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype, device=AWAY
        )
        made.here = here
        return made

    def __getitem__(self, index: Any) -> _Away:
        return _Away(self.here[tree_map(_held, index)])

    def __float__(self) -> float:
        return float(self.here)

    def __int__(self) -> int:
        return int(self.here)

    def __bool__(self) -> bool:
        return bool(self.here)

    @classmethod
    def __torch_dispatch__(cls, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{function} outside of the simulated device")


class _Gpu(TorchDispatchMode):
    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)]
        away = [each for each in tensors if isinstance(each, _Away)]
        here = [each for each in tensors if not isinstance(each, _Away) and each.dim()]
        if away and here and function not in _BETWEEN:
            raise RuntimeError(f"Expected all tensors to be on the same device: {function}")
        asked = kwargs.get("device")
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        if kwargs.pop("pin_memory", False):
            assert asked is None or asked.type == "cpu", "only main memory is pinned"
            self.ledger.pinned += 1
        held = {id(each.here): each for each in away}
        given = function(*tree_map(_held, args), **tree_map(_held, kwargs))
        if function is torch.ops.aten.copy_.default:
            stays, source = isinstance(args[0], _Away), args[1]
        else:
            stays, source = bool(away) if asked is None else asked.type == "cuda", args[0] if args else None
        if function in _BETWEEN and stays != isinstance(source, _Away):
            self._moved(_held(source).nbytes, there=stays)
        elif away:
            self.ledger.computed.append(str(function))
        return tree_map(lambda each: _placed(each, held, stays=stays), given)

    def _moved(self, size: int, *, there: bool) -> None:
        if there:
            self.ledger.brought += size
        else:
            self.ledger.fetched += size


def _held(value: Any) -> Any:
    return value.here if isinstance(value, _Away) else value


def _placed(value: Any, held: dict[int, _Away], *, stays: bool) -> Any:
    if not isinstance(value, torch.Tensor) or not stays:
        return value
    return held[id(value)] if id(value) in held else _Away(value)


@contextmanager
def simulated_gpu(ledger: Ledger) -> Iterator[None]:
    """Inside, in this thread, `cuda:0` is there; `torch.cuda` itself says what it said before."""
    with _Gpu(ledger):
        yield


def simulate_gpu(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Matrix methods that are asked for `cuda:0` compute there; returns what the device did."""
    ledger = Ledger()

    @contextmanager
    def on_simulated(device: str, tensor: str) -> Iterator[None]:
        with on_device(device, tensor), simulated_gpu(ledger) if device.startswith("cuda") else nullcontext():
            yield

    monkeypatch.setattr("hubmerge.compute.on_device", on_simulated)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    return ledger
