"""What a call of `merge_state_dicts` hands a method beside tensors: statistics, or models with the data to run them on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hubmerge.errors import PlanError, RecipeError, shown
from hubmerge.method import MergeMethod
from zoo_index.errors import HubmergeError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hubmerge.wrapper import Prepared, Statistics

__all__ = [
    "NOTHING_GIVEN",
    "GivenData",
    "GivenModels",
    "batches_of",
    "given_data",
    "is_model",
    "own_copy",
    "state_dict_of",
    "statistics_of",
]

Batch = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class GivenData:
    """What a method is handed beside tensors; at most one of them.  prepared: what its wrapper found already, instead of them."""

    statistics: Statistics | None = None
    models: GivenModels | None = None
    prepared: Prepared | None = None

    def statistics_without(self, names: Collection[str]) -> Statistics | None:
        """The statistics without those of tensors that are one memory with another."""
        if self.statistics is None:
            return None
        return {
            place: {name: value for name, value in own.items() if name not in names}
            for place, own in self.statistics.items()
        }


NOTHING_GIVEN = GivenData()


def given_data(
    method: MergeMethod | None, parents: Any, base: Any, calibration: Any, statistics: Any
) -> tuple[GivenData, list[HubmergeError]]:
    """What a call gives, and its faults; nothing and none where method or parents are wrong, which is told elsewhere."""
    if method is None or not isinstance(parents, Sequence) or isinstance(parents, Mapping) or not parents:
        return NOTHING_GIVEN, []
    faults = _faults(method, calibration, statistics)
    if faults:
        return NOTHING_GIVEN, faults
    try:
        if statistics is not None:
            return GivenData(statistics=statistics_of(statistics, len(parents))), []
        if calibration is not None:
            return GivenData(models=GivenModels(tuple(parents), base, batches_of(calibration, len(parents)))), []
    except HubmergeError as fault:
        return NOTHING_GIVEN, [*fault.faults]
    return NOTHING_GIVEN, []


def _faults(method: MergeMethod, calibration: Any, statistics: Any) -> list[HubmergeError]:
    """Faults of what is given or lacking, before anything of it is looked at."""
    wrapper = method.wrapper
    given = {"calibration": calibration is not None, "statistics": statistics is not None}
    takes = wrapper.takes if wrapper is not None else ()
    faults: list[HubmergeError] = [
        RecipeError(f"{method.name} has no use for {key}=", where=key, hint="leave it out")
        for key, is_there in given.items()
        if is_there and key not in takes
    ]
    if faults:
        return faults
    if all(given.values()):
        return [RecipeError("calibration= and statistics= say the same twice", where="statistics", hint="keep one")]
    if wrapper is not None and wrapper.needs_data and not any(given.values()):
        hint = "calibration=[batches, batches], one for each parent, with models as parents"
        hint += "; or statistics={0: ..., 1: ...}" if "statistics" in takes else ""
        return [RecipeError(f"{method.name} needs calibration, and none is given", where="calibration", hint=hint)]
    return []


def statistics_of(given: Any, parents: int) -> Statistics:
    """The statistics by the parents' places; `RecipeError` for what is no such mapping, and for parents that are missing or unknown."""
    if not isinstance(given, Mapping):
        hint = "statistics={0: {tensor: ...}, 1: {tensor: ...}}"
        raise RecipeError(
            f"statistics are a mapping of parents to what was measured, got {shown(given)}",
            where="statistics",
            hint=hint,
        )
    found: dict[int, Mapping[str, Any]] = {}
    for key, own in given.items():
        place = _place_of(key, parents, "statistics")
        if not isinstance(own, Mapping):
            hint = "names of tensors to numbers or tensors"
            raise RecipeError(f"parents[{place}] has {shown(own)}", where=f"statistics[{key!r}]", hint=hint)
        found[place] = own
    _refuse_missing(found, parents, "statistics")
    return found


def batches_of(given: Any, parents: int) -> tuple[tuple[Batch, ...], ...]:
    """The batches of every parent: of a list with one iterable for each, of a mapping by parent, or of one iterable for all.

    `RecipeError` for data that is none of these, is empty, or holds something else than mappings.
    """
    if isinstance(given, Mapping):
        own = {_place_of(key, parents, "calibration"): value for key, value in given.items()}
        _refuse_missing(own, parents, "calibration")
        return tuple(_listed(own[place], f"calibration[{place}]") for place in range(parents))
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise _no_data(given, "calibration")
    if isinstance(given, Sequence):
        rows = list(given)
        if rows and not any(isinstance(row, Mapping) for row in rows):
            if len(rows) != parents:
                raise RecipeError(
                    f"calibration has data for {len(rows)} parents, and there are {parents}",
                    where="calibration",
                    hint="give one iterable of batches for each parent, or one for all",
                )
            return tuple(_listed(row, f"calibration[{place}]") for place, row in enumerate(rows))
    return (_listed(given, "calibration"),) * parents


