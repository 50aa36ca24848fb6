"""A merge derived once more from its parents, and compared with what lies in its folder; each kind of merge in its own way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hubmerge.errors import NumbersError, VerifyError
from hubmerge.fetching import fetch_parents
from hubmerge.io.digests import file_sha256
from hubmerge.io.input_files import InputFiles
from hubmerge.io.sample import sample_digests
from hubmerge.manifest import Manifest
from hubmerge.plan import build_plan, pins_of
from hubmerge.plan_types import Plan, PlannedParent
from hubmerge.planned import Planned
from hubmerge.recipe import Recipe
from hubmerge.rederive import rederive
from hubmerge.sizes import size_text
from hubmerge.verification import Check, Level
from zoo_index.errors import HubmergeError

if TYPE_CHECKING:
    from hubmerge.alignment.plan_types import PlannedAlignment
    from hubmerge.heterogeneous.mal_plan_types import MalPlan
    from hubmerge.heterogeneous.plan_types import AssemblyPlan
    from hubmerge.lora.plan_types import AdapterPlan

__all__ = ["check_derivation"]


def check_derivation(manifest: Manifest, folder: Path, jobs: int | None, *, fetch: bool) -> tuple[Check, Level]:
    """The merge in `folder` derived once more from its parents, as far as these are there and as they were; jobs, fetch: see `verify_merge`."""
    try:
        plan = build_plan(Recipe.parse(manifest.recipe), jobs=jobs, pins=pins_of(manifest))
    except HubmergeError as fault:
        return _not_tried(f", the parents are not as they were: {fault.faults[0]}")
    if [(parent.reference, parent.adapter) for parent in manifest.parents] != [
        _names(parent) for parent in plan.parents
    ]:
        return _failed("the manifest lists other parents than its recipe")
    if plan.downloads and not fetch:
        size = size_text(plan.bytes_to_download)
        return _not_tried(f": {size} of its parents are not on this disk; --fetch downloads them")
    fetch_parents(plan)
    with InputFiles(plan.parents) as files:
        samples = sample_digests(plan, files)
    changed = [
        str(parent.reference)
        for parent, sample, record in zip(plan.parents, samples, manifest.parents, strict=True)
        if (dict(parent.headers), parent.commit, sample) != (record.headers, record.commit, record.sample)
    ]
    if changed:
        return _not_tried(f": {', '.join(changed)} changed since the merge")
    if plan.hash != manifest.plan_hash:
        what = "the recipe makes another plan now; a parent's config or tokenizer, or hubmerge itself, changed"
        return _not_tried(f": {what}")
    try:
        return _compared(plan, manifest, folder)
    except (VerifyError, NumbersError) as fault:
        return _failed(str(fault))
    except HubmergeError as fault:
        return _not_tried(f": {fault}")
    except OSError as error:
        return _not_tried(f": {error.filename or 'a file'} cannot be read ({error.strerror})")


def _compared(
    plan: Plan | AssemblyPlan | MalPlan | AdapterPlan, manifest: Manifest, folder: Path
) -> tuple[Check, Level]:
    """The comparison of the plan's kind; raises what deriving raises, and `VerifyError` for what differs."""
    if isinstance(plan, Plan):
        if plan.alignment is not None:
            return _check_aligned(plan, plan.alignment, manifest, folder)
        return _check_tensors(plan, manifest, folder)
    from hubmerge.lora.plan_types import AdapterPlan

    if isinstance(plan, AdapterPlan):
        return _check_adapters(plan, manifest, folder)
    return _check_assembly(plan, manifest, folder)


def _check_tensors(plan: Plan, manifest: Manifest, folder: Path) -> tuple[Check, Level]:
    """Every tensor derived once more from the parents as they are."""
    exact, apart = manifest.reproducible == "exact", 0.0
    try:
        _compare_files(plan, folder)
        if plan.method.wrapper is not None:
            from hubmerge.prepare_stage import prepared_again, same_task_data

            if not same_task_data(plan, manifest):
                return _not_tried(_OTHER_DATA)
            plan, apart = prepared_again(plan, manifest.prepared, str(folder))
            exact = plan.method.kind == "entrywise"
        worst = rederive(plan, folder, exact=exact)
    except HubmergeError as fault:
        return _failed(str(fault))
    how = f"{len(plan.steps)} tensors derived again from the parents"
    if apart:
        return _within(f"{how}{_found_apart(apart)}", worst)
    return _the_same(how) if exact else _within(how, worst)


