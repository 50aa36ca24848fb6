"""An `AssemblyPlan` carried out: models loaded, put together and written as transformers writes them, into a folder of the caller's."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubmerge.assembly_record import AssemblyRecord
from hubmerge.calibration import Batches, open_calibration
from hubmerge.fetching import open_planned
from hubmerge.heterogeneous.base_positions import in_base_positions
from hubmerge.heterogeneous.float32_copy import float32_copy
from hubmerge.heterogeneous.loading import check_finite, check_they_run, load_in_float32
from hubmerge.heterogeneous.merging import default_without as usually_kept
from hubmerge.heterogeneous.merging import merge_models
from hubmerge.heterogeneous.plan_types import AssemblyPlan
from hubmerge.heterogeneous.record import as_stored, assembly_record, calibration_record
from hubmerge.heterogeneous.report import Report, warnings_of
from hubmerge.heterogeneous.scratch import Scratch, scratch_in
from hubmerge.heterogeneous.telling import now_and_then
from hubmerge.heterogeneous.transport_merge import transported
from hubmerge.layers_record import LayersRecord
from hubmerge.model_config import read_folder_config
from hubmerge.parents import parent_of
from hubmerge.symmetry.verify import spec_of
from hubmerge.torch_threads import one_torch_thread
from zoo_index.checkpoint import read_config, read_tensor_table
from zoo_index.hub import LocalFolder
from zoo_index.reference import ModelRef, PinnedRef

if TYPE_CHECKING:
    from torch import nn

    from hubmerge.heterogeneous.mal_plan_types import MalPlan

__all__ = [
    "Assembled",
    "Note",
    "calibration_of",
    "loaded_parents",
    "saved",
    "scratch_folder",
    "write_assembly",
]

Note = Callable[[str], None]


@dataclass(frozen=True)
class Assembled:
    """What came out.  parameters: floating-point entries; counts: how many tensors were written, by what became of them."""

    record: AssemblyRecord | LayersRecord
    parameters: int
    counts: Mapping[str, int]

    @property
    def tensors(self) -> int:
        """How many were written."""
        return sum(self.counts.values())


def write_assembly(plan: AssemblyPlan, folder: Path, *, note: Note = lambda _: None) -> Assembled:
    """Put the models of `plan`, which are on this disk, together and save the merge into `folder`.

    note: is told what is begun, in a few words.  One thread of torch computes, so that the same merge has the same bytes.

    Raises `PlanError` for data or a config that cannot be used, `MergeError` for a model that transformers cannot load, and `NumbersError`
    for numbers that are not finite.
    """
    note("an interrupted merge of this kind is not gone on with: the same command begins anew")
    with scratch_folder(folder) as scratch:
        return _written(plan, folder, scratch, note)


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A folder in `folder` for what does not fit into memory, made where it is needed; it is gone afterwards."""
    scratch = folder / _SCRATCH
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


_SCRATCH = "scratch"


def _written(plan: AssemblyPlan, folder: Path, scratch: Path, note: Note) -> Assembled:
    use = plan.memory_use
    with one_torch_thread():
        batches = calibration_of(plan)
        models = loaded_parents(plan, scratch, note)
        calibration = calibration_record(plan.stages.calibration, plan.calibration, batches)
        if batches is not None:
            names = [str(plan.parents[place].reference) for place in plan.order]
            check_they_run(in_base_positions(models)[0], names, batches)
        if plan.assembly.carries:
            note("aligning every model's base with the target, carrying what the model learned")
            model, record = transported(plan, models, batches, calibration)
        else:
            with nullcontext() if use.room is None else scratch_in(scratch, use.room) as spilled:
                model, report = _merged(plan, models, batches, note, spilled)
            record = assembly_record(plan, report, calibration)
        note("writing")
        return saved(plan, folder, model, record)


def calibration_of(plan: AssemblyPlan | MalPlan) -> Batches | None:
    """The calibration data of a plan, drawn; None where there is none."""
    if plan.stages.calibration is None:
        return None
    source = open_planned(plan.parents[plan.base])
    commit = plan.calibration.commit if plan.calibration is not None else None
    return open_calibration(plan.stages.calibration, source, read_config(source), commit)


