"""An extracted adapter's folder: PEFT's two files and the record, complete or not at all."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge.deltas.extraction_choice import Choice
from hubmerge.deltas.extraction_record import Extracted, Extraction, Left
from hubmerge.deltas.saved_rest import SavedRest, saved_rest
from hubmerge.deltas.wrong_base import TOO_FAR, far_text
from hubmerge.errors import MergeError
from hubmerge.lora.adapter import Adapter, Factors
from hubmerge.lora.writing import write_into

__all__ = ["RECORD_NAME", "Change", "write_extraction"]

RECORD_NAME = "hubmerge_extraction.json"
"""What was extracted from what, and how much of it the factors have, beside the adapter."""


@dataclass(frozen=True, eq=False)
class Change:
    """One tensor's change: its sum of squares, the base tensor's, and its factors with the share of the former that they have.

    values: the whole tensor of the fine-tune, float32, where it may be saved.
    """

    tensor: str
    squares: float
    base: float
    factors: Factors | None = None
    energy: float = 0.0
    solver: str = ""
    values: npt.NDArray[np.float32] | None = None


def write_extraction(
    out: Path, choice: Choice, changes: Sequence[Change], *, alpha: float | None, save_rest: bool, seed: int
) -> Extraction:
    """Write the folder `out`, which is new or empty, and return the record that lies in it.

    alpha: lora_alpha for every module, None for each module's rank.  save_rest: save whole what changed and has no factors.
    Raises `MergeError` for what cannot be written.
    """
    rest = _rest(choice, changes) if save_rest else SavedRest()
    record = _record(choice, changes, rest, seed)
    factors = {
        choice.factored[change.tensor].module: change.factors._replace(
            scale=change.factors.rank / alpha if alpha else 1.0
        )
        for change in changes
        if change.factors is not None
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{out.name}.", suffix=".partial", dir=out.parent))
        try:
            own: dict[str, Any] = {"lora_alpha": alpha, "alpha_pattern": {}} if alpha else {}
            own |= {"modules_to_save": list(rest.modules) or None, "bias": "all" if rest.biases else "none"}
            values = {change.tensor: change.values for change in changes if change.values is not None}
            saved = {called: values[tensor] for tensor, called in rest.names.items()}
            write_into(partial, [_adapter(choice, factors)], factors, own, rest=saved)
            (partial / RECORD_NAME).write_text(json.dumps(record.to_dict(), indent=2) + "\n", encoding="utf-8")
            partial.chmod(0o755)
            if out.exists():
                out.rmdir()
            partial.rename(out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as error:
        raise MergeError(
            f"the adapter cannot be written ({error.strerror or error})", where=str(out), hint="name another folder"
        ) from error
    return record


def _rest(choice: Choice, changes: Sequence[Change]) -> SavedRest:
    tensors = [change.tensor for change in changes]
    modules = {weight.module for name, weight in choice.factored.items()}
    moved = [change.tensor for change in changes if change.squares and change.tensor not in choice.factored]
    return saved_rest(moved, modules, tensors, choice.tied, choice.called)


def _record(choice: Choice, changes: Sequence[Change], rest: SavedRest, seed: int) -> Extraction:
    base, (tuned,) = choice.models.base, choice.models.models
    with_factors = [change for change in changes if change.tensor in choice.factored]
    modules = tuple(
        Extracted(
            choice.factored[change.tensor].module, change.factors.shape, change.factors.rank, change.energy,
            math.sqrt(change.squares), change.solver,
        )
        for change in with_factors
        if change.factors is not None
    )  # fmt: skip
    left = tuple(
        Left(change.tensor, choice.rest[change.tensor], math.sqrt(change.squares), change.tensor in rest.names)
        for change in changes
        if change.squares and change.tensor not in choice.factored
    )
    unchanged = tuple(choice.factored[change.tensor].module for change in with_factors if change.factors is None)
    norm = math.sqrt(sum(change.base for change in changes))
    names = str(base.reference), str(tuned.reference)
    found = Extraction(*names, modules, left, unchanged, norm, seed, (), choice.notes)
    if found.ratio <= TOO_FAR:
        return found
    warning = far_text(names[1], names[0], found.ratio)
    return Extraction(*names, modules, left, unchanged, norm, seed, (warning,), choice.notes)


def _adapter(choice: Choice, factors: Mapping[str, Factors]) -> Adapter:
    base = choice.models.base
    classes = base.config.get("architectures") or ()
    causal = any(isinstance(name, str) and name.endswith("ForCausalLM") for name in classes)
    kernels = {
        weight.module: ((base.table[name].shape[1], *weight.kernel), (1,) * len(weight.kernel))
        for name, weight in choice.factored.items()
        if weight.kernel
    }
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if causal else None,
        "base_model_name_or_path": base.reference.name,
        "revision": base.reference.revision,
        "target_modules": sorted(factors),
        "lora_dropout": 0.0,
        "fan_in_fan_out": any(weight.transposed for weight in choice.factored.values()),
    }
    return Adapter(str(choice.models.models[0].reference), factors, kernels=kernels, config=config)