def _check_aligned(plan: Plan, alignment: PlannedAlignment, manifest: Manifest, folder: Path) -> tuple[Check, Level]:
    """The same for a merge after an alignment: parents are aligned once more, into a temporary folder."""
    from hubmerge.alignment.derivation import check_orders, check_statistics, same_rows
    from hubmerge.alignment.stage import aligned_again
    from hubmerge.alignment.statistics import statistics_of

    estimated = statistics_of(plan) if alignment.estimates_statistics else ()
    if not same_rows(plan, alignment, manifest):
        return _not_tried(_OTHER_DATA)
    _compare_files(plan, folder)
    with aligned_again(plan, alignment) as aligned:
        check_orders(aligned, manifest, folder)
        worst = rederive(plan, folder, exact=False, inputs=aligned.inputs(plan), without=estimated)
        worst = max(worst, check_statistics(plan, aligned, folder)) if estimated else worst
    how = f"{len(plan.steps)} tensors derived again from the parents, aligned again"
    return _the_same(how) if worst == 0 else _within(how, worst)


def _check_adapters(plan: AdapterPlan, manifest: Manifest, folder: Path) -> tuple[Check, Level]:
    """The same for adapters that were merged as adapters, which are merged once more."""
    from hubmerge.lora.derivation import derive_again
    from hubmerge.lora.execute import found_again
    from hubmerge.prepare_stage import same_task_data

    if plan.running is not None and not same_task_data(plan.running, manifest):
        return _not_tried(_OTHER_DATA)
    if plan.dense is not None:
        _compare_files(plan.dense, folder)
    found, apart = found_again(plan, manifest.prepared, str(folder))
    count, worst = derive_again(plan, folder, found)
    what = "module" if plan.dense is None else "tensor"
    how = f"{count} {what}{'s' * (count != 1)} derived again from the adapters"
    if apart:
        how += _found_apart(apart)
    elif worst == 0:
        return _the_same(how)
    return _within(how, worst, "change" if plan.dense is None else _ENTRY)


def _check_assembly(plan: AssemblyPlan | MalPlan, manifest: Manifest, folder: Path) -> tuple[Check, Level]:
    """The same for a merge of unlike models, which is made once more as a whole."""
    from hubmerge.heterogeneous.derivation import derive_again, same_data

    if not same_data(plan, manifest):
        return _not_tried(_OTHER_DATA)
    _compare_carried(plan, folder)
    derived = derive_again(plan, folder)
    source = "the models and the calibration data" if manifest.data else "the models"
    how = f"{derived.tensors} tensors derived again from {source}"
    return _the_same(how) if derived.same_bytes else _within(how, derived.worst)


_OTHER_DATA = ": the calibration data changed since the merge"
_ENTRY = "tensor's largest entry"


def _not_tried(why: str) -> tuple[Check, Level]:
    return Check("derivation", None, f"not tried{why}"), "recorded"


def _failed(why: str) -> tuple[Check, Level]:
    return Check("derivation", False, why), "recorded"


def _the_same(how: str) -> tuple[Check, Level]:
    return Check("derivation", True, f"{how}: the same bytes"), "exact"


def _within(how: str, worst: float, of: str = _ENTRY) -> tuple[Check, Level]:
    return Check("derivation", True, f"{how}: largest difference {worst:.1e} of a {of}"), "tolerance"


def _found_apart(apart: float) -> str:
    return f" with the coefficients of the manifest, from which those found again differ by at most {apart:.1e}"


def _names(parent: PlannedParent) -> tuple[str, str | None]:
    adapter = parent.reference.adapter
    return str(parent.reference.model), None if adapter is None else str(adapter)


def _compare_files(plan: Plan, folder: Path) -> None:
    """Headers, config, index and carried files against what the plan writes; `VerifyError` at the first missing or other one."""
    written = [*plan.layout.headers, *plan.texts, *(file.name for file in plan.carried)]
    missing = next((name for name in written if not (folder / name).is_file()), None)
    if missing is not None:
        raise VerifyError(f"{missing}, which its parents give, is missing", where=str(folder), hint="merge again")
    different = [name for name, header in plan.layout.headers.items() if not _starts_with(folder / name, header)]
    different += [name for name, text in plan.texts.items() if (folder / name).read_bytes() != text.encode()]
    if different:
        raise VerifyError(f"{different[0]} differs from what its parents give", where=str(folder), hint="merge again")
    _compare_carried(plan, folder)


def _compare_carried(plan: Planned, folder: Path) -> None:
    with InputFiles(plan.parents) as files:
        for file in plan.carried:
            path = folder / file.name
            if not path.is_file() or file_sha256(path) != file_sha256(files.path(file.parent, file.name)):
                raise VerifyError(
                    f"{file.name} differs from what its parents give", where=str(folder), hint="merge again"
                )


def _starts_with(path: Path, raw: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(raw)) == raw
