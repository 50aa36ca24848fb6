"""The parents of a merge on disk as models that can be run, with their adapters, each with its own data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from hubmerge.fetching import open_planned
from hubmerge.parents import parent_of
from hubmerge.plan_types import Plan, PlannedParent
from hubmerge.preparation import task_data
from hubmerge.prepared_record import TaskDataRecord
from hubmerge.recipe import Recipe
from zoo_index.reference import ModelRef

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hubmerge.calibration import Batches

__all__ = ["RecipeModels", "load_parent", "recipe_models"]


def recipe_models(plan: Plan) -> RecipeModels | None:
    """The parents of `plan` and their data; None where its method looks at none."""
    return None if plan.preparation is None else RecipeModels(plan)


class RecipeModels:
    """See `hubmerge.wrapper.ParentModels`: a model is read anew whenever it is asked for, the data is drawn once."""

    def __init__(self, plan: Plan) -> None:
        by_reference = {parent.reference: parent for parent in plan.parents}
        self._plan = plan
        self._parents = tuple(by_reference[reference] for reference in plan.recipe.parents)
        self._known = frozenset(step.output.name for step in plan.steps)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(str(parent.reference) for parent in self._parents)

    def model(self, place: int) -> nn.Module:
        return _loaded(self._parents[place])

    def base(self) -> nn.Module:
        return _loaded(next(parent for parent in self._plan.parents if parent.role == "base"))

    def batches(self, place: int) -> Sequence[Mapping[str, Tensor]]:
        return self._data[place][1]

    def tensor_names(self, model: nn.Module) -> dict[str, str]:
        """By the name that a parameter has itself, or without or with the prefix of the model's inner part."""
        prefix = f"{getattr(model, 'base_model_prefix', '')}."
        aliases: dict[int, list[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            aliases.setdefault(id(parameter), []).append(name)
        own = {names[0]: names for names in aliases.values()}

        def found(names: Sequence[str], way: str) -> str:
            ways = {
                "as it is": names,
                "without": [n.removeprefix(prefix) for n in names],
                "with": [prefix + n for n in names],
            }
            return next((name for name in ways[way] if name in self._known), ways[way][0])

        best = max(
            ("as it is", "without", "with"),
            key=lambda way: sum(found(names, way) in self._known for names in own.values()),
        )
        return {name: found(names, best) for name, names in own.items()}

    @property
    def digests(self) -> list[list[str | None]]:
        """What tells these rows and labels from others, for every parent."""
        return [[own.sha256, own.labels_sha256] for own in self.records]

    @cached_property
    def records(self) -> tuple[TaskDataRecord, ...]:
        """The data of every parent as it was drawn."""
        preparation = self._plan.preparation
        assert preparation is not None
        asked = task_data(self._plan.recipe)
        found = []
        for parent, facts, (batches, rows) in zip(self._parents, preparation.calibration, self._data, strict=True):
            data = asked[parent.reference][1]
            assert data is not None
            labels = None if data.labels is None else [number for row in rows for number in row["labels"].tolist()]
            found.append(
                TaskDataRecord(
                    data=data.data,
                    commit=facts.commit,
                    kind=batches.kind,
                    column=facts.column,
                    samples=len(batches),
                    sha256=batches.digest,
                    labels=data.labels,
                    labels_sha256=None
                    if labels is None
                    else hashlib.sha256(" ".join(map(str, labels)).encode()).hexdigest(),
                )
            )
        return tuple(found)

    @cached_property
    def _data(self) -> tuple[tuple[Batches, Sequence[Mapping[str, Tensor]]], ...]:
        from hubmerge.calibration import open_calibration
        from hubmerge.heterogeneous.mal_models import labelled

        preparation = self._plan.preparation
        assert preparation is not None
        asked = task_data(self._plan.recipe)
        found: list[tuple[Batches, Sequence[Mapping[str, Tensor]]]] = []
        for parent, facts in zip(self._parents, preparation.calibration, strict=True):
            where, data = asked[parent.reference]
            assert data is not None
            opened = parent_of(parent.reference.model, open_planned(parent))
            if data.labels is not None:
                batches, rows = labelled(data, opened, data.labels, f"{where}.labels")
                found.append((batches, rows or ()))
            else:
                batches = open_calibration(data, opened.source, opened.config, facts.commit)
                found.append((batches, tuple(batches)))
        return tuple(found)


def _loaded(parent: PlannedParent) -> nn.Module:
    pins = {str(parent.reference.model): parent.commit}
    pins |= {str(parent.reference.adapter): parent.adapter_commit} if parent.reference.adapter else {}
    return load_parent(parent.reference, {name: commit for name, commit in pins.items() if commit})


def load_parent(reference: ModelRef, pins: Mapping[str, str]) -> nn.Module:
    """A model, with its adapter, in float32 and evaluation mode, read as a merge reads it.  pins: as for `build_plan`."""
    import torch

    from hubmerge.loading import assemble_model
    from hubmerge.plan import build_plan

    recipe = Recipe.parse({"merge_method": "passthrough", "models": [{"model": reference}], "dtype": "float32"})
    plan = build_plan(recipe, pins=pins)
    assert isinstance(plan, Plan)
    model: nn.Module = assemble_model(plan, {"dtype": torch.float32})
    return model.eval()
