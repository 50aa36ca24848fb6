"""Which rank a merge of adapters can have, module by module, as far as sizes tell."""

from __future__ import annotations

from collections.abc import Sequence

from hubmerge.adapter_words import Combination, has_cross_terms
from hubmerge.errors import PlanError
from hubmerge.lora.plan_types import PlannedModule
from hubmerge.method import MergeMethod

__all__ = ["check_rank", "planned_module"]


def planned_module(
    name: str,
    shape: tuple[int, int],
    ranks: Sequence[int | None],
    method: MergeMethod | Combination,
    rank: int | None,
    largest: int,
) -> PlannedModule:
    """One module with the rank its merge has, at most.

    rank: what is asked for, None for all; largest: of all adapters in all modules, which PEFT's combinations by ``svd`` cut to.
    """
    present = [each for each in ranks if each is not None]
    total, side = sum(present), min(shape)
    rule = "linear" if isinstance(method, Combination) and len(ranks) == 1 else method.name  # as in PEFT
    if not isinstance(method, Combination):
        possible = kept = min(total, side)
    elif has_cross_terms(rule):
        possible = kept = max(present)
    elif rule == "cat":
        possible, kept = total, total
    else:
        possible = min(total, side) if rule == "svd" else side
        kept = min(possible, largest)
    return PlannedModule(name, shape, tuple(ranks), min(rank, possible, side) if rank is not None else kept, possible)


def check_rank(rank: int | None, modules: Sequence[PlannedModule]) -> None:
    """`PlanError` for a rank that is more than any module's merge can have."""
    most = max(module.possible for module in modules)
    if rank is not None and rank > most:
        raise PlanError(
            f"rank {rank} is more than a merge of these adapters has: {most}",
            where="output.rank",
            hint="leave rank out to keep all of it",
        )
