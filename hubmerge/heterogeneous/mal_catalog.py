"""Donors from a catalog: the models of the base's family that a query finds, opened one by one until there are enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hubmerge.errors import PlanError
from hubmerge.parents import ParentModel, open_parent
from hubmerge.recipe_zoo import ZooQuery
from zoo_index.catalog import Catalog
from zoo_index.errors import HubmergeError
from zoo_index.families import FAMILIES
from zoo_index.metadata import ModelRecord
from zoo_index.reference import ModelRef

__all__ = ["FoundDonors", "found_donors"]


@dataclass(frozen=True)
class FoundDonors:
    """models: in the order of their names.  passed: those that do not fit, with the reason.  left: how many were not looked at."""

    models: tuple[ParentModel, ...]
    passed: tuple[tuple[str, str], ...]
    left: int

    @property
    def pins(self) -> dict[str, str]:
        """The commits of those on the Hub, by their names."""
        return {str(model.reference): model.commit for model in self.models if model.commit}


def found_donors(
    query: ZooQuery,
    base: ParentModel,
    listed: Sequence[ParentModel],
    fits: Callable[[ParentModel], object],
    pins: Mapping[str, str],
) -> FoundDonors:
    """Ask the catalog.  listed: models that the recipe names, which are not taken twice.  fits: raises for a model that is no donor.

    A model on the Hub is taken at the commit that the catalog knows, unless `pins` has another.  Raises `CatalogError` for a catalog that
    cannot be opened, and `PlanError` where nothing is found and none is listed.
    """
    every = list(_records(query, base))
    taken: list[ParentModel] = []
    passed: list[tuple[str, str]] = []
    known = {_place(model) for model in (base, *listed)}
    left = len(every)
    for record in every:
        if len(taken) == query.limit:
            break
        left -= 1
        try:
            model = _opened(record, pins)
            if _place(model) in known:
                continue
            fits(model)
        except (HubmergeError, OSError) as fault:
            told = fault.faults[0].message if isinstance(fault, HubmergeError) else str(fault.strerror)
            passed.append((record.reference, told))
            continue
        known.add(_place(model))
        taken.append(model)
    if not taken and all(_place(model) == _place(base) for model in listed):
        raise _nothing(query, base, passed)
    return FoundDonors(tuple(taken), tuple(passed), left)


def _records(query: ZooQuery, base: ParentModel) -> Iterator[ModelRecord]:
    """The models of the base's family that the query finds, by name."""
    kind = base.config.get("model_type")
    types = next((family.model_types for family in FAMILIES if kind in family.model_types), (kind,))
    with Catalog.open(query.catalog, read_only=True) as catalog:
        found = [
            record
            for each in types
            for record in catalog.find(
                query.text or "", model_type=each, kind="model", licence=query.licence, limit=None
            )
        ]
    yield from sorted(found, key=lambda record: record.reference)


def _opened(record: ModelRecord, pins: Mapping[str, str]) -> ParentModel:
    if record.refusals:
        raise PlanError(record.refusals[0])
    known = {record.reference: record.commit} if record.commit else {}
    return open_parent(ModelRef.parse(record.reference), {**known, **pins})


def _place(model: ParentModel) -> object:
    """What is the same for one model at any commit."""
    return model.identity[0]


def _nothing(query: ZooQuery, base: ParentModel, passed: Sequence[tuple[str, str]]) -> PlanError:
    if passed:
        name, why = passed[0]
        more = f", and {len(passed) - 1} more" if len(passed) > 1 else ""
        hint = f"{name}: {why}{more}; ask for others, or list donors under models"
    else:
        hint = "`hubmerge zoo find` shows what the catalog holds, `hubmerge zoo sync` adds models; or list donors under models"
    where = query.catalog or "the catalog"
    return PlanError(f"{where} has no donor for {base.reference} that fits this query", where="zoo", hint=hint)
