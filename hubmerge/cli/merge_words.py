"""What `hubmerge merge` tells: before the work what a person should know, afterwards what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hubmerge.cli import output
from hubmerge.sizes import size_text

if TYPE_CHECKING:
    from hubmerge.assemble import Merged
    from hubmerge.heterogeneous.mal_plan_types import MalPlan
    from hubmerge.heterogeneous.plan_types import AssemblyPlan
    from hubmerge.lora.plan_types import AdapterPlan
    from hubmerge.manifest import Manifest
    from hubmerge.plan_types import Plan

__all__ = ["how_far_told", "how_written", "tell_before", "weight_bytes", "work_of"]


def how_far_told(manifest: Manifest) -> tuple[str, ...]:
    """What was done to unlike models, and to parents that were aligned first, a sentence each; nothing for others."""
    if manifest.adapters is not None:
        from hubmerge.adapter_told import adapters_told

        return (*adapters_told(manifest.adapters), *_coefficients(manifest))
    if manifest.layers is not None:
        from hubmerge.layers_words import layers_told

        return layers_told(manifest.layers)
    if manifest.assembly is not None:
        from hubmerge.assembly_words import how_far

        return how_far(manifest.assembly)
    told: tuple[str, ...] = ()
    if manifest.alignment is not None:
        from hubmerge.alignment.words import how_aligned

        told = (*how_aligned(manifest.alignment), *(f"warning: {text}" for text in manifest.alignment.warnings))
    told += _coefficients(manifest)
    if manifest.disentangled is not None:
        from hubmerge.disentangled_words import disentangled_lines

        told += disentangled_lines(manifest.disentangled)
    return told


def _coefficients(manifest: Manifest) -> tuple[str, ...]:
    """What was found before the merge, a sentence each."""
    if manifest.prepared is None:
        return ()
    from hubmerge.prepared_words import prepared_lines

    return prepared_lines(manifest.prepared)


def work_of(planned: Plan | AssemblyPlan | MalPlan | AdapterPlan) -> tuple[str, int]:
    """What is done, and how many bytes it is; 0 where that shows in words instead."""
    from hubmerge.plan_types import Plan

    if isinstance(planned, Plan):
        if planned.alignment is not None or planned.preparation is not None:
            output.quiet_transformers()
        return f"merging {len(planned.steps)} tensors", sum(planned.layout.sizes.values())
    from hubmerge.lora.plan_types import AdapterPlan

    if isinstance(planned, AdapterPlan):
        if planned.running is not None:
            output.quiet_transformers()
        return "merging", sum(planned.dense.layout.sizes.values()) if planned.dense is not None else 0
    output.quiet_transformers()
    return "merging", 0


def weight_bytes(manifest: Manifest) -> int:
    return sum(file.size for name, file in manifest.files.items() if name.endswith(".safetensors"))


def tell_before(planned: Plan | AssemblyPlan | MalPlan | AdapterPlan, device: str, jobs: int | None) -> None:
    """What a person should know before the work begins."""
    for text in planned.warnings:
        output.note(f"{'note' if text in planned.notes else 'warning'}: {text}")
    if device != "cpu":
        _tell_of_device(planned, device)
    if jobs is not None and jobs > 1:
        _tell_of_jobs(planned, jobs)
    if planned.downloads:
        output.note(f"to download: {size_text(planned.bytes_to_download)} in {len(planned.downloads)} files")
        output.calm_downloads()


def _tell_of_device(planned: Plan | AssemblyPlan | MalPlan | AdapterPlan, device: str) -> None:
    from hubmerge.plan_types import Plan

    if not isinstance(planned, Plan):
        name = planned.recipe.merge_method or "a merge of adapters"
        output.note(f"{name} computes on the CPU: --device {device} is not used")
    elif planned.method.kind == "entrywise":
        output.note(f"{planned.method.name} merges entry by entry, on the CPU: --device {device} is not used")


def _tell_of_jobs(planned: Plan | AssemblyPlan | MalPlan | AdapterPlan, jobs: int) -> None:
    from hubmerge.plan_types import Plan

    if not isinstance(planned, Plan) and not planned.recipe.merges_adapters:
        output.note(
            f"{planned.recipe.merge_method} computes on one thread, so that it comes out the same: --jobs {jobs} is not used"
        )


def how_written(merged: Merged) -> str:
    written = merged.written
    if written is None:
        return ""
    digests = f"digests: {written.digest_seconds:.1f} s after the last write" if written.digests else "no digests"
    return f"; {written.found_percent} % was found done; {digests}" if written.found else f"; {digests}"
