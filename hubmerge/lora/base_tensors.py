"""The base of adapters as far as they need it: single tensors, by the names that adapters have for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hubmerge.adapters import place_of
from hubmerge.errors import PlanError
from hubmerge.io.input_files import InputFiles
from hubmerge.io.reader import StepReader
from hubmerge.io.stored import singles
from hubmerge.io.workspace import Workspace
from hubmerge.parents import ParentModel, open_parent, parent_of, refuse_adapter
from hubmerge.plan_types import Operand, PlannedParent, Step
from zoo_index.hub import fetch
from zoo_index.reference import ModelRef
from zoo_index.tensors import TensorMeta

__all__ = ["AdapterBase", "tensors_of", "tensors_of_base"]

Array = NDArray[np.float32]


class AdapterBase(Protocol):
    """The base's tensors, read one at a time."""

    @property
    def name(self) -> str: ...

    def meta(self, name: str) -> TensorMeta | None:
        """The tensor that an adapter calls so; None where the base has none."""
        ...

    def tensor(self, name: str) -> Array:
        """Its numbers, float32."""
        ...


class _Opened:
    """A model whose headers are read.  files: where its numbers are."""

    def __init__(self, model: ParentModel, files: InputFiles) -> None:
        self._model, self._files = model, files
        self.name = str(model.reference)

    def tensor(self, name: str) -> Array:
        meta = self.meta(name)
        if meta is None:
            raise PlanError(f"the base has no tensor {name!r}", where=self.name, hint="is it the adapters' base?")
        fetch([(self._model.source, meta.file)])
        reader = StepReader(Step(meta, "merge", (Operand(0, meta),), None, {}), self._files, Workspace())
        numbers = singles(reader.read(0, meta.numel)[0]).astype(np.float32)
        return numbers.reshape(meta.shape)

    def meta(self, name: str) -> TensorMeta | None:
        try:
            return self._model.table[place_of(name, self._model.table, self.name)]
        except PlanError:
            return None


def tensors_of_base(given: Any) -> AdapterBase:
    """The base from a folder, a repository of the Hub, or a state dict; only headers are read."""
    if isinstance(given, Mapping):
        from hubmerge.in_memory_tensors import MemoryInputs, StateDict

        state = StateDict("base", given)
        model = parent_of(ModelRef("base"), state)
        return _Opened(model, MemoryInputs([_planned(model)], [state], keep=1))
    if not isinstance(given, str | Path):
        hint = "name the model that the adapters were trained on, or give its state dict"
        raise PlanError("the base is a folder, a repository or a state dict", where="base", hint=hint)
    reference = ModelRef.parse(str(given))
    refuse_adapter(reference, "the base of adapters is a model without an adapter")
    return tensors_of(open_parent(reference))


def tensors_of(model: ParentModel) -> AdapterBase:
    """The tensors of a model that is open, without its adapter."""
    return _Opened(model, InputFiles([_planned(model)]))


def _planned(model: ParentModel) -> PlannedParent:
    return PlannedParent(model.reference.model, "base", model.commit, None, model.headers, {})
