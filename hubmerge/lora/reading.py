"""A PEFT adapter's folder, or its repository on the Hub -> `Adapter`: factors with the scale that PEFT gives each module."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hubmerge.io.reader import NUMPY, to_singles
from hubmerge.lora.adapter import Adapter, Factors, checked
from hubmerge.lora.headers import AdapterHeader, open_adapter
from zoo_index.hub import fetch
from zoo_index.reference import ModelRef
from zoo_index.source import ModelSource
from zoo_index.tensors import TensorMeta

__all__ = ["numbers_of", "read_adapter"]


def read_adapter(name: str) -> Adapter:
    """Read an adapter's factors into memory, float32.

    name: a folder, or a repository of the Hub.  Raises as `open_adapter` does, and for numbers that are not finite.
    """
    return numbers_of(open_adapter(ModelRef.parse(name)))


def numbers_of(header: AdapterHeader) -> Adapter:
    """The factors of an opened adapter, float32; what is not on this disk is fetched."""
    source = header.source
    fetch([(source, file) for file in header.table.files])
    modules, kernels = {}, {}
    for module, (first, second, scale) in header.modules.items():
        a, b = _numbers(source, first), _numbers(source, second)
        if a.ndim > 2:
            kernels[module] = (a.shape[1:], b.shape[2:])
            a, b = a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1)
        modules[module] = checked(Factors(a, b, scale), module, header.name)
    return Adapter(header.name, modules, header.embeddings, kernels, header.config)


def _numbers(source: ModelSource, meta: TensorMeta) -> NDArray[np.float32]:
    stored = np.fromfile(source.path(meta.file), NUMPY[meta.dtype], meta.numel, offset=meta.start)
    numbers = np.empty(meta.numel, np.float32)
    to_singles(stored, meta.dtype, numbers)
    return numbers.reshape(meta.shape)
