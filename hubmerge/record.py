"""From a finished plan to its manifest: what hubmerge.json says of recipe, parents, versions and files."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubmerge.disentangled_record import disentangled_record
from hubmerge.io.digests import file_sha256
from hubmerge.io.journal import JOURNAL_NAME
from hubmerge.io.partial import PARTIAL_MARK
from hubmerge.layers_record import LayersRecord
from hubmerge.manifest import (
    ADAPTER_VERSION,
    ALIGNMENT_VERSION,
    ASSEMBLY_VERSION,
    FORMAT_VERSION,
    LAYERS_VERSION,
    PREPARED_VERSION,
    FileDigest,
    Manifest,
    ParentRecord,
)
from hubmerge.plan_types import Plan, PlannedParent
from hubmerge.version import __version__

if TYPE_CHECKING:
    from hubmerge.adapter_record import AdapterRecord
    from hubmerge.alignment_record import AlignmentRecord
    from hubmerge.assembly_record import AssemblyRecord
    from hubmerge.heterogeneous.mal_plan_types import MalPlan
    from hubmerge.heterogeneous.plan_types import AssemblyPlan
    from hubmerge.lora.plan_types import AdapterPlan
    from hubmerge.prepared_record import PreparedRecord

__all__ = [
    "adapters_manifest",
    "assembly_manifest",
    "computing_versions",
    "file_digest",
    "file_digests",
    "folder_digests",
    "manifest_of",
    "versions_of",
]


_NOT_OF_THE_MERGE = (PARTIAL_MARK, JOURNAL_NAME)


def file_digest(path: Path) -> FileDigest:
    """Size and sha256 of a file."""
    return FileDigest(size=path.stat().st_size, sha256=file_sha256(path))


def file_digests(plan: Plan, folder: Path, weights: Mapping[str, str]) -> dict[str, FileDigest]:
    """Every file that `plan` wrote into `folder`, by name; weights: sha256 of the weight files, empty when not wanted."""
    files = {name: FileDigest(size=size, sha256=weights.get(name)) for name, size in plan.layout.sizes.items()}
    files |= {name: file_digest(folder / name) for name in (*plan.texts, *(file.name for file in plan.carried))}
    return dict(sorted(files.items()))


def folder_digests(folder: Path, *, weights: bool) -> dict[str, FileDigest]:
    """Every file of an OUT.partial but its mark and its journal, by name; weights: whether sha256 of the weight files is wanted."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in _NOT_OF_THE_MERGE):
        wanted = weights or path.suffix != ".safetensors"
        name = path.relative_to(folder).as_posix()
        files[name] = file_digest(path) if wanted else FileDigest(size=path.stat().st_size)
    return files


def manifest_of(
    plan: Plan,
    samples: tuple[str, ...],
    files: dict[str, FileDigest],
    alignment: AlignmentRecord | None = None,
    pooled: Mapping[str, Any] | None = None,
    prepared: PreparedRecord | None = None,
) -> Manifest:
    """The record of a merge.

    samples: what `sample_digests` gives for every parent.  alignment: of parents that were aligned first.  pooled: what `pooled_states`
    found.  prepared: of coefficients that were found first.
    """
    method = plan.method
    disentangled = None if pooled is None else disentangled_record(plan, pooled)
    estimated = 0 if alignment is None else 2 * alignment.statistics  # a mean and a variance of every norm
    version = FORMAT_VERSION if alignment is None else ALIGNMENT_VERSION
    return Manifest(
        format_version=version if prepared is None and disentangled is None else PREPARED_VERSION,
        hubmerge_version=__version__,
        plan_hash=plan.hash,
        recipe=plan.recipe.to_dict(),
        method=method.name,
        method_revision=method.revision,
        paper=method.paper,
        seed=plan.recipe.seed,
        reproducible="exact" if method.kind == "entrywise" and alignment is None and prepared is None else "tolerance",
        parents=tuple(_record(parent, sample) for parent, sample in zip(plan.parents, samples, strict=True)),
        config_donor=str(plan.parents[plan.config_donor].reference),
        tokenizer_donor=None if plan.tokenizer_donor is None else str(plan.parents[plan.tokenizer_donor].reference),
        dtype=plan.dtype,
        parameters=plan.parameters,
        tensors={
            "merged": plan.count("merge"),
            "copied": plan.count("copy"),
            "averaged": plan.count("average") - estimated,
            "counted": plan.count("count"),
            **({"estimated": estimated} if estimated else {}),
        },
        vocabulary=plan.vocabulary.lines if plan.vocabulary is not None else (),
        warnings=(*plan.warnings, *(alignment.warnings if alignment is not None else ())),
        versions=versions_of(plan),
        files=files,
        alignment=alignment,
        prepared=prepared,
        disentangled=disentangled,
    )


