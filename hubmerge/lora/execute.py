"""An `AdapterPlan` carried out: the adapters merged in memory, then written as one, or added to their base tensor by tensor."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubmerge.adapter_record import AdapterRecord, ModuleRecord
from hubmerge.adapter_words import Combination, CombinationParameters
from hubmerge.in_memory_recipe import BASE
from hubmerge.io.digests import file_sha256
from hubmerge.io.finished import finish, finished_before
from hubmerge.lora.adapter import Adapter
from hubmerge.lora.base_tensors import AdapterBase, tensors_of
from hubmerge.lora.computing import combined_modules
from hubmerge.lora.dense import MergedInputs, layout_of, write_factors
from hubmerge.lora.in_basis import BasisMerge
from hubmerge.lora.low_rank import Reduced
from hubmerge.lora.plan_types import AdapterPlan
from hubmerge.lora.reading import numbers_of
from hubmerge.lora.stacks import stacks_of
from hubmerge.lora.weighing import Weighed, coefficients_by, weighed, weighed_again
from hubmerge.lora.wholes import BySum, Wholes, merged_wholes
from hubmerge.lora.writing import write_into
from hubmerge.manifest import Manifest
from hubmerge.parents import open_parent
from hubmerge.prepare_stage import PREPARED_FOLDER, coefficients_digest
from hubmerge.prepared_record import PreparedRecord
from hubmerge.recipe import Recipe
from hubmerge.record import adapters_manifest, file_digests, folder_digests
from hubmerge.weights import Written, identity_of, write_weights
from hubmerge.wrapper import Prepared
from zoo_index.reference import ModelRef

if TYPE_CHECKING:
    from hubmerge.carry_out import Work

__all__ = [
    "MERGED_FOLDER",
    "Waiting",
    "found_again",
    "merged_factors",
    "write_adapters",
    "write_merged",
    "write_waiting",
]

MERGED_FOLDER = "merged-adapter"
"""In OUT.partial: the merged factors that the base's tensors wait for."""
_MARK = "record.json"
"""Written last into it: what the factors depend on, and the record of their modules."""

Merged = Mapping[str, Reduced]


def write_adapters(plan: AdapterPlan, work: Work) -> tuple[Written | None, Callable[[], Manifest]]:
    """Carry out the plan in `work`'s folder; returns what makes the manifest once all files are there."""
    own = _weighed(plan, work) if plan.running is not None else None
    if plan.dense is not None:
        return _add_to_base(plan, work, own)
    partial = work.folder.partial
    if own is None:
        work.folder.start_over()
    else:
        work.note("merging the adapters")
    record = write_merged(plan, partial, None if own is None else own.found)

    def recorded() -> Manifest:
        if own is not None:
            shutil.rmtree(partial / PREPARED_FOLDER)
        digests = folder_digests(partial, weights=work.digest)
        return adapters_manifest(plan, work.samples, record, digests, None if own is None else own.record)

    return None, recorded


def _weighed(plan: AdapterPlan, work: Work) -> Weighed:
    """The coefficients of a method that runs models, which stay in OUT.partial until the merge is complete."""
    assert plan.running is not None
    kept = work.folder.partial / PREPARED_FOLDER
    identity = {**identity_of(plan.running, work.samples, work.states, "cpu"), "plan": plan.hash}
    found = weighed(plan, lambda: _opened(plan), kept, identity, work.note)
    work.folder.keep(0, plan.bytes_written)
    return found


def found_again(plan: AdapterPlan, record: PreparedRecord | None, where: str) -> tuple[Prepared | None, float]:
    """The coefficients that a manifest records, and how far those found now are from them; None and 0 for a method without any."""
    if plan.running is None:
        return None, 0.0
    return weighed_again(plan, lambda: _opened(plan), record, where)


def write_merged(plan: AdapterPlan, folder: Path, found: Prepared | None = None) -> AdapterRecord:
    """Merge the adapters of `plan` into `folder`, as PEFT has one.  Raises `NumbersError` for numbers that are not finite.

    found: the coefficients of a method that finds some first.
    """
    adapters, merged, wholes = merged_factors(plan, found)
    own = {"base_model_name_or_path": plan.base_model, "revision": plan.base_revision}
    write_into(folder, adapters, {module: reduced.factors for module, reduced in merged.items()}, own, wholes)
    return _record(plan, merged)


def merged_factors(plan: AdapterPlan, found: Prepared | None = None) -> tuple[Sequence[Adapter], Merged, Wholes]:
    """The adapters, read, what comes of every module, and of what they have beside factors.  found: see `write_merged`."""
    recipe, rank = plan.recipe, plan.recipe.output.rank
    with warnings.catch_warnings():  # what a plan warns of was told before
        warnings.simplefilter("ignore", UserWarning)
        if not isinstance(plan.method, Combination):
            merge, own = _opened(plan), None if found is None else coefficients_by(found)
            return merge.adapters, merge.modules(rank, own), merge.wholes(own)
        adapters = [numbers_of(header) for header in plan.adapters]
        stacks = stacks_of(adapters, plan.missing)
        (section,) = recipe.sections
        rows = [section.scopes.resolve(plan.method, model, "", 0.0) for model in section.models]
        given = [CombinationParameters.model_validate(row) for row in rows]
        weights = [row.weight for row in given]
        merged = combined_modules(plan.method.name, stacks, given[0], weights, rank, recipe.seed)
        return adapters, merged, merged_wholes(adapters, _base(plan), plan.missing, BySum(weights))


