"""How wide the merged model is: its config and the sizes of its groups, from the parents' widths and what the recipe allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hubmerge.errors import PlanError
from hubmerge.symmetry.budget import Policy, choose_sizes, sizes_at
from hubmerge.symmetry.groups import SymmetrySpec
from hubmerge.symmetry.widened import sizes_of, widened_config
from hubmerge.symmetry.widths import width_fields

__all__ = ["MergedWidths", "Widths", "merged_widths"]


@dataclass(frozen=True)
class Widths:
    """What is asked for.

    kind: base and fold, the widths of the base; union, room for units that stay one parent's.  With union either ratio, the share of each group's
    units that stay apart, or budget, the dense multiply-adds over the base's; policy: how a budget is spent.
    """

    kind: Literal["base", "union", "fold"] = "base"
    ratio: float | None = None
    budget: float | None = None
    policy: Policy = "uniform"


@dataclass(frozen=True)
class MergedWidths:
    """The merged model's config, and the sizes of all groups that it gives.  changed: the config's fields, by path, with their values."""

    config: Mapping[str, Any]
    sizes: Mapping[str, int]
    changed: Mapping[str, int] = field(default_factory=dict)


def merged_widths(
    configs: Sequence[Mapping[str, Any]],
    specs: Sequence[SymmetrySpec],
    asked: Widths,
    *,
    similarity: Mapping[str, Sequence[float]] | None = None,
    positions: Mapping[str, int] | None = None,
    grown: Mapping[str, int] | None = None,
) -> MergedWidths:
    """Choose the widths.

    configs, specs: of the parents, the base first.  similarity: group -> of its pairs, most alike first, for a greedy budget.
    positions: tensor -> how often its weights are used for one sample, for its share of the cost.  grown: see `choose_sizes`.

    Raises `SymmetryError` for a budget that no widths keep within, `PlanError` for one without union, and for a ratio beside it or
    outside [0, 1].
    """
    config = configs[0]
    if asked.ratio is not None and not 0 <= asked.ratio <= 1:
        raise PlanError(
            f"ratio must be from 0 to 1, got {asked.ratio:g}", where="align", hint="1 keeps all units apart"
        )
    if asked.ratio is not None and asked.budget is not None:
        raise PlanError("both a ratio and a budget are given", where="align", hint="leave one of them out")
    if asked.kind != "union":
        if asked.budget is not None or asked.ratio:
            raise PlanError("a budget or a ratio needs widths: union", where="align", hint="write widths: union")
        return MergedWidths(config, sizes_of(config))
    fields = width_fields(config, specs[0])
    parents = [sizes_of(each) for each in configs]
    if asked.budget is not None:
        changed = choose_sizes(
            fields,
            specs[0],
            config,
            asked.budget,
            similarity,
            asked.policy,
            parents=parents,
            positions=positions,
            grown=grown,
        )
    else:
        changed = sizes_at(fields, config, asked.ratio or 0.0, parents=parents)
    widened = widened_config(config, changed)
    return MergedWidths(widened, sizes_of(widened), changed)
