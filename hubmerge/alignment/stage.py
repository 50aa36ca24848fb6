"""The alignment of a merge carried out: copies of its parents in the base's order, which the method then reads in their place.

A copy that is finished is used again by the merge that goes on after an interruption, when nothing has changed that it depends on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hubmerge.alignment.carried import Carried, carried_by_activations, carried_by_weights
from hubmerge.alignment.filling import CarriedNorms
from hubmerge.alignment.in_base_shapes import copied_files
from hubmerge.alignment.matching import Order, order_by_activations, order_by_weights
from hubmerge.alignment.plan_types import PlannedAlignment
from hubmerge.alignment.stored import StoredWeights, check_weights, write_copy, write_resized
from hubmerge.alignment_record import AlignedParentRecord, AlignmentRecord
from hubmerge.fetching import open_planned
from hubmerge.heterogeneous.record import calibration_record
from hubmerge.io.finished import finish, finished_before
from hubmerge.io.input_files import InputFiles
from hubmerge.parents import ParentModel, parent_of
from hubmerge.plan_types import Plan
from hubmerge.symmetry.groups import SymmetrySpec
from hubmerge.torch_threads import one_torch_thread
from zoo_index.checkpoint import read_config

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hubmerge.calibration import Batches

__all__ = ["ALIGNED_FOLDER", "Aligned", "align_parents", "aligned_again", "calibration_of"]

ALIGNED_FOLDER = "aligned"
"""In OUT.partial: a folder of weight files for every parent that was aligned, by its place."""
_MARK = "order.json"
"""Written last into such a folder: what the copy depends on, and the record of its order."""

_AGAIN = "merge again"
"""What to do where a parent's file changes meanwhile."""

Note = Callable[[str], None]


@dataclass(frozen=True)
class Aligned:
    """What came out.  folders: of the aligned copies, by the parent's place; batches: the calibration data, where there is any."""

    folders: Mapping[int, Path]
    record: AlignmentRecord
    batches: Batches | None

    def inputs(self, plan: Plan) -> InputFiles:
        """The parents' weights as the method reads them."""
        return InputFiles(plan.parents, instead=self.folders)


def align_parents(
    plan: Plan,
    alignment: PlannedAlignment,
    folder: Path,
    identity: Mapping[str, Any],
    *,
    note: Note = lambda _: None,
    finished: Callable[[], None] = lambda: None,
) -> Aligned:
    """Write the aligned copies of `plan`'s parents, which are on this disk, into `folder`, but for those that are there.

    identity: what the parents' weights and the versions are known by, as JSON.  note: is told what is begun, or found.  finished: is
    called whenever a copy is complete.  One thread of torch computes, so that the orders come out the same.

    Raises `PlanError` for data that cannot be used, `MergeError` for a model that cannot be loaded or run, `NumbersError` for numbers that
    are not finite.
    """
    with one_torch_thread():
        batches = calibration_of(plan, alignment)
        known = {**identity, "data": batches.digest if batches is not None else None}
        finder = _Finder(plan, alignment, batches)
        records = []
        folders = {place: folder / str(place) for place in alignment.others}
        for place, copy in folders.items():
            name = str(plan.parents[place].reference)
            record = finished_before(
                copy / _MARK, known, lambda found: AlignedParentRecord.model_validate(found["record"])
            )
            if record is None:
                note(f"bringing {name} into the order of {plan.parents[alignment.base].reference}")
                shutil.rmtree(copy, ignore_errors=True)
                copy.mkdir(parents=True)
                record = _copy(copy, finder, alignment, place)
                finish(copy / _MARK, known, {"record": record.model_dump(mode="json")})
            else:
                note(f"{name} was aligned before: its copy is used again")
            finished()
            records.append(record)
    return Aligned(folders, _record(plan, alignment, records, batches), batches)


def _copy(copy: Path, finder: _Finder, alignment: PlannedAlignment, place: int) -> AlignedParentRecord:
    """Write one parent's copy; returns the record of its order."""
    order, model, base = finder.order(place), finder.opened(place), finder.opened(alignment.base)
    ours, theirs = (StoredWeights(each, _AGAIN) for each in (base, model))
    norms = CarriedNorms()

    def moved(name: str, values: Tensor) -> Tensor:
        after = order.moved(name, values, ours)
        norms.add(name, values, after, order.entries_apart(name))
        return after

    if place in alignment.other_shapes:
        shapes = {name: meta.shape for name, meta in base.table.items()}
        write_resized(copy, theirs, copied_files(model, shapes), moved)
    else:
        write_copy(copy, theirs, model.table.files, moved)
    return AlignedParentRecord(
        reference=str(model.reference),
        order_sha256=order.digest,
        groups=dict(order.groups),
        share=norms.share,
        carried=norms.tensors,
    )