def _listed(given: Any, where: str) -> tuple[Batch, ...]:
    if isinstance(given, Mapping | str | bytes) or not isinstance(given, Iterable):
        raise _no_data(given, where)
    rows = tuple(given)
    if not rows:
        raise RecipeError("the calibration data is empty", where=where, hint="give at least one batch")
    odd = next((row for row in rows if not isinstance(row, Mapping) or not row), None)
    if odd is not None:
        raise _no_data(odd, where)
    for place, row in enumerate(rows):
        _check_batch(row, f"{where}[{place}]")
    return rows


def _check_batch(batch: Batch, where: str) -> None:
    """`RecipeError` for a batch without rows or without anything but labels, and for tensors that have not all as many rows."""
    sizes = {str(name): len(values) if getattr(values, "ndim", 0) else None for name, values in batch.items()}
    hint = "every tensor of a batch has one entry for each of its rows"
    if None in sizes.values():
        name = next(name for name, size in sizes.items() if size is None)
        raise RecipeError(f"{name} is no tensor with rows", where=where, hint=hint)
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise RecipeError(f"its tensors have not all as many rows: {told}", where=where, hint=hint)
    if not any(sizes.values()):
        raise RecipeError("the batch has no rows", where=where, hint="leave it out")
    if set(sizes) == {"labels"}:
        raise RecipeError("the batch has nothing but labels", where=where, hint="give what the model is run on, too")


def _no_data(given: Any, where: str) -> RecipeError:
    hint = "give batches: mappings of the model's arguments to tensors, with labels where the loss needs them"
    return RecipeError(f"calibration data is an iterable of batches, got {shown(given)}", where=where, hint=hint)


def _place_of(key: Any, parents: int, where: str) -> int:
    names = {f"parents[{place}]": place for place in range(parents)}
    place = names.get(key, key) if isinstance(key, str) else key
    if isinstance(place, bool) or not isinstance(place, int | np.integer) or not 0 <= place < parents:
        raise RecipeError(
            f"{shown(key)} is none of the parents", where=where, hint=f"name them {', '.join(map(str, range(parents)))}"
        )
    return int(place)


def _refuse_missing(found: Mapping[int, Any], parents: int, where: str) -> None:
    missing = [f"parents[{place}]" for place in range(parents) if place not in found]
    if missing:
        raise RecipeError(
            f"{where} has nothing of {', '.join(missing)}", where=where, hint="every parent needs its own"
        )


def is_model(given: Any) -> bool:
    """Whether it is a model of torch, which can be run, and not its state dict."""
    return hasattr(given, "state_dict") and hasattr(given, "named_parameters")


def state_dict_of(given: Any) -> Any:
    """A model's tensors by name; anything else as it is."""
    return given.state_dict() if is_model(given) else given


@dataclass(frozen=True)
class GivenModels:
    """Models in memory as `hubmerge.wrapper.ParentModels`: copies are made of them, and they stay what they are.

    start: the base, a model or a state dict.  Raises `PlanError` for parents that are no models.
    """

    parents: tuple[Any, ...]
    start: Any
    data: tuple[tuple[Batch, ...], ...]

    def __post_init__(self) -> None:
        odd = [f"parents[{i}]" for i, parent in enumerate(self.parents) if not is_model(parent)]
        if odd:
            hint = "give the models themselves, not their state dicts, or statistics= instead"
            raise PlanError(
                f"calibration= runs the parents, and {', '.join(odd)} cannot be run", where="parents", hint=hint
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"parents[{place}]" for place in range(len(self.parents)))

    def model(self, place: int) -> nn.Module:
        return own_copy(self.parents[place])

    def base(self) -> nn.Module:
        if not is_model(self.start):
            raise PlanError(
                "the base is run too, and it is no model", where="base", hint="give the model, not its state dict"
            )
        return own_copy(self.start)

    def batches(self, place: int) -> tuple[Batch, ...]:
        return self.data[place]

    def tensor_names(self, model: nn.Module) -> dict[str, str]:
        return {name: name for name, _ in model.named_parameters()}


def own_copy(model: nn.Module) -> nn.Module:
    """A copy in float32 and evaluation mode."""
    return deepcopy(model).float().eval()
