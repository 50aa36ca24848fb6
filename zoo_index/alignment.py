"""Whether two models can be put together by matching their units on data, as far as their records tell: the same family."""

from __future__ import annotations

from collections.abc import Collection

from zoo_index.architecture import Architecture, compare_architectures
from zoo_index.families import FAMILIES
from zoo_index.metadata import ModelRecord

__all__ = ["ALIGNED_SIZES", "DEPTHS", "HEADS", "how_to_align", "why_not_aligned"]

ALIGNED_SIZES = frozenset({"embedding_size", "hidden_sizes", "intermediate_size"})
"""Config fields in which models may differ and be aligned: the units that they count stand under no norm but BatchNorm."""
HEADS = frozenset({"num_attention_heads", "num_key_value_heads"})
"""The same of attention heads, where these have as many features (head_dim)."""
DEPTHS = frozenset({"depths", "num_hidden_layers", "num_decoder_layers", "layer_types"})
"""Config fields that say how many layers there are: models that differ in them are merged where a layer has a partner."""

_ROPE = frozenset({"rope_theta", "rope_type", "rope_scaling"})


def why_not_aligned(a: ModelRecord, b: ModelRecord) -> str:
    """Why no table of units fits both models; empty where one does."""
    kinds = [a.model_type, b.model_type]
    tables = [next((family.name for family in FAMILIES if kind in family.model_types), None) for kind in kinds]
    if None in kinds or (kinds[0] != kinds[1] and (tables[0] is None or tables[0] != tables[1])):
        return "they are of different architectures, whose units are not matched with one another"
    if tables[0] is None:
        return f"there is no symmetry table for {kinds[0]}, so their units cannot be matched either"
    stages = [
        len(found["depths"]) for found in (_counts(each.architecture, DEPTHS) for each in (a, b)) if "depths" in found
    ]
    if len(set(stages)) > 1:
        return f"they have {stages[0]} and {stages[1]} stages, and layers are paired inside a stage"
    speeds = [
        difference for difference in compare_architectures(a.architecture, b.architecture) if difference.field in _ROPE
    ]
    if speeds:
        told = ", ".join(map(str, speeds))
        return f"their positions are turned at other speeds ({told}), which no matching of units brings together"
    return ""


def how_to_align(a: ModelRecord, b: ModelRecord) -> str:
    """The command, in a sentence."""
    labels = [record.architecture.hard.get("num_labels") for record in (a, b)]
    extra = "" if labels[0] == labels[1] else " and labels: disjoint"
    return (
        f"their units can be matched on data: write merge_method: pleas with calibration data{extra} into a recipe, and "
        f"`hubmerge plan` says what it makes of them{_left_out(a.architecture, b.architecture)}"
        f"{_without_partner(a.architecture, b.architecture)}{_by_any_method(a.architecture, b.architecture)}"
    )


def _by_any_method(a: Architecture, b: Architecture) -> str:
    """That tensors can be merged one by one after an alignment; empty for models with other layers, labels or tokens."""
    same = a.soft.get("vocab_size") == b.soft.get("vocab_size") and all(
        a.hard.get(field) == b.hard.get(field) for field in {*DEPTHS, "num_labels"}
    )
    return "; align before any other method brings one to the other's units" if same else ""


def _left_out(a: Architecture, b: Architecture) -> str:
    """What the widths of the narrower model have no room for; empty where the widths are the same."""
    counts = [_counts(each, ALIGNED_SIZES) for each in (a, b)]
    shared = [field for field in counts[0] if len(counts[0][field]) == len(counts[1].get(field, ()))]
    lost = {field: sum(abs(x - y) for x, y in zip(counts[0][field], counts[1][field], strict=True)) for field in shared}
    told = [
        f"{count} of {sum(map(max, counts[0][field], counts[1][field]))} by {field}"
        for field, count in lost.items()
        if count
    ]
    if not told:
        return ""
    return f"; at the narrower one's widths units of the wider have no place ({', '.join(told)}), with widths: union all have"


def _without_partner(a: Architecture, b: Architecture) -> str:
    """What becomes of the layers that only one of two models has; empty where both have as many."""
    counts = [_counts(each, DEPTHS) for each in (a, b)]
    pairs = [
        (x, y)
        for field in counts[0].keys() & counts[1].keys()
        for x, y in zip(counts[0][field], counts[1][field], strict=False)
    ]
    alone = sum(abs(x - y) for x, y in pairs)
    if not alone:
        return ""
    have = "layer has" if alone == 1 else "layers have"
    return (
        f"; {alone} {have} no partner in the other model, {'and stays' if alone == 1 else 'and stay'} where the base has "
        f"{'it' if alone == 1 else 'them'}, and {'is' if alone == 1 else 'are'} left out where not; merge_method: mal takes single layers"
    )


def _counts(architecture: Architecture, fields: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Field -> its numbers, for those that are stated in full."""
    found = {}
    for field in sorted(fields):
        value = architecture.hard.get(field)
        entries = value if isinstance(value, list) else [value]
        counts = tuple(entry for entry in entries if isinstance(entry, int))
        if len(counts) == len(entries):
            found[field] = counts
    return found
