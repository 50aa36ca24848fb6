"""How the parents' units come together: matched by what the recipe says, and from that the maps, whatever widths the merge has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmerge.align_choices import BALANCE, REGULARISATION, misfits
from hubmerge.errors import PlanError
from hubmerge.heterogeneous.activations import Correlation, correlations, correlations_by_group
from hubmerge.heterogeneous.balanced import balanced_matches
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.fold import folded
from hubmerge.heterogeneous.in_base_names import in_common
from hubmerge.heterogeneous.maps import GroupMap, Maps, Selection
from hubmerge.heterogeneous.matching import GroupMatches, match_units, matches_of_weights
from hubmerge.heterogeneous.optimal_transport import transported
from hubmerge.heterogeneous.slots import group_maps
from hubmerge.heterogeneous.zipping import zipped
from hubmerge.recipe_stages import AlignMethod, Widths
from hubmerge.symmetry.groups import SymmetrySpec

__all__ = ["Alignment", "Choice", "align_units", "maps_of", "mixable"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """What is asked for; balance and regularisation: None where they are not said, or mean nothing.  seed: of orders drawn at random."""

    method: AlignMethod = "activations"
    widths: Widths = "base"
    min_similarity: float = 0.0
    balance: float | None = None
    regularisation: float | None = None
    seed: int = 0

    def check(self) -> None:
        """Raise `PlanError` for choices that do not go together."""
        for fault in misfits(
            self.method,
            self.widths,
            min_similarity=self.min_similarity,
            balance=self.balance,
            regularisation=self.regularisation,
        ):
            raise PlanError(fault.message, where=fault.key, hint=fault.hint)
        for name, most in (("balance", 1.0), ("regularisation", np.inf)):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= most:
                told = "from 0 to 1" if most == 1 else "0 or more"
                raise PlanError(f"{name} must be {told}, got {value:g}", where=name, hint="see docs/pleas.md")


@dataclass(frozen=True)
class Alignment:
    """matches: of every parent but the first with the first, the base.  alike: for zip, by group: the correlations of the units of all
    parents, one parent's after the other's.
    """

    choice: Choice
    matches: tuple[Mapping[str, GroupMatches], ...]
    alike: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def similarity(self) -> dict[str, list[float]]:
        """Of the pairs of every group, most alike first: what a budget is spent by."""
        return {
            name: sorted(
                (float(alike) for found in self.matches if name in found for alike in found[name].similarity),
                reverse=True,
            )
            for name in dict.fromkeys(name for found in self.matches for name in found)
        }


def align_units(
    choice: Choice,
    models: Sequence[Any],
    specs: Sequence[SymmetrySpec],
    batches: Sequence[Batch],
    without: Collection[str],
    known: Maps,
) -> Alignment:
    """Compare the units of all models and match them.

    specs: of the tensors that each model has in common with the first, by its names.  without: groups that stay as they are, by name or by
    their row in the table.  known: the models' maps of groups that are not matched.
    """
    if choice.method == "identity":
        return Alignment(choice, tuple({} for _ in models[1:]))
    ours = [in_common(specs[0], spec) for spec in specs]
    if choice.method == "weights":
        tensors = [model.state_dict() for model in models]
        found = [
            matches_of_weights(ours[k], tensors[0], tensors[k], seed=choice.seed, without=without)
            for k in range(1, len(models))
        ]
        return Alignment(choice, tuple(found))
    if choice.method not in {"balanced", "zip"}:
        return Alignment(choice, _matched(choice, models, specs, ours, batches, without))
    seen = _correlated(models, specs, ours, batches, without)
    if choice.method == "balanced":
        tensors = [model.state_dict() for model in models]
        balance = BALANCE if choice.balance is None else choice.balance
        found = [
            balanced_matches(
                (ours[k], specs[k]),
                (tensors[0], tensors[k]),
                each,
                balance=balance,
                known={name: (own[0], own[k]) for name, own in known.items()},
                min_similarity=choice.min_similarity,
                without=without,
                seed=choice.seed,
            )
            for k, each in enumerate(seen, 1)
        ]
        return Alignment(choice, tuple(found))
    matches = tuple(
        match_units(own, each, min_similarity=choice.min_similarity, without=without)
        for own, each in zip(ours[1:], seen, strict=True)
    )
    shared = _of_all(specs)
    rows = [
        correlations([model, *models[k:]], [spec, *shared[k:]], batches, without=without)
        for k, (model, spec) in enumerate(zip(models, shared, strict=True))
    ]
    return Alignment(choice, matches, {name: _joined(rows, name) for name in _mixable(specs[0], matches)})


def _matched(
    choice: Choice,
    models: Sequence[Any],
    specs: Sequence[SymmetrySpec],
    ours: Sequence[SymmetrySpec],
    batches: Sequence[Batch],
    without: Collection[str],
) -> tuple[dict[str, GroupMatches], ...]:
    """The matches of every other model with the first, group by group: no more is held of the correlations than is matched next."""
    reads_tables = choice.method == "optimal_transport" or choice.widths == "fold"
    found: dict[int, dict[str, GroupMatches]] = {k: {} for k in range(1, len(models))}
    for others, part in _correlated_parts(models, specs, ours, batches, without):
        for k, each in zip(others, part, strict=True):
            matches = match_units(ours[k], each, min_similarity=choice.min_similarity, without=without)
            found[k] |= matches if reads_tables else {name: match.assigned for name, match in matches.items()}
    return tuple(found[k] for k in sorted(found))


def _correlated(
    models: Sequence[Any],
    specs: Sequence[SymmetrySpec],
    ours: Sequence[SymmetrySpec],
    batches: Sequence[Batch],
    without: Collection[str],
) -> list[Mapping[str, Correlation]]:
    """The correlations of every other model with the first."""
    found: dict[int, dict[str, Correlation]] = {k: {} for k in range(1, len(models))}
    for others, part in _correlated_parts(models, specs, ours, batches, without):
        for k, each in zip(others, part, strict=True):
            found[k] |= each
    return [found[k] for k in sorted(found)]


def _correlated_parts(
    models: Sequence[Any],
    specs: Sequence[SymmetrySpec],
    ours: Sequence[SymmetrySpec],
    batches: Sequence[Batch],
    without: Collection[str],
) -> Iterator[tuple[list[int], tuple[dict[str, Correlation], ...]]]:
    """Some groups of some other models, with the numbers of these; those that have all layers of the first go together.

    ours: the first's symmetries, as far as each model has its tensors.
    """
    whole = [k for k, own in enumerate(ours) if own is specs[0]]
    if len(whole) > 1:
        parts = correlations_by_group([models[k] for k in whole], [specs[k] for k in whole], batches, without=without)
        yield from ((whole[1:], part) for part in parts)
    for k in sorted(set(range(len(models))) - set(whole)):
        both = correlations_by_group((models[0], models[k]), (ours[k], specs[k]), batches, without=without)
        yield from (([k], part) for part in both)


def _of_all(specs: Sequence[SymmetrySpec]) -> list[SymmetrySpec]:
    """The symmetries of the tensors that every model has."""
    least = min(specs, key=lambda spec: len(spec.tensors))
    for spec in specs:
        least = in_common(least, spec)
    return [in_common(spec, least) for spec in specs]


def _joined(rows: Sequence[Sequence[Mapping[str, Correlation]]], group: str) -> Floats:
    """One table of the correlations of all models' units; rows: of each model with itself and those behind it."""
    blocks = [[found[group].plain for found in row] for row in rows]
    return np.block([[blocks[i][k - i].T for i in range(k)] + blocks[k] for k in range(len(blocks))])


