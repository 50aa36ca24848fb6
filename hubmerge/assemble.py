"""`merge`: plan, execute, and publish the folder with its manifest."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from hubmerge.destination import keep_parents_safe
from hubmerge.errors import ManifestError, PlanError, shown
from hubmerge.execute import execute
from hubmerge.fetching import check_disks, fetch_parents
from hubmerge.io.reader import InputFiles
from hubmerge.io.sample import sample_digests
from hubmerge.io.writer import MAX_NAME_BYTES, OutputFolder, sweep
from hubmerge.manifest import MANIFEST_NAME, FileDigest, Manifest, ParentRecord, read_manifest
from hubmerge.plan import DEFAULT_MEMORY, build_plan
from hubmerge.plan_types import Plan, PlannedParent, Step
from hubmerge.recipe import Recipe
from hubmerge.version import __version__

__all__ = ["Merged", "file_digest", "merge", "merge_plan"]

Progress = Callable[[int], None]


def merge(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    jobs: int | None = None,
    memory: int = DEFAULT_MEMORY,
    fresh: bool = False,
    overwrite: bool = False,
    strict: bool = False,
) -> Manifest:
    """Merge models into the folder `out` and return its manifest.

    recipe: a YAML file, a mapping, or a `Recipe`.  jobs: worker threads, default the cores at hand.  memory: bytes the
    workers' buffers may take.  fresh: discard what another interrupted merge left in OUT.partial.  overwrite: replace an
    `out` that is something else.  strict: warnings are errors.  A finished `out` of the same plan is returned as it is.

    Raises `RecipeError`, `PlanError`, `CheckpointError` or `ModelNotFoundError` before any weight is read, `MergeError`
    while it runs; then `out` is untouched and nothing else is left behind.
    """
    plan = build_plan(recipe, jobs=jobs, memory=memory, strict=strict)
    return merge_plan(plan, out, fresh=fresh, overwrite=overwrite).manifest


@dataclass(frozen=True)
class Merged:
    """The outcome of `merge_plan`: the manifest, and whether `out` held this merge before."""

    manifest: Manifest
    already_done: bool


def merge_plan(
    plan: Plan,
    out: str | Path,
    *,
    fresh: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    accept: Callable[[Manifest], None] | None = None,
) -> Merged:
    """Carry out `plan` into the folder `out`; see `merge`.

    accept: is shown the manifest of the complete merge before it becomes `out`; when it raises, `out` stays as it was.
    """
    target = Path(out).resolve() if Path(out).is_symlink() else Path(out)  # a link stays, what it leads to is replaced
    _check_name(target)
    keep_parents_safe(plan, target)
    with InputFiles(plan.parents) as files:
        finished = _finished(plan, files, target, overwrite=overwrite)
        if finished is not None:
            sweep(target)
            if accept is not None:
                accept(finished)
            return Merged(finished, already_done=True)
        check_disks(plan, target)
        fetch_parents(plan)
        samples = sample_digests(plan, files)
        with OutputFolder(target, plan.hash, fresh=fresh, replace=overwrite) as folder:
            folder.reserve(plan.layout.headers, plan.layout.sizes)

            def sink(step: Step, first: int, entries: npt.NDArray[Any]) -> None:
                folder.write(step.output.file, step.output.start + first * entries.itemsize, entries)

            execute(plan, sink, progress=progress)
            for name, text in plan.texts.items():
                folder.write_file(name, text.encode())
            for file in plan.carried:
                folder.copy_file(file.name, files.path(file.parent, file.name))
            manifest = _manifest(plan, samples, _digests(folder.partial, plan.jobs))
            if accept is not None:
                accept(manifest)
            folder.write_file(MANIFEST_NAME, manifest.to_json().encode())
            folder.publish()
    return Merged(manifest, already_done=False)


def _check_name(out: Path) -> None:
    if out.name in {"", ".."}:
        raise PlanError(f"OUT is {out}, which cannot be replaced", where=str(out), hint="name a new folder")
    if len(os.fsencode(out.name)) > MAX_NAME_BYTES:
        raise PlanError(
            f"OUT's name has {len(os.fsencode(out.name))} bytes, at most {MAX_NAME_BYTES} are taken",
            where=shown(str(out)),
            hint="choose a shorter one",
        )
    if out.is_mount():
        raise PlanError(
            f"{out} is a mount point, which cannot be renamed",
            where=str(out),
            hint=f"name a new folder in it: {out / 'merged'}",
        )


def _finished(plan: Plan, files: InputFiles, out: Path, *, overwrite: bool) -> Manifest | None:
    """The manifest of a finished `out` of the same plan and parents; None when nothing is in the way.

    Raises `PlanError` when `out` is something else and may not be replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        manifest = read_manifest(out)
    except ManifestError:
        what = "a folder that is no merge" if out.is_dir() else "a file"
        raise PlanError(
            f"{out} exists and is {what}", where=str(out), hint="choose another OUT; only a merge can be overwritten"
        ) from None
    same_plan, complete = manifest.plan_hash == plan.hash, _all_there(manifest, out)
    if same_plan and complete and tuple(parent.sample for parent in manifest.parents) == sample_digests(plan, files):
        return manifest
    if not overwrite:
        changed = "of parents that have changed since" if complete else "but some of its files were removed or changed"
        what = f"this merge, {changed}" if same_plan else "a merge of another plan"
        raise PlanError(f"{out} exists and is {what}", where=str(out), hint="--overwrite replaces it")
    return None


def _all_there(manifest: Manifest, out: Path) -> bool:
    return all(
        (out / name).is_file() and (out / name).stat().st_size == file.size for name, file in manifest.files.items()
    )


def file_digest(path: Path) -> FileDigest:
    """Size and sha256 of a file."""
    with path.open("rb") as file:
        return FileDigest(size=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _digests(folder: Path, jobs: int) -> dict[str, FileDigest]:
    names = sorted(
        Path(root, name).relative_to(folder).as_posix()
        for root, _, files in os.walk(folder)
        for name in files
        if not name.startswith(".")
    )
    with ThreadPoolExecutor(jobs) as pool:
        return dict(zip(names, pool.map(file_digest, (folder / name for name in names)), strict=True))


def _manifest(plan: Plan, samples: tuple[str, ...], files: dict[str, FileDigest]) -> Manifest:
    method = plan.method
    return Manifest(
        hubmerge_version=__version__,
        plan_hash=plan.hash,
        recipe=plan.recipe.to_dict(),
        method=method.name,
        method_revision=method.revision,
        paper=method.paper,
        seed=plan.recipe.seed,
        reproducible="exact" if method.kind == "entrywise" else "tolerance",
        parents=tuple(_record(parent, sample) for parent, sample in zip(plan.parents, samples, strict=True)),
        config_donor=str(plan.parents[plan.config_donor].reference),
        tokenizer_donor=None if plan.tokenizer_donor is None else str(plan.parents[plan.tokenizer_donor].reference),
        dtype=plan.dtype,
        parameters=plan.parameters,
        tensors={
            "merged": plan.count("merge"),
            "copied": plan.count("copy"),
            "averaged": plan.count("average"),
            "counted": plan.count("count"),
        },
        warnings=plan.warnings,
        versions=_versions(method.kind == "matrix"),
        files=files,
    )


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


def _versions(with_torch: bool) -> dict[str, str]:
    from importlib.metadata import version

    names = ("numba", "numpy", *(("torch",) if with_torch else ()))
    return {"python": platform.python_version()} | {name: version(name) for name in names}
