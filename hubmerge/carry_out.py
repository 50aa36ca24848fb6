"""A plan's weights into OUT.partial: tensor by tensor, the same after an alignment, or the models put together as a whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hubmerge.io.digests import file_sha256
from hubmerge.io.unchanged import FileState
from hubmerge.io.writer import OutputFolder
from hubmerge.manifest import Manifest
from hubmerge.plan_types import Plan
from hubmerge.record import assembly_manifest, file_digests, folder_digests, manifest_of
from hubmerge.weights import Written, identity_of, write_weights

if TYPE_CHECKING:
    from hubmerge.alignment.plan_types import PlannedAlignment
    from hubmerge.heterogeneous.mal_plan_types import MalPlan
    from hubmerge.heterogeneous.plan_types import AssemblyPlan
    from hubmerge.lora.plan_types import AdapterPlan

__all__ = ["Work", "carry_out"]


@dataclass(frozen=True)
class Work:
    """Where the weights of a merge go, what is known of the parents, and how it is done."""

    folder: OutputFolder
    samples: tuple[str, ...]
    states: tuple[FileState, ...]
    digest: bool
    device: str
    progress: Callable[[int], None]
    note: Callable[[str], None]


def carry_out(
    plan: Plan | AssemblyPlan | MalPlan | AdapterPlan, work: Work
) -> tuple[Written | None, Callable[[], Manifest]]:
    """Write the weights; returns what makes the manifest once all files are there."""
    if not isinstance(plan, Plan):
        from hubmerge.lora.plan_types import AdapterPlan

        if isinstance(plan, AdapterPlan):
            from hubmerge.lora.execute import write_adapters

            return write_adapters(plan, work)
        return _put_together(plan, work)
    if plan.alignment is not None:
        return _aligned_first(plan, plan.alignment, work)
    if plan.method.wrapper is not None:
        return _prepared_first(plan, work)
    return _tensor_by_tensor(plan, work)


def _tensor_by_tensor(plan: Plan, work: Work) -> tuple[Written, Callable[[], Manifest]]:
    """Write the weights of a merge that is gone on with; returns what makes its manifest once all files are there."""
    identity = identity_of(plan, work.samples, work.states, work.device)
    written = write_weights(
        plan,
        work.folder,
        identity,
        digest=work.digest,
        device=work.device,
        progress=work.progress,
        note=work.note,
    )
    partial = work.folder.partial
    return written, lambda: manifest_of(
        plan, work.samples, file_digests(plan, partial, written.digests), pooled=written.pooled
    )


def _prepared_first(plan: Plan, work: Work) -> tuple[Written, Callable[[], Manifest]]:
    """The same with coefficients that are found first, which stay until the merge is complete, and are gone on with."""
    from hubmerge.prepare_stage import PREPARED_FOLDER, prepared_identity, prepared_plan

    partial, kept = work.folder.partial, work.folder.partial / PREPARED_FOLDER
    identity = identity_of(plan, work.samples, work.states, work.device)
    ready, record = prepared_plan(plan, kept, identity, note=work.note)
    written = write_weights(
        ready,
        work.folder,
        prepared_identity(ready, identity),
        prepared=True,
        digest=work.digest,
        device=work.device,
        progress=work.progress,
        note=work.note,
    )

    def recorded() -> Manifest:
        shutil.rmtree(kept)
        digests = file_digests(ready, partial, written.digests)
        return manifest_of(ready, work.samples, digests, pooled=written.pooled, prepared=record)

    return written, recorded


def _aligned_first(plan: Plan, alignment: PlannedAlignment, work: Work) -> tuple[Written, Callable[[], Manifest]]:
    """The same with parents that are brought into one order first: their copies stay until the merge is complete, and are gone on with."""
    from hubmerge.alignment.stage import ALIGNED_FOLDER, align_parents
    from hubmerge.alignment.statistics import write_statistics

    partial, copies = work.folder.partial, work.folder.partial / ALIGNED_FOLDER
    identity = identity_of(plan, work.samples, work.states, work.device)
    total = sum(step.output.nbytes for step in plan.steps)
    aligned = align_parents(
        plan, alignment, copies, identity, note=work.note, finished=lambda: work.folder.keep(0, total)
    )
    written = write_weights(
        plan,
        work.folder,
        identity,
        inputs=aligned.inputs(plan),
        prepared=True,
        digest=work.digest,
        device=work.device,
        progress=work.progress,
        note=work.note,
    )

    def recorded() -> Manifest:
        digests, record = dict(written.digests), aligned.record
        if alignment.estimates_statistics and aligned.batches is not None:
            work.note("estimating the statistics of BatchNorm")
            found = write_statistics(plan, partial, aligned.batches)
            digests |= {name: file_sha256(partial / name) for name in found.files if name in digests}
            record = record.model_copy(update={"statistics": found.norms})
        shutil.rmtree(copies)
        return manifest_of(plan, work.samples, file_digests(plan, partial, digests), record, written.pooled)

    return written, recorded


def _put_together(plan: AssemblyPlan | MalPlan, work: Work) -> tuple[None, Callable[[], Manifest]]:
    """The same for unlike models, which are put together as a whole, or layer by layer."""
    from hubmerge.heterogeneous.execute import write_assembly
    from hubmerge.heterogeneous.mal_plan_types import MalPlan
    from hubmerge.heterogeneous.mal_resume import write_resumed

    partial = work.folder.partial
    if isinstance(plan, MalPlan):
        made = write_resumed(plan, work.folder, work.samples, work.states, work.note)
    else:
        work.folder.start_over()
        made = write_assembly(plan, partial, note=work.note)
    return None, lambda: assembly_manifest(
        plan, work.samples, made.record, made.parameters, made.counts, folder_digests(partial, weights=work.digest)
    )