def assembly_manifest(
    plan: AssemblyPlan | MalPlan,
    samples: tuple[str, ...],
    record: AssemblyRecord | LayersRecord,
    parameters: int,
    tensors: Mapping[str, int],
    files: dict[str, FileDigest],
) -> Manifest:
    """The record of a merge of unlike models.  parameters, tensors: how many were written; the rest as for `manifest_of`."""
    return Manifest(
        format_version=LAYERS_VERSION if isinstance(record, LayersRecord) else ASSEMBLY_VERSION,
        hubmerge_version=__version__,
        plan_hash=plan.hash,
        recipe=plan.recipe.to_dict(),
        method=plan.assembly.name,
        method_revision=plan.assembly.revision,
        paper=plan.assembly.paper,
        seed=plan.recipe.seed,
        reproducible="tolerance",
        parents=tuple(_record(parent, sample) for parent, sample in zip(plan.parents, samples, strict=True)),
        config_donor=str(plan.parents[plan.config_donor].reference),
        tokenizer_donor=None if plan.tokenizer_donor is None else str(plan.parents[plan.tokenizer_donor].reference),
        dtype=plan.dtype,
        parameters=parameters,
        tensors=dict(tensors),
        warnings=(*plan.warnings, *record.warnings),
        versions=computing_versions(),
        files=files,
        assembly=None if isinstance(record, LayersRecord) else record,
        layers=record if isinstance(record, LayersRecord) else None,
    )


def adapters_manifest(
    plan: AdapterPlan,
    samples: tuple[str, ...],
    record: AdapterRecord,
    files: dict[str, FileDigest],
    prepared: PreparedRecord | None = None,
) -> Manifest:
    """The record of a merge of adapters; see `manifest_of`."""
    dense, beside = plan.dense, len(plan.wholes.copies) + len(plan.wholes.biases)
    changed = len(record.modules) + beside
    if dense is not None:
        changed = sum(any(o.low_rank is not None or o.in_adapter for o in step.inputs) for step in dense.steps)
    kept = len(dense.steps) - changed if dense is not None else 0
    donor, sizes = str(plan.parents[0].reference), {module.name: sum(module.shape) for module in plan.modules}
    return Manifest(
        format_version=ADAPTER_VERSION if prepared is None else PREPARED_VERSION,
        hubmerge_version=__version__,
        plan_hash=plan.hash,
        recipe=plan.recipe.to_dict(),
        method=plan.method.name,
        method_revision=plan.method.revision,
        paper=plan.method.paper,
        seed=plan.recipe.seed,
        reproducible="tolerance",
        parents=tuple(_record(parent, sample) for parent, sample in zip(plan.parents, samples, strict=True)),
        config_donor=donor,
        tokenizer_donor=None if dense is None or dense.tokenizer_donor is None else donor,
        dtype=plan.dtype,
        parameters=dense.parameters
        if dense is not None
        else sum(own.rank * sizes[name] for name, own in record.modules.items()) + plan.wholes.entries,
        tensors={"merged": changed, "kept": kept},
        warnings=plan.warnings,
        versions=_versions(tuple(dict.fromkeys(["numba", "numpy", "torch", *(_COMPUTING if prepared else ())]))),
        files=files,
        adapters=record,
        prepared=prepared,
    )


def computing_versions() -> dict[str, str]:
    """The versions of what computes the numbers of a merge of unlike models."""
    return _versions(_COMPUTING)


_COMPUTING = ("numpy", "scipy", "torch", "transformers")
"""What computes the numbers of a merge of unlike models, and of an alignment."""


def _record(parent: PlannedParent, sample: str) -> ParentRecord:
    adapter = parent.reference.adapter
    return ParentRecord(
        reference=str(parent.reference.model),
        role=parent.role,
        commit=parent.commit,
        adapter=str(adapter) if adapter else None,
        adapter_commit=parent.adapter_commit,
        headers=dict(parent.headers),
        sample=sample,
        parameters=dict(parent.parameters),
    )


def versions_of(plan: Plan) -> dict[str, str]:
    """The versions of what computes the numbers of `plan`."""
    names = ("numba", "numpy", *(("torch",) if plan.method.kind == "matrix" else ()))
    runs = plan.alignment is not None or plan.preparation is not None
    return _versions(tuple(dict.fromkeys([*names, *_COMPUTING])) if runs else names)


def _versions(names: Sequence[str]) -> dict[str, str]:
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


@cache
def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name)
