"""`merge`: plan, execute, and publish the folder with its manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubmerge.carry_out import Work, carry_out
from hubmerge.destination import keep_parents_safe
from hubmerge.device import check_device
from hubmerge.errors import ManifestError, PlanError, shown
from hubmerge.fetching import check_disks, fetch_parents
from hubmerge.io.input_files import InputFiles
from hubmerge.io.partial import MAX_NAME_BYTES, put_back, sweep
from hubmerge.io.sample import sample_digests
from hubmerge.io.unchanged import check_planned, check_unchanged, file_states, written_since
from hubmerge.io.writer import OutputFolder
from hubmerge.manifest import MANIFEST_NAME, Manifest, read_manifest
from hubmerge.plan import build_plan
from hubmerge.plan_types import Plan
from hubmerge.planned import Planned
from hubmerge.recipe import Recipe
from hubmerge.record import file_digest
from hubmerge.weights import Written

if TYPE_CHECKING:
    from hubmerge.heterogeneous.mal_plan_types import MalPlan
    from hubmerge.heterogeneous.plan_types import AssemblyPlan
    from hubmerge.lora.plan_types import AdapterPlan

__all__ = ["Merged", "merge", "merge_plan"]

Progress = Callable[[int], None]


def merge(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    jobs: int | None = None,
    memory: int | None = None,
    fresh: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    digest: bool = True,
    device: str = "cpu",
) -> Manifest:
    """Merge models into the folder `out` and return its manifest.

    recipe: a YAML file, a mapping, or a `Recipe`.  jobs: worker threads, default the cores at hand.  memory: bytes the
    workers' buffers may take.  fresh: discard what an interrupted merge left in OUT.partial.  overwrite: replace an
    `out` that is something else.  strict: warnings are errors.  digest: without it the manifest has no sha256 of the
    weights (publishing computes them).  device: where methods of whole matrices compute, see `check_device`.  A finished
    `out` of the same plan is returned as it is; a merge that was interrupted, by whatever, is gone on with, and ends with
    the same bytes.

    Raises `RecipeError`, `PlanError`, `CheckpointError` or `ModelNotFoundError` before any weight is read, `MergeError`
    while it runs, `MergeInterrupted` (a KeyboardInterrupt) by Ctrl-C; then `out` is untouched, and the text says whether
    OUT.partial stays to go on from.
    """
    plan = build_plan(recipe, jobs=jobs, memory=memory, strict=strict)
    return merge_plan(plan, out, fresh=fresh, overwrite=overwrite, digest=digest, device=device).manifest


@dataclass(frozen=True)
class Merged:
    """The outcome of `merge_plan`: the manifest, whether `out` held this merge before, and else what was written of it tensor by tensor."""

    manifest: Manifest
    already_done: bool
    written: Written | None = None


def merge_plan(
    plan: Plan | AssemblyPlan | MalPlan | AdapterPlan,
    out: str | Path,
    *,
    fresh: bool = False,
    overwrite: bool = False,
    digest: bool = True,
    device: str = "cpu",
    progress: Progress = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
    accept: Callable[[Manifest], None] = lambda _: None,
) -> Merged:
    """Carry out `plan` into the folder `out`; see `merge`.

    progress: is called with the bytes of tensors done since the last call.  note: is told in a sentence what was found of an
    interrupted merge.  accept: is shown the manifest of the complete merge before it becomes `out`; when it raises, `out`
    stays as it was.
    """
    target = _target(Path(out))
    if not isinstance(plan, Plan) or plan.method.kind == "entrywise":
        device = "cpu"
    check_device(device)
    _check_name(target)
    keep_parents_safe(plan, target)
    put_back(target)
    with InputFiles(plan.parents) as files:
        finished = _finished(plan, files, target, overwrite=overwrite, note=note)
        if finished is not None:
            sweep(target)
            accept(finished)
            return Merged(finished, already_done=True)
        check_disks(plan, target, beside=_beside(plan))
        fetch_parents(plan)
        check_planned(plan, files)
        states, samples = file_states(plan, files), sample_digests(plan, files)
        with OutputFolder(target, plan.hash, fresh=fresh, replace=overwrite) as folder:
            work = Work(folder, samples, states, digest, device, progress, note)
            written, recorded = carry_out(plan, work)
            with _not_worth_keeping(folder):
                check_unchanged(states, plan, files)
            for name, text in plan.texts.items():
                folder.write_file(name, text.encode())
            for file in plan.carried:
                folder.copy_file(file.name, files.path(file.parent, file.name))
            manifest = recorded()
            with _not_worth_keeping(folder):
                accept(manifest)
            folder.write_file(MANIFEST_NAME, manifest.to_json().encode())
            folder.publish()
    return Merged(manifest, already_done=False, written=written)


@contextmanager
def _not_worth_keeping(folder: OutputFolder) -> Iterator[None]:
    """What is done is of no use to the next merge when this raises: nothing of it is kept."""
    try:
        yield
    except Exception:
        folder.forget()
        raise


def _beside(plan: Planned) -> int:
    """Bytes of the disk that are needed in OUT.partial until the merge is done: for aligned copies, for what a preparation leaves there, or for
    what does not fit into memory.
    """
    if isinstance(plan, Plan):
        preparation = plan.preparation
        return (
            plan.alignment.copied
            if plan.alignment is not None
            else preparation.scratch
            if preparation is not None
            else 0
        )
    running = getattr(plan, "running", None)
    if running is not None and running.preparation is not None:
        return int(running.preparation.scratch)
    use = getattr(plan, "memory_use", None)
    return use.disk if use is not None else 0


def _target(out: Path) -> Path:
    """What is written: a link stays, what it leads to is replaced.  `PlanError` when the system refuses the very path."""
    try:
        out.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # links in a circle, a name that is too long or holds a zero
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PlanError(f"OUT cannot be there ({reason})", where=shown(str(out)), hint="choose another OUT") from error
    return out.resolve() if out.is_symlink() else out


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


def _finished(
    plan: Plan | AssemblyPlan | MalPlan | AdapterPlan,
    files: InputFiles,
    out: Path,
    *,
    overwrite: bool,
    note: Callable[[str], None],
) -> Manifest | None:
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
    samples = tuple(parent.sample for parent in manifest.parents)
    same_inputs = same_plan and complete and samples == sample_digests(plan, files)
    if same_inputs and _same_carried(plan, files, manifest) and _same_data(plan, manifest):
        if not written_since((out / MANIFEST_NAME).stat().st_mtime_ns, plan, files):
            return manifest
        note(f"a parent was written after {out}: it is derived again, to see whether it is the same")
        if _derived_again(plan, out):
            return manifest
    if not overwrite:
        running = getattr(plan, "running", plan)
        alone = isinstance(running, Plan) and running.preparation is None
        inputs = "parents" if alone else "parents or calibration data"
        changed = (
            f"of {inputs} that have changed since" if complete else "but some of its files were removed or changed"
        )
        what = f"this merge, {changed}" if same_plan else "a merge of another plan"
        raise PlanError(f"{out} exists and is {what}", where=str(out), hint="--overwrite replaces it")
    return None


def _derived_again(plan: Plan | AssemblyPlan | MalPlan | AdapterPlan, out: Path) -> bool:
    """Whether the weights in `out` are not shown to differ from what the parents give; then it need not be asked again."""
    from hubmerge.verify import verify_merge

    checks = verify_merge(out, reload=False, jobs=plan.jobs if isinstance(plan, Plan) else None).checks
    same = all(check.passed is not False for check in checks if check.name == "derivation")
    if same:
        with suppress(OSError):
            os.utime(out / MANIFEST_NAME)
    return same


def _same_carried(plan: Planned, files: InputFiles, manifest: Manifest) -> bool:
    local = [file for file in plan.carried if plan.parents[file.parent].commit is None]
    try:
        return all(manifest.files.get(f.name) == file_digest(files.path(f.parent, f.name)) for f in local)
    except OSError as error:
        where = str(error.filename)
        raise PlanError(f"it cannot be read ({error.strerror})", where=where, hint="check its permissions") from error


def _same_data(plan: Plan | AssemblyPlan | MalPlan | AdapterPlan, manifest: Manifest) -> bool:
    """Whether calibration data, where there is any, is that of the merge."""
    if isinstance(plan, Plan):
        if plan.preparation is not None:
            from hubmerge.prepare_stage import same_task_data

            return same_task_data(plan, manifest)
        if plan.alignment is None:
            return True
        from hubmerge.alignment.derivation import same_rows

        return same_rows(plan, plan.alignment, manifest)
    from hubmerge.lora.plan_types import AdapterPlan

    if isinstance(plan, AdapterPlan):
        return plan.running is None or _same_data(plan.running, manifest)
    from hubmerge.heterogeneous.derivation import same_data

    return same_data(plan, manifest)


def _all_there(manifest: Manifest, out: Path) -> bool:
    return all(
        (out / name).is_file() and (out / name).stat().st_size == file.size for name, file in manifest.files.items()
    )