@contextmanager
def aligned_again(plan: Plan, alignment: PlannedAlignment) -> Iterator[Aligned]:
    """The same in a temporary folder, to compare a merge with; the copies are gone afterwards."""
    with TemporaryDirectory(prefix="hubmerge-aligned-") as name:
        yield align_parents(plan, alignment, Path(name), {})


class _Finder:
    """The parents of a plan, opened or loaded as far as their orders need it; the base only once."""

    def __init__(self, plan: Plan, alignment: PlannedAlignment, batches: Batches | None) -> None:
        self._plan, self._alignment, self._batches = plan, alignment, batches
        self._base: nn.Module | None = None

    def opened(self, place: int) -> ParentModel:
        planned = self._plan.parents[place]
        return parent_of(planned.reference.model, open_planned(planned))

    def order(self, place: int) -> Order | Carried:
        from hubmerge.symmetry.load import load_spec

        models = [self.opened(i) for i in (self._alignment.base, place)]
        specs = [
            load_spec(
                model.config,
                {name: meta.shape for name, meta in model.table.items()},
                where=str(model.reference),
            )
            for model in models
        ]
        both = (specs[0], specs[1])
        if self._alignment.method == "activations":
            return self._by_activations(place, both)
        sides = [StoredWeights(model, _AGAIN) for model in models]
        for model, spec, weights in zip(models, both, sides, strict=True):
            check_weights(weights, spec, str(model.reference))
        kept, seed = tuple(self._alignment.kept), self._plan.recipe.seed
        if place in self._alignment.other_shapes:
            return carried_by_weights(both, *sides, widths=self._alignment.widths, seed=seed, without=kept)
        return order_by_weights(both[1], *sides, seed=seed, without=kept)

    def _by_activations(self, place: int, specs: tuple[SymmetrySpec, SymmetrySpec]) -> Order | Carried:
        from hubmerge.heterogeneous.loading import check_they_run

        assert self._batches is not None
        if self._base is None:
            self._base = self._loaded(self._alignment.base)
        models = [self._base, self._loaded(place)]
        names = [str(self._plan.parents[i].reference) for i in (self._alignment.base, place)]
        check_they_run(models, names, self._batches)
        kept, least, widths = tuple(self._alignment.kept), self._alignment.min_similarity, self._alignment.widths
        assert least is not None
        if place in self._alignment.other_shapes or widths == "fold":
            return carried_by_activations(
                models, specs, self._batches, min_similarity=least, widths=widths, without=kept
            )
        return order_by_activations(models, specs[1], self._batches, min_similarity=least, without=kept)

    def _loaded(self, place: int) -> nn.Module:
        from hubmerge.heterogeneous.loading import check_finite, load_in_float32
        from hubmerge.model_config import read_folder_config

        name = str(self._plan.parents[place].reference)
        folder = open_planned(self._plan.parents[place]).path("config.json").parent
        model = load_in_float32(folder, read_folder_config(folder), name)
        check_finite(model, name, name, "the model is damaged; fetch or save it again")
        return model


def calibration_of(plan: Plan, alignment: PlannedAlignment) -> Batches | None:
    """The calibration data, drawn; None where there is none, or nothing is done with it."""
    wanted = alignment.method == "activations" or alignment.estimates_statistics
    if plan.recipe.calibration is None or alignment.calibration is None or not wanted:
        return None
    from hubmerge.calibration import open_calibration

    source = open_planned(plan.parents[alignment.base])
    return open_calibration(plan.recipe.calibration, source, read_config(source), alignment.calibration.commit)


def _record(
    plan: Plan, alignment: PlannedAlignment, records: list[AlignedParentRecord], batches: Batches | None
) -> AlignmentRecord:
    return AlignmentRecord(
        family=alignment.family,
        base_model=str(plan.parents[alignment.base].reference),
        method=alignment.method,
        min_similarity=alignment.min_similarity,
        widths=alignment.widths,
        parents=tuple(records),
        kept=dict(alignment.kept),
        calibration=calibration_record(plan.recipe.calibration, alignment.calibration, batches),
    )