def _opened(plan: AdapterPlan) -> BasisMerge:
    """The adapters of a plan by a method, read."""
    assert plan.basis != "none"
    adapters = [numbers_of(header) for header in plan.adapters]
    inner, places = _in_coordinates(plan)
    stacks = stacks_of(adapters, plan.missing)
    return BasisMerge(adapters, stacks, inner, places, plan.basis, plan.missing, _base(plan), plan.jobs)


def _base(plan: AdapterPlan) -> AdapterBase | None:
    """The base, where whole tensors are changes of its own."""
    if not plan.wholes.origin:
        return None
    base = plan.parents[0]
    pins = {str(base.reference): base.commit} if base.commit is not None else {}
    return tensors_of(open_parent(base.reference, pins))


def _in_coordinates(plan: AdapterPlan) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe of the coordinates' merge, and what it calls them."""
    recipe = plan.recipe
    places = tuple(str(entry.model) for entry in recipe.models)
    stages = {key: getattr(recipe, key) for key in ("merge_method", "sparsify", "combine")}
    raw: dict[str, Any] = {key: value for key, value in stages.items() if value is not None}
    raw["models"] = [
        {"model": ModelRef(place), "parameters": entry.parameters}
        for place, entry in zip(places, recipe.models, strict=True)
    ]
    if recipe.method.base == "required":
        raw["base_model"] = ModelRef(BASE)
    return Recipe.parse({**raw, "parameters": recipe.parameters, "seed": recipe.seed}), places


def _record(plan: AdapterPlan, merged: Merged) -> AdapterRecord:
    ranks = {module.name: module.ranks for module in plan.modules}
    return AdapterRecord(
        kind="adapter" if plan.dense is None else "dense",
        basis=plan.basis,
        missing=plan.missing,
        base_model=plan.base_model,
        base_revision=plan.base_revision,
        asked=plan.recipe.output.rank,
        differs=plan.differs,
        modules={
            name: ModuleRecord(ranks=ranks[name], rank=found.factors.rank, energy=found.energy)
            for name, found in merged.items()
        },
    )


def _add_to_base(plan: AdapterPlan, work: Work, own: Weighed | None) -> tuple[Written, Callable[[], Manifest]]:
    """The merged adapter beside the model that is written, then every tensor of the base with its change."""
    assert plan.dense is not None
    dense, partial = plan.dense, work.folder.partial
    place = partial / MERGED_FOLDER
    known = {**identity_of(dense, work.samples, work.states, "cpu"), "plan": plan.hash}
    known |= {} if own is None else {"prepared": coefficients_digest(own.found)}
    found = finished_before(place / _MARK, known, _waiting)
    if found is None:
        work.note("merging the adapters")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        found = write_waiting(plan, place, None if own is None else own.found)
        finish(place / _MARK, known, {"record": found.record.model_dump(mode="json"), "sha256": found.sha256})
    else:
        work.note("the adapters were merged before: what came of them is used again")
    work.folder.keep(0, sum(step.output.nbytes for step in dense.steps))
    written = write_weights(
        dense,
        work.folder,
        {**known, "adapter": found.sha256},
        inputs=MergedInputs(dense.parents, place),
        prepared=True,
        digest=work.digest,
        progress=work.progress,
        note=work.note,
    )
    record = found.record

    def recorded() -> Manifest:
        shutil.rmtree(place)
        shutil.rmtree(partial / PREPARED_FOLDER, ignore_errors=True)
        digests = file_digests(dense, partial, written.digests)
        return adapters_manifest(plan, work.samples, record, digests, None if own is None else own.record)

    return written, recorded


@dataclass(frozen=True)
class Waiting:
    """Merged factors in a file.  sha256: of the file."""

    record: AdapterRecord
    sha256: str


def _waiting(found: Mapping[str, Any]) -> Waiting:
    return Waiting(AdapterRecord.model_validate(found["record"]), found["sha256"])


def write_waiting(plan: AdapterPlan, folder: Path, found: Prepared | None = None) -> Waiting:
    """Merge the adapters of `plan` into the file in `folder` that its dense plan reads.  found: see `write_merged`."""
    adapters, merged, wholes = merged_factors(plan, found)
    embeddings = frozenset[str]().union(*(adapter.embeddings for adapter in adapters))
    factors = {module: reduced.factors for module, reduced in merged.items()}
    path = write_factors(folder, layout_of(plan.modules, embeddings, plan.wholes), factors, embeddings, wholes)
    return Waiting(_record(plan, merged), file_sha256(path))
