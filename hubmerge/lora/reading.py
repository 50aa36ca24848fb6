"""A PEFT adapter's folder, or its repository on the Hub -> `Adapter`: factors with the scale that PEFT gives each module."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hubmerge.errors import PlanError
from hubmerge.io.stored import NUMPY, to_singles
from hubmerge.lora.adapter import Adapter, Factors, checked
from hubmerge.lora.headers import AdapterHeader, open_adapter
from zoo_index.hub import fetch
from zoo_index.reference import ModelRef
from zoo_index.source import ModelSource
from zoo_index.tensors import TensorMeta

__all__ = ["numbers_of", "read_adapter", "stored_numbers"]


def read_adapter(name: str, *, wholes: bool = False) -> Adapter:
    """Read an adapter's numbers into memory, float32.

    name: a folder, or a repository of the Hub.  wholes: see `open_adapter`.  Raises as that does, and for numbers that are not finite.
    """
    return numbers_of(open_adapter(ModelRef.parse(name), wholes=wholes))


def numbers_of(header: AdapterHeader) -> Adapter:
    """The numbers of an opened adapter, float32; what is not on this disk is fetched."""
    source = header.source
    fetch([(source, file) for file in header.table.files])
    modules, kernels = {}, {}
    for module, (first, second, scale) in header.modules.items():
        a, b = stored_numbers(source, first), stored_numbers(source, second)
        if a.ndim > 2:
            kernels[module] = (a.shape[1:], b.shape[2:])
            a, b = a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1)
        modules[module] = checked(Factors(a, b, scale), module, header.name)
    copies, biases, carried = (
        {name: _finite(stored_numbers(source, meta), meta, header.name) for name, meta in metas.items()}
        for metas in (header.copies, header.biases, header.carried)
    )
    scaled = {module: np.float32(modules[module].scale) * bias for module, bias in biases.items()}
    return Adapter(header.name, modules, header.embeddings, kernels, header.config, copies, scaled, carried)


def _finite(numbers: NDArray[np.float32], meta: TensorMeta, name: str) -> NDArray[np.float32]:
    if not np.isfinite(numbers).all():
        raise PlanError(f"{meta.name!r} has numbers that are not finite", where=name, hint="fetch it again")
    return numbers


def stored_numbers(source: ModelSource, meta: TensorMeta) -> NDArray[np.float32]:
    """A tensor of an adapter that is on this disk, float32."""
    stored = np.fromfile(source.path(meta.file), NUMPY[meta.dtype], meta.numel, offset=meta.start)
    numbers = np.empty(meta.numel, np.float32)
    to_singles(stored, meta.dtype, numbers)
    return numbers.reshape(meta.shape)
