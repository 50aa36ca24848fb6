"""Which of the models to compare are adapters alone, and what their base weighs where they change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hubmerge.deltas.beside import Beside
from hubmerge.errors import PlanError
from hubmerge.gguf import open_model
from hubmerge.io.reader import StepReader
from hubmerge.io.stored import singles
from hubmerge.io.workspace import Workspace
from hubmerge.lora.adapter import Adapter, adapter_of
from hubmerge.lora.headers import open_adapter
from hubmerge.lora.reading import read_adapter
from hubmerge.parents import open_parent
from hubmerge.plan_types import Operand, Step
from hubmerge.ranges import block_reads
from zoo_index.reference import ModelRef

__all__ = ["adapters_alone", "base_squares", "on_its_base"]

_CONFIG = "adapter_config.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def adapters_alone(models: Sequence[Any], base: Any) -> tuple[Adapter, ...] | None:
    """The adapters that all of `models` are, named as they were given; None where one of them is a whole model.

    An adapter is a folder or repository of PEFT's, ``base+adapter`` with the base that is named, or a mapping of modules to (A, B).
    None, too, where one cannot be taken for low-rank factors alone, and there is a base to put it on.

    Raises what reading an adapter raises, where there is no base to put it on.
    """
    found = []
    for place, given in enumerate(models):
        if isinstance(given, Mapping):
            if not given or not isinstance(next(iter(given.values())), tuple | list):
                return None
            found.append(adapter_of(given, f"models[{place}]")[0])
            continue
        own = _adapter_in(ModelRef.parse(str(given)), base)
        if own is None:
            return None
        try:
            found.append(read_adapter(str(own)))
        except PlanError:
            if base is None:
                raise
            return None
    return tuple(found)


def on_its_base(given: Any, base: Any) -> Any:
    """A model as it is, and an adapter alone as ``base+adapter``."""
    if isinstance(given, Mapping) or isinstance(base, Mapping):
        return given
    reference = ModelRef.parse(str(given))
    if reference.adapter is not None or _adapter_in(reference, base) is None:
        return given
    origin = ModelRef.parse(str(base))
    return str(ModelRef(origin.name, origin.revision, reference))


def _adapter_in(reference: ModelRef, base: Any) -> ModelRef | None:
    """The adapter that a reference names, of the base that is named or of none."""
    if reference.adapter is not None:
        same = isinstance(base, str | Path) and ModelRef.parse(str(base)) == reference.model
        return reference.adapter if same else None
    files = open_model(reference).files()
    return reference if _CONFIG in files and not any(name in files for name in _WEIGHTS) else None


def base_squares(base: str, adapters: Sequence[Adapter]) -> dict[str, float]:
    """By module the sum of squares of the base's weight, for the modules that an adapter from disk changes; float64.

    Raises `PlanError` for an adapter that does not fit the base.
    """
    origin = ModelRef.parse(base)
    own = open_parent(origin)
    places: dict[str, str] = {}
    for adapter in adapters:
        if adapter.config:
            reference = ModelRef.parse(adapter.name)
            effect = open_parent(ModelRef(origin.name, origin.revision, reference)).effect
            targets = {low.b.name: target for target, low in effect.low_rank.items()} if effect else {}
            places |= {module: targets[each.b.name] for module, each in open_adapter(reference).modules.items()}
    steps = {
        target: Step(own.table[target], "merge", (Operand(0, own.table[target]),), None, {})
        for target in places.values()
    }
    squares: dict[str, float] = {}
    with Beside(own, (), tuple(steps.values()), ()).files() as files:
        for target, step in steps.items():
            reader = StepReader(step, files, Workspace())
            parts = (singles(reader.read(*span)[0]).astype(np.float64) for span in block_reads(step.output.numel))
            squares[target] = float(sum(np.square(part).sum() for part in parts))
    return {module: squares[target] for module, target in places.items()}
