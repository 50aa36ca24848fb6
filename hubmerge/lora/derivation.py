"""A merge of adapters made once more and compared with what is on disk."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hubmerge.errors import VerifyError
from hubmerge.io.digests import file_sha256
from hubmerge.lora.adapter import Adapter
from hubmerge.lora.dense import MergedInputs
from hubmerge.lora.execute import write_merged, write_waiting
from hubmerge.lora.headers import AdapterHeader, open_adapter
from hubmerge.lora.low_rank import triplets
from hubmerge.lora.plan_types import AdapterPlan
from hubmerge.lora.reading import numbers_of
from hubmerge.rederive import LEAST_DIFFERENCE, rederive
from hubmerge.wrapper import Prepared
from zoo_index.reference import ModelRef

__all__ = ["TOLERANCE", "derive_again"]

TOLERANCE = 1e-4
"""Of the norm of a module's change: another machine's arithmetic changes the last digits of singular vectors."""


def derive_again(plan: AdapterPlan, folder: Path, found: Prepared | None = None) -> tuple[int, float]:
    """Merge the adapters of `plan` once more and compare: how many modules or tensors there are, and the worst relative difference; 0 for the
    same bytes.

    found: the coefficients of a method that finds some first.  Raises `VerifyError` at the first that differs by more than another machine's
    arithmetic does.
    """
    with TemporaryDirectory(prefix="hubmerge-verify-") as name:
        again = Path(name)
        if plan.dense is not None:
            write_waiting(plan, again, found)
            inputs = MergedInputs(plan.dense.parents, again)
            return len(plan.dense.steps), rederive(plan.dense, folder, exact=False, inputs=inputs)
        write_merged(plan, again, found)
        config, weights = "adapter_config.json", "adapter_model.safetensors"
        if file_sha256(folder / config) != file_sha256(again / config):
            raise VerifyError(f"{config} differs from what its adapters give", where=str(folder), hint="merge again")
        if file_sha256(folder / weights) == file_sha256(again / weights):
            return len(plan.modules), 0.0
        return len(plan.modules), max(_difference(_opened(folder), _opened(again)), LEAST_DIFFERENCE)


def _opened(folder: Path) -> AdapterHeader:
    return open_adapter(ModelRef(str(folder.absolute())), wholes=True)


def _difference(stored: AdapterHeader, again: AdapterHeader) -> float:
    """The largest norm of a difference of two changes over that of the change; factors of one change can differ in sign and direction."""
    here, there = numbers_of(stored), numbers_of(again)
    worst = _beside(here, there)
    left, right = here.modules, there.modules
    if left.keys() != right.keys():
        raise VerifyError(
            "the adapter changes other modules than its adapters give", where=stored.name, hint="merge again"
        )
    for module, own in right.items():
        other = left[module]
        b = np.concatenate([other.scale * other.b, -own.scale * own.b], axis=1).astype(np.float64)
        a = np.concatenate([other.a, own.a]).astype(np.float64)
        whole = triplets(own.scale * own.b.astype(np.float64), own.a.astype(np.float64))[1]
        difference = float(np.linalg.norm(triplets(b, a)[1]) / max(float(np.linalg.norm(whole)), 1e-30))
        if not difference <= TOLERANCE:
            raise VerifyError(
                f"module {module!r} differs by {difference:.1e} from what its adapters give",
                where=stored.name,
                hint="merge again",
            )
        worst = max(worst, difference)
    return worst


def _beside(stored: Adapter, again: Adapter) -> float:
    """The largest relative difference of a tensor that there is beside factors."""
    worst = 0.0
    for kind in ("copies", "biases", "carried"):
        left, right = getattr(stored, kind), getattr(again, kind)
        if left.keys() != right.keys():
            raise VerifyError(
                "the adapter has other whole tensors than its adapters give", where=stored.name, hint="merge again"
            )
        for name, own in right.items():
            whole = max(float(np.linalg.norm(own)), 1e-30)
            difference = float(np.linalg.norm(left[name].astype(np.float64) - own)) / whole
            if not difference <= TOLERANCE:
                text = f"{name!r} differs by {difference:.1e} from what its adapters give"
                raise VerifyError(text, where=stored.name, hint="merge again")
            worst = max(worst, difference)
    return worst
