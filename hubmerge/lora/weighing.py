"""Coefficients for adapters: found by running each of them on its base, and used where the adapters are merged, in their own space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubmerge.adapters import place_of
from hubmerge.io.input_files import InputFiles
from hubmerge.lora.computing import Coefficients
from hubmerge.lora.in_basis import BasisMerge
from hubmerge.lora.plan_types import AdapterPlan
from hubmerge.parent_models import recipe_models
from hubmerge.plan_types import Plan
from hubmerge.prepare import prepare
from hubmerge.prepare_stage import check_found_again, kept_or_found
from hubmerge.prepared_record import PreparedRecord, prepared_record
from hubmerge.wrapper import ParentModels, Prepared

__all__ = ["Weighed", "coefficients_by", "found_by_running", "weighed", "weighed_again"]

_WHERE = "base_model"


@dataclass(frozen=True)
class Weighed:
    """found: by the base's tensors that are changed; record: what the manifest keeps of it."""

    found: Prepared
    record: PreparedRecord


def weighed(
    plan: AdapterPlan,
    merge: Callable[[], BasisMerge],
    folder: Path,
    identity: Mapping[str, Any],
    note: Callable[[str], None],
) -> Weighed:
    """The coefficients that the method of `plan` finds, or that are in `folder` from before; see `hubmerge.prepare_stage`.

    merge: the adapters, read once they are asked for.
    """
    assert plan.running is not None
    models = recipe_models(plan.running)
    assert models is not None
    known = {**identity, "data": models.digests}
    found = kept_or_found(folder, known, lambda: _found(plan, merge, models, note, folder), note)
    record = prepared_record(plan.running, found, models.records)
    names = tuple(adapter.name for adapter in plan.adapters)
    return Weighed(found, record.model_copy(update={"parents": names}))


def weighed_again(
    plan: AdapterPlan, merge: Callable[[], BasisMerge], record: PreparedRecord | None, where: str
) -> tuple[Prepared, float]:
    """The coefficients of a manifest, and by how much they differ from those that are found now; see `check_found_again`."""
    assert plan.running is not None
    models = recipe_models(plan.running)
    assert models is not None
    return check_found_again(lambda: _found(plan, merge, models, lambda _: None, None), record, where)


def found_by_running(
    running: Plan,
    inputs: InputFiles,
    models: ParentModels,
    merge: Callable[[], BasisMerge],
    changed: Iterable[str],
    *,
    note: Callable[[str], None] = lambda _: None,
    scratch: Path | None = None,
) -> Prepared:
    """What the wrapper of `running` finds for the tensors that adapters change.

    running: the merge of base+adapter models, which is not made.  changed: the tensors, as adapters call them.  Layers are measured whole,
    with the weights of theirs that no adapter changes, as where base+adapter models are merged: so both give the same coefficients.
    """
    tensors = dict.fromkeys(step.output.name for step in running.steps)
    found = prepare(
        running,
        inputs,
        jobs=running.jobs,
        models=models,
        note=note,
        scratch=scratch,
        changes=lambda: merge().alone(tensors),
    )
    wanted = [place_of(name, tensors, _WHERE) for name in changed]
    layer_of = {name: found.layer_of[name] for name in wanted if name in found.layer_of}
    own = frozenset(layer_of.values())
    layers = {name: row for name, row in found.layers.items() if name in own}
    return Prepared(layers, layer_of, found.state)


def coefficients_by(found: Prepared) -> Coefficients:
    """Of a tensor, as adapters name it, the coefficients that were found."""
    return lambda name: found.layers[found.layer_of[place_of(name, found.layer_of, _WHERE)]]


def _found(
    plan: AdapterPlan,
    merge: Callable[[], BasisMerge],
    models: ParentModels,
    note: Callable[[str], None],
    scratch: Path | None,
) -> Prepared:
    assert plan.running is not None
    changed = [f"{module.name}.weight" for module in plan.modules]
    changed += [*plan.wholes.copies, *(f"{module}.bias" for module in plan.wholes.biases)]
    with InputFiles(plan.running.parents) as files:
        return found_by_running(plan.running, files, models, merge, changed, note=note, scratch=scratch)
