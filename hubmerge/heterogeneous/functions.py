"""What the configs of unlike models say of how they compute, where no alignment of units brings it together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hubmerge.errors import PlanError
from zoo_index.architecture import Architecture, FieldDifference, compare_architectures, read_architecture

__all__ = ["HALVING", "HALVING_INSIDE", "check_functions"]

HALVING_INSIDE = ("downsample_in_bottleneck",)
"""Fields that say at which layer inside a block of a ResNet pictures become half as wide."""
HALVING = ("downsample_in_first_stage", *HALVING_INSIDE)
"""Those that say at which of its layers they do, in whichever block."""
_ROPE = frozenset({"rope_theta", "rope_type", "rope_scaling"})
_WARNINGS = {
    "activation": "the merge has the base's function",
    "scale_embedding": "the merge scales as the base does",
    "relative_attention_max_distance": "the merge sorts distances as the base does",
    "sliding_window": "the merge reaches as far as the base",
    **dict.fromkeys(HALVING, "the merge halves where the base does"),
}
"""Fields that change what a layer computes and not what its units are, and what becomes of them."""


def check_functions(
    configs: Sequence[Mapping[str, Any]],
    names: Sequence[str] = (),
    *,
    told: Collection[str] = (),
    side_by_side: Collection[str] = (),
) -> list[str]:
    """Raise `PlanError` for models whose rotary positions turn at other speeds; returns warnings of what else they compute differently.

    configs: as config.json or `to_dict` has them, the base's first.  names: what the models are called, by default by their places.
    told: fields that are warned of elsewhere.  side_by_side: of `HALVING`, those in which models may not differ, since what their layers
    compute is held together pixel by pixel.

    Queries and keys are turned by the position, plane by plane.  A plane of one speed does not fit in the place of another, whatever the
    order of heads is.
    """
    called = names or [f"model {place}" for place in range(1, len(configs) + 1)]
    # labels are left out: a config in memory numbers them with integers, and they say nothing of how a model computes
    base, *others = (read_architecture({**config, "id2label": None}) for config in configs)
    warnings = []
    for name, other in zip(called[1:], others, strict=True):
        found = {difference.field: difference for difference in compare_architectures(base, other)}
        _refuse_rope(list(found.values()), called[0], name)
        _refuse_halving([found[field] for field in side_by_side if field in found], base, called[0], name)
        warnings += [
            f"{called[0]} and {name} differ: {found[field]}; {consequence}"
            for field, consequence in _WARNINGS.items()
            if field in found and field not in told
        ]
    return warnings


def _refuse_halving(found: Sequence[FieldDifference], base: Architecture, called: str, other: str) -> None:
    depths, first = (base.hard.get(field) for field in ("depths", "downsample_in_first_stage"))
    halves = bool(first) or not isinstance(depths, list) or len(depths) > 1
    inside = halves and base.hard.get("layer_type", "bottleneck") == "bottleneck"
    odd = [str(each) for each in found if inside or each.field not in HALVING_INSIDE]
    if odd:
        raise PlanError(
            f"{called} and {other} halve pictures at other layers ({', '.join(odd)}), so that what these compute has other sizes",
            where="models",
            hint="take models that halve at the same layers; merge_method: pleas with align: weights and fit: none merges those of the same shapes",
        )


def _refuse_rope(found: Sequence[FieldDifference], base: str, other: str) -> None:
    told = ", ".join(str(difference) for difference in found if difference.field in _ROPE)
    if told:
        raise PlanError(
            f"{base} and {other} turn positions at other speeds ({told}), which no matching of heads brings together",
            where="models",
            hint="take parents of the same rope parameters",
        )