def mixable(spec: SymmetrySpec) -> tuple[str, ...]:
    """The groups of which several units may become one, or one several: those that hold no others, as heads do, and that no tensor
    both writes and reads, as tied embeddings do.
    """
    holding = {group.outer for group in spec.groups.values()}
    tied = {
        factor.group for _, stored in spec.tied if stored in spec.tensors for factor in spec.tensors[stored].factors
    }
    return tuple(name for name in spec.groups if name not in holding | tied)


def _mixable(spec: SymmetrySpec, matches: Sequence[Mapping[str, GroupMatches]]) -> tuple[str, ...]:
    """Those of them that are matched in all models."""
    return tuple(name for name in mixable(spec) if matches and all(each.get(name) is not None for each in matches))


def maps_of(
    alignment: Alignment, specs: Sequence[SymmetrySpec], sizes: Mapping[str, int]
) -> dict[str, tuple[GroupMap, ...]]:
    """A map for every parent and every group that is not the same in all of them.  sizes: of the groups in the merged model."""
    choice, maps = alignment.choice, group_maps(specs, alignment.matches, sizes)
    for name in _mixable(specs[0], alignment.matches):
        group, own = specs[0].groups[name], [found[name] for found in alignment.matches]
        base = Selection.of(np.arange(group.size))
        if choice.method == "zip":
            widths = [spec.groups[name].size for spec in specs]
            maps[name] = zipped(alignment.alike[name], widths, sizes.get(name, group.size), signed=group.kind.signs)
        elif choice.method == "optimal_transport":
            regularisation = REGULARISATION if choice.regularisation is None else choice.regularisation
            maps[name] = (base, *(transported(found, regularisation) for found in own))
        elif choice.widths == "fold":
            maps[name] = (base, *(folded(found, choice.min_similarity) for found in own))
    return maps
