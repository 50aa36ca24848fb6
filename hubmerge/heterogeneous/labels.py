"""How the parents' labels come together: the same ones, one after the other, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.maps import Selection

__all__ = ["GROUP", "Labels", "MergedLabels", "merged_labels"]

Labels = Literal["shared", "disjoint", "none"]
GROUP = "label"
"""The group of a classifier's outputs in every symmetry table."""


@dataclass(frozen=True)
class MergedLabels:
    """The merged head's labels by number, and a map of the label group for every parent; none where all have the same labels."""

    names: tuple[str, ...]
    maps: Mapping[str, tuple[Selection, ...]]

    @property
    def grown(self) -> dict[str, int]:
        """The size of the label group in the merge, where it is not that of every parent."""
        return {group: own[0].unit.size for group, own in self.maps.items()}


def merged_labels(configs: Sequence[Mapping[str, Any]], labels: Labels | None) -> MergedLabels:
    """Bring the parents' labels together.

    labels: shared, the same names in every parent, in any order; disjoint, one parent's after the other's; none, there is no head.
    Without it the names decide.  Raises `PlanError` where they do not: some in common and some not, or nothing but numbers; and for
    shared labels of other names, unless a model has none but numbers, which then count in their order.
    """
    names = [_names(config) for config in configs]
    if labels == "none":
        return MergedLabels((), {})
    if labels is None:
        labels = _decided(names)
    if labels == "shared":
        if len({len(each) for each in names}) > 1:
            counts = " and ".join(str(len(each)) for each in names)
            raise PlanError(f"the models have {counts} labels", where="labels", hint="write labels: disjoint")
        return MergedLabels(names[0], _shared_maps(names))
    total, start = sum(map(len, names)), 0
    maps = []
    for each in names:
        unit = np.full(total, -1, np.int64)
        unit[start : start + len(each)] = np.arange(len(each))
        maps.append(Selection.of(unit))
        start += len(each)
    return MergedLabels(_joined(names), {GROUP: tuple(maps)})


def _names(config: Mapping[str, Any]) -> tuple[str, ...]:
    table = config.get("id2label") or {f"{i}": f"LABEL_{i}" for i in range(config.get("num_labels") or 2)}
    return tuple(str(table[key]) for key in sorted(table, key=int))


def _are_made_up(names: Sequence[str]) -> bool:
    return all(name == f"LABEL_{i}" for i, name in enumerate(names))


def _decided(names: Sequence[Sequence[str]]) -> Labels:
    if any(map(_are_made_up, names)):
        raise PlanError(
            "the models' labels have no names of their own, so it is not known whether they mean the same",
            where="labels",
            hint="write labels: shared, or labels: disjoint",
        )
    if all(sorted(each) == sorted(names[0]) for each in names):
        return "shared"
    models_of = Counter(name for each in names for name in set(each))
    common = [name for name, models in models_of.items() if models > 1]
    if common:
        raise PlanError(
            f"the models share the label {min(common)!r} but not all",
            where="labels",
            hint="write labels: disjoint to keep them apart",
        )
    return "disjoint"


def _shared_maps(names: Sequence[Sequence[str]]) -> dict[str, tuple[Selection, ...]]:
    """Labels of the same names in another order are brought into the base's."""
    if all(each == names[0] for each in names) or any(map(_are_made_up, names)):
        return {}
    for each in names:
        odd = next((name for name in (*names[0], *each) if each.count(name) != names[0].count(name)), None)
        if odd is not None:
            raise PlanError(
                f"the label {odd!r} is not in all models",
                where="labels",
                hint="give the labels the same names in id2label",
            )
        twice = next((name for name in each if each.count(name) > 1), None)
        if twice is not None:
            raise PlanError(
                f"the label {twice!r} stands for two classes of a model",
                where="labels",
                hint="give them names of their own",
            )
    return {GROUP: tuple(Selection.of(np.array([each.index(name) for name in names[0]])) for each in names)}


def _joined(names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    every = [name for each in names for name in each]
    if len(set(every)) == len(every):
        return tuple(every)
    return tuple(f"{name} ({place + 1})" for place, each in enumerate(names) for name in each)