def loaded_parents(plan: AssemblyPlan | MalPlan, scratch: Path, note: Note) -> list[nn.Module]:
    """All parents in float32, the base first; those that the plan has no room for are copied into `scratch` and mapped from there.

    Raises as `load_in_float32` does, and `NumbersError` for numbers that are not finite.
    """
    models = []
    for place in plan.order:
        note(f"loading {plan.parents[place].reference}")
        copied = place in plan.memory_use.copied
        models.append(_loaded_parent(plan, place, scratch / str(place) if copied else None))
    return models


def _loaded_parent(plan: AssemblyPlan | MalPlan, place: int, copy: Path | None = None) -> nn.Module:
    """copy: a folder that is made; its weights are written there in float32, and mapped."""
    source, name = open_planned(plan.parents[place]), str(plan.parents[place].reference)
    folder = source.path("config.json").parent
    if copy is not None:
        float32_copy(parent_of(plan.parents[place].reference.model, source), copy)
    model = load_in_float32(folder if copy is None else copy, read_folder_config(folder), name)
    check_finite(model, name, name, "the model is damaged; fetch or save it again")
    return model


def _merged(
    plan: AssemblyPlan, models: list[Any], batches: Batches | None, note: Note, scratch: Scratch | None
) -> tuple[Any, Report]:
    stages = plan.stages
    spec = spec_of(models[0])
    fits = stages.fit != "none"
    asked = {
        "activations": "matching by activations",
        "weights": "matching by weights",
        "balanced": "matching by activations and weights",
        "zip": "contracting by activations",
        "optimal_transport": "transporting by activations",
        "identity": "averaging",
    }
    note(asked[stages.align] + (", merging, fitting every layer" if fits else ", merging"))
    tell = now_and_then(note)
    merged = merge_models(
        models,
        batches if batches is not None else (),
        align=stages.align,
        widths=stages.widths,
        ratio=stages.ratio,
        budget=stages.budget,
        policy=stages.policy,
        min_similarity=stages.min_similarity,
        balance=stages.balance,
        regularisation=stages.regularisation,
        without=(*(() if stages.residual == "activations" else usually_kept(spec)), *stages.without),
        residual=stages.residual,
        fit=stages.inputs if stages.fit == "least_squares" else "regmean" if fits else None,
        ridge=stages.ridge,
        follow=stages.follow,
        non_diagonal=stages.non_diagonal,
        labels=stages.labels,
        tokens=[None if rows is None else rows.rows for rows in plan.tokens],
        weights=[stages.weights[place] for place in plan.order],
        renormalise=batches is not None,
        seed=plan.recipe.seed,
        progress=lambda done, total: tell(f"fitted {done} of {total} layers"),
        scratch=scratch,
    )
    for warning in warnings_of(merged.report):
        note(f"warning: {warning}")
    return merged.model, merged.report


def saved(
    plan: AssemblyPlan | MalPlan,
    folder: Path,
    model: Any,
    record: AssemblyRecord | LayersRecord,
    counts: Mapping[str, int] | None = None,
) -> Assembled:
    """Write the merge as transformers writes it, in the plan's type.  counts: of its tensors, None where all are merged; a tied one is
    written once.

    Raises `NumbersError` for a number that this type has not.
    """
    import torch

    model.to(getattr(torch, plan.dtype))
    check_finite(model, "the merge", "", "choose other data, a larger ridge, or a wider dtype")
    model.config.name_or_path = ""
    model.save_pretrained(folder, max_shard_size=plan.recipe.output.shard_size)
    for path in folder.glob("*.safetensors"):  # safetensors gives them to their owner alone
        path.chmod((folder / "config.json").stat().st_mode)
    written = read_tensor_table(LocalFolder(folder, PinnedRef(ModelRef.of(str(folder.absolute())))))
    if isinstance(record, AssemblyRecord) and isinstance(plan, AssemblyPlan):
        record = as_stored(record, plan.base_cost.parameters, written.parameters)
    return Assembled(record, written.parameters, counts or {"merged": len(written)})
