"""`verify`: is a merged model what its manifest says, can it be derived again, and does it load and answer?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hubmerge.errors import NumbersError, VerifyError
from hubmerge.fetching import fetch_parents
from hubmerge.io.digests import file_sha256
from hubmerge.io.input_files import InputFiles
from hubmerge.io.sample import sample_digests
from hubmerge.manifest import Manifest, read_manifest
from hubmerge.plan import build_plan, pins_of
from hubmerge.plan_types import Plan, PlannedParent
from hubmerge.planned import Planned
from hubmerge.recipe import Recipe
from hubmerge.rederive import rederive
from hubmerge.reloading import reloaded
from hubmerge.sizes import size_text
from zoo_index.errors import HubmergeError

if TYPE_CHECKING:
    from hubmerge.alignment.plan_types import PlannedAlignment
    from hubmerge.heterogeneous.mal_plan_types import MalPlan
    from hubmerge.heterogeneous.plan_types import AssemblyPlan
    from hubmerge.lora.plan_types import AdapterPlan

__all__ = ["Check", "Verification", "verify_merge"]

Level = Literal["exact", "tolerance", "recorded", "sizes"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its name, whether it held, and a sentence."""

    name: Literal["files", "derivation", "reload"]
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class Verification:
    """The outcome.  level: ``exact`` (derived again from the parents, byte for byte), ``tolerance`` (derived again within
    the tolerance of matrix methods), ``recorded`` (the digests of the manifest only, since the parents are not here),
    ``sizes`` (not even those: it was merged without digests).
    """

    folder: str
    level: Level
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong, and something better than sizes says so."""
        return self.level != "sizes" and all(check.passed is not False for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def verify_merge(
    folder: str | Path, *, reload: bool = True, fetch: bool = False, jobs: int | None = None
) -> Verification:
    """Check a merged folder three ways: digests of its files, derivation from its parents, reload with finite outputs.

    reload: also load it with transformers (needs torch) and run it once.  fetch: download parents that are on the Hub and
    not on this disk; without it such a merge is checked by its recorded digests.  Raises `ManifestError` when `folder` is no
    merge; what does not hold is in the result, not an exception.
    """
    path = Path(folder)
    manifest = read_manifest(path)
    files = _check_files(manifest, path)
    derivation, level = (
        _check_derivation(manifest, path, jobs, fetch=fetch)
        if files.passed is not False
        else (Check("derivation", None, "not tried: the files are not those of the merge"), "recorded")
    )
    if level == "recorded" and manifest.undigested:
        level = "sizes"
    checks = [files, derivation]
    if reload:
        checks.append(
            Check("reload", *reloaded(path))
            if files.passed is not False
            else Check("reload", None, "not tried: the files are not those of the merge")
        )
    return Verification(str(folder), level, tuple(checks))


def _check_files(manifest: Manifest, folder: Path) -> Check:
    wrong = [] if any(name.endswith(".safetensors") for name in manifest.files) else ["the manifest records no weights"]
    for name, recorded in manifest.files.items():
        path = folder / name
        try:
            if not path.is_file():
                wrong.append(f"{name} is missing")
            elif path.stat().st_size != recorded.size or (recorded.sha256 and file_sha256(path) != recorded.sha256):
                wrong.append(f"{name} was changed")
        except OSError as error:
            wrong.append(f"{name} cannot be read ({error.strerror})")
    known = set(manifest.files) | {"hubmerge.json", "README.md", ".gitattributes", "LICENSE", "NOTICE"}
    stray = sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*.safetensors")
        if p.relative_to(folder).as_posix() not in known
    )
    wrong += [f"{name} does not belong to the merge" for name in stray]
    if wrong:
        return Check("files", False, "; ".join(wrong))
    unknown = manifest.undigested
    whole = f"{len(manifest.files) - len(unknown)} files have the size and sha256 of the manifest"
    if unknown:
        sizes = "1 has its size" if len(unknown) == 1 else f"{len(unknown)} have their sizes"
        what = f"{sizes}, and no sha256 there (--no-digest): {', '.join(unknown)}"
        return Check("files", None, f"{whole}; {what}")
    return Check("files", True, whole)


def _check_derivation(manifest: Manifest, folder: Path, jobs: int | None, *, fetch: bool) -> tuple[Check, Level]:
    try:
        plan = build_plan(Recipe.parse(manifest.recipe), jobs=jobs, pins=pins_of(manifest))
    except HubmergeError as fault:
        return Check("derivation", None, f"not tried, the parents are not as they were: {fault.faults[0]}"), "recorded"
    if [(parent.reference, parent.adapter) for parent in manifest.parents] != [
        _names(parent) for parent in plan.parents
    ]:
        return Check("derivation", False, "the manifest lists other parents than its recipe"), "recorded"
    if plan.downloads and not fetch:
        size = size_text(plan.bytes_to_download)
        return Check(
            "derivation", None, f"not tried: {size} of its parents are not on this disk; --fetch downloads them"
        ), "recorded"
    fetch_parents(plan)
    with InputFiles(plan.parents) as files:
        samples = sample_digests(plan, files)
    changed = [
        str(parent.reference)
        for parent, sample, record in zip(plan.parents, samples, manifest.parents, strict=True)
        if (dict(parent.headers), parent.commit, sample) != (record.headers, record.commit, record.sample)
    ]
    if changed:
        return Check("derivation", None, f"not tried: {', '.join(changed)} changed since the merge"), "recorded"
    if plan.hash != manifest.plan_hash:
        what = "the recipe makes another plan now; a parent's config or tokenizer, or hubmerge itself, changed"
        return Check("derivation", None, f"not tried: {what}"), "recorded"
    if not isinstance(plan, Plan):
        from hubmerge.lora.plan_types import AdapterPlan

        if isinstance(plan, AdapterPlan):
            return _check_adapters(plan, manifest, folder)
        return _check_assembly(plan, manifest, folder)
    if plan.alignment is not None:
        return _check_aligned(plan, plan.alignment, manifest, folder)
    return _check_tensors(plan, manifest, folder)


def _check_tensors(plan: Plan, manifest: Manifest, folder: Path) -> tuple[Check, Level]:
    """Every tensor derived once more from the parents as they are."""
    exact, apart = manifest.reproducible == "exact", 0.0
    try:
        _compare_files(plan, folder)
        if plan.method.wrapper is not None:
            from hubmerge.prepare_stage import prepared_again, same_task_data

            if not same_task_data(plan, manifest):
                return Check("derivation", None, "not tried: the calibration data changed since the merge"), "recorded"
            plan, apart = prepared_again(plan, manifest.prepared, str(folder))
            exact = plan.method.kind == "entrywise"
        worst = rederive(plan, folder, exact=exact)
    except HubmergeError as fault:
        return Check("derivation", False, str(fault)), "recorded"
    except OSError as error:
        return Check("derivation", None, f"not tried: {error.filename} cannot be read ({error.strerror})"), "recorded"
    if apart:
        how = f"{len(plan.steps)} tensors derived again from the parents{_found_apart(apart)}"
        told = f"{how}: largest difference {worst:.1e} of a tensor's largest entry"
        return Check("derivation", True, told), "tolerance"
    if exact:
        return Check(
            "derivation",
            True,
            f"{len(plan.steps)} tensors derived again from the parents: the same bytes",
        ), "exact"
    return Check(
        "derivation",
        True,
        f"{len(plan.steps)} tensors derived again from the parents: largest difference {worst:.1e} of a tensor's largest entry",
    ), "tolerance"


def _check_aligned(plan: Plan, alignment: PlannedAlignment, manifest: Manifest, folder: Path) -> tuple[Check, Level]:
    """The same for a merge after an alignment: parents are aligned once more, into a temporary folder."""
    from hubmerge.alignment.derivation import check_orders, check_statistics, same_rows
    from hubmerge.alignment.stage import aligned_again
    from hubmerge.alignment.statistics import statistics_of

    estimated = statistics_of(plan) if alignment.estimates_statistics else ()
    try:
        if not same_rows(plan, alignment, manifest):
            return Check("derivation", None, "not tried: the calibration data changed since the merge"), "recorded"
        _compare_files(plan, folder)
        with aligned_again(plan, alignment) as aligned:
            check_orders(aligned, manifest, folder)
            worst = rederive(plan, folder, exact=False, inputs=aligned.inputs(plan), without=estimated)
            worst = max(worst, check_statistics(plan, aligned, folder)) if estimated else worst
    except (VerifyError, NumbersError) as fault:
        return Check("derivation", False, str(fault)), "recorded"
    except HubmergeError as fault:
        return Check("derivation", None, f"not tried: {fault}"), "recorded"
    except OSError as error:
        return Check("derivation", None, f"not tried: {error.filename} cannot be read ({error.strerror})"), "recorded"
    how = f"{len(plan.steps)} tensors derived again from the parents, aligned again"
    if worst == 0:
        return Check("derivation", True, f"{how}: the same bytes"), "exact"
    told = f"{how}: largest difference {worst:.1e} of a tensor's largest entry"
    return Check("derivation", True, told), "tolerance"


def _check_adapters(plan: AdapterPlan, manifest: Manifest, folder: Path) -> tuple[Check, Level]:
    """The same for adapters that were merged as adapters, which are merged once more."""
    from hubmerge.lora.derivation import derive_again
    from hubmerge.lora.execute import found_again
    from hubmerge.prepare_stage import same_task_data

    try:
        if plan.running is not None and not same_task_data(plan.running, manifest):
            return Check("derivation", None, "not tried: the calibration data changed since the merge"), "recorded"
        if plan.dense is not None:
            _compare_files(plan.dense, folder)
        found, apart = found_again(plan, manifest.prepared, str(folder))
        count, worst = derive_again(plan, folder, found)
    except (VerifyError, NumbersError) as fault:
        return Check("derivation", False, str(fault)), "recorded"
    except HubmergeError as fault:
        return Check("derivation", None, f"not tried: {fault}"), "recorded"
    except OSError as error:
        return Check("derivation", None, f"not tried: {error.filename} cannot be read ({error.strerror})"), "recorded"
    how = f"{count} {'modules' if plan.dense is None else 'tensors'} derived again from the adapters"
    if apart:
        how += _found_apart(apart)
    elif worst == 0:
        return Check("derivation", True, f"{how}: the same bytes"), "exact"
    of = "change" if plan.dense is None else "tensor's largest entry"
    return Check("derivation", True, f"{how}: largest difference {worst:.1e} of a {of}"), "tolerance"


def _check_assembly(plan: AssemblyPlan | MalPlan, manifest: Manifest, folder: Path) -> tuple[Check, Level]:
    """The same for a merge of unlike models, which is made once more as a whole."""
    from hubmerge.heterogeneous.derivation import derive_again, same_data

    try:
        if not same_data(plan, manifest):
            return Check("derivation", None, "not tried: the calibration data changed since the merge"), "recorded"
        _compare_carried(plan, folder)
        derived = derive_again(plan, folder)
    except (VerifyError, NumbersError) as fault:
        return Check("derivation", False, str(fault)), "recorded"
    except HubmergeError as fault:
        return Check("derivation", None, f"not tried: {fault}"), "recorded"
    source = "the models and the calibration data" if manifest.data else "the models"
    how = f"{derived.tensors} tensors derived again from {source}"
    if derived.same_bytes:
        return Check("derivation", True, f"{how}: the same bytes"), "exact"
    told = f"{how}: largest difference {derived.worst:.1e} of a tensor's largest entry"
    return Check("derivation", True, told), "tolerance"


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
