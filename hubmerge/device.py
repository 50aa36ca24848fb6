"""Where whole-matrix methods compute: the processor, or an accelerator of torch's; entrywise methods always on the former."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from hubmerge.errors import MergeError, PlanError

if TYPE_CHECKING:
    import torch

__all__ = ["brought", "check_device", "on_device", "taken_back"]

_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")
_TURN = threading.Lock()


def check_device(device: str) -> None:
    """`PlanError` when `device` (cpu, cuda, cuda:1, mps) is none that this machine and its torch have.  cpu imports nothing."""
    if not _DEVICE.fullmatch(device):
        raise PlanError(f"{device!r} is no device", where="--device", hint="cpu, cuda, cuda:1 or mps")
    if device == "cpu":
        return
    import torch

    if device == "mps":
        if not torch.backends.mps.is_available():
            raise PlanError("torch finds no mps device here", where="--device", hint="leave --device out")
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(device.partition(":")[2] or 0) >= count:
        found = f"torch {torch.__version__} finds {count or 'no'} CUDA device{'s' * (count != 1)} here"
        hint = "leave --device out" if count == 0 else f"cuda:0 to cuda:{count - 1}"
        raise PlanError(found, where=f"--device {device}", hint=hint)


@contextmanager
def on_device(device: str, tensor: str) -> Iterator[None]:
    """Compute one tensor on `device`; one at a time on an accelerator, whose memory holds one step's tensors.

    Workers that wait for their turn have read their inputs already.  Raises `MergeError` when the accelerator's memory does
    not hold the step.
    """
    if device == "cpu":
        yield
        return
    import torch

    with _TURN:
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise MergeError(
                f"tensor {tensor!r} does not fit into the memory of {device}",
                where=tensor,
                hint="merge without --device; it is computed in main memory then",
            ) from error


def brought(bits: npt.NDArray[Any], shape: Sequence[int], device: str) -> torch.Tensor:
    """A chunk of bit patterns (uint16: bfloat16, uint32: float32) as a float32 tensor on `device`; never the chunk itself.

    To CUDA it goes through pinned memory, without waiting, in the bits it has, and is widened there.
    """
    import torch

    stored = torch.from_numpy(bits).view(torch.bfloat16 if bits.itemsize == 2 else torch.float32)
    if device.startswith("cuda"):
        # torch's allocator keeps pinned blocks for reuse, and gives none out again before its copy is done
        stored = torch.empty_like(stored, pin_memory=True).copy_(stored).to(device, non_blocking=True)
        return stored.float().reshape(tuple(shape))
    return stored.to(device=device, dtype=torch.float32, copy=True).reshape(tuple(shape))


def taken_back(merged: torch.Tensor, *, brief: bool) -> npt.NDArray[Any]:
    """A merged tensor's bit patterns in main memory: of bfloat16 where `brief`, else of float32."""
    import torch

    flat = merged.detach().flatten().contiguous()
    if flat.device.type == "mps":  # float32 only: it is rounded in main memory
        flat = flat.cpu()
    flat = flat.to(torch.bfloat16).view(torch.uint16) if brief else flat.view(torch.uint32)
    if flat.device.type == "cuda":
        flat = torch.empty_like(flat, device="cpu", pin_memory=True).copy_(flat)
    return flat.cpu().numpy()
