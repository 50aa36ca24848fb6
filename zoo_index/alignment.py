"""How two models that do not fit entry by entry can be put together, in a sentence for a person."""

from __future__ import annotations

from zoo_index.apart import ALIGNED_SIZES, DEPTHS, counts_of
from zoo_index.architecture import Architecture
from zoo_index.metadata import ModelRecord
from zoo_index.ways import Ways, ways_of

__all__ = ["how_to_align", "how_to_carry", "why_not_matched"]


def how_to_align(a: ModelRecord, b: ModelRecord, ways: Ways | None = None) -> str:
    """What to write to match the units of two models of which `Ways.match_units` holds.  ways: of them, where they are known."""
    ways = ways_of(a, b) if ways is None else ways
    any_method = "align before any other method brings one to the other's units"
    if not ways.whole:
        told = [_SINGLE_LAYERS + ("data" if ways.on_data else _NOISE)] if ways.layers else []
        return "; ".join([*told, *([any_method] if ways.any_method else [])])
    labels = [record.architecture.hard.get("num_labels") for record in (a, b)]
    extra = "" if labels[0] == labels[1] else " and labels: disjoint"
    if ways.on_data:
        how = (
            f"their units can be matched on data: write merge_method: pleas with calibration data{extra} into a recipe"
        )
    else:
        how = f"their units can be matched by their weights: write merge_method: pleas with align: weights and fit: none{extra} into a recipe"
    parts = (
        f"{how}, and `hubmerge plan` says what it makes of them",
        _left_out(a.architecture, b.architecture),
        _without_partner(a.architecture, b.architecture, layers=ways.layers),
        any_method if ways.any_method else "",
    )
    return "; ".join(part for part in parts if part)


_SINGLE_LAYERS = "merge_method: mal takes single layers of one into the other, whose units it matches on "
_NOISE = "noise: name no calibration data, which is of one kind"


def how_to_carry(ways: Ways) -> str:
    """What to write where what one of two models learned on top of its base can be carried to the other."""
    data = "calibration data" if ways.on_data else "align: weights, since the same text is other tokens to each,"
    return (
        "what one learned on top of its own base can be carried to the other, though their units cannot be matched one by one: write "
        "merge_method: transport with the other as base_model, the one that learned under models with its base beside it (base:) and "
        f"{data} into a recipe{_IF_ASKED if ways.if_asked else ''}"
    )


def why_not_matched(ways: Ways) -> str:
    """What stands in the way of two models, and what a recipe can ask for all the same."""
    return f"{ways.why_not}{_IF_ASKED if ways.if_asked else ''}"


_IF_ASKED = "; merge_method: pleas matches such streams on data where align: {residual: activations} asks for it, and few units are alike"


def _left_out(a: Architecture, b: Architecture) -> str:
    """What the widths of the narrower model have no room for; empty where the widths are the same."""
    counts = [counts_of(each, ALIGNED_SIZES) for each in (a, b)]
    shared = [field for field in counts[0] if len(counts[0][field]) == len(counts[1].get(field, ()))]
    lost = {field: sum(abs(x - y) for x, y in zip(counts[0][field], counts[1][field], strict=True)) for field in shared}
    told = [
        f"{count} of {sum(map(max, counts[0][field], counts[1][field]))} by {field}"
        for field, count in lost.items()
        if count
    ]
    if not told:
        return ""
    return f"at the narrower one's widths units of the wider have no place ({', '.join(told)}), with widths: union all have"


def _without_partner(a: Architecture, b: Architecture, *, layers: bool) -> str:
    """What becomes of the layers that only one of two models has; empty where both have as many."""
    counts = [counts_of(each, DEPTHS) for each in (a, b)]
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
        f"{alone} {have} no partner in the other model, {'and stays' if alone == 1 else 'and stay'} where the base has "
        f"{'it' if alone == 1 else 'them'}, and {'is' if alone == 1 else 'are'} left out where not"
        + ("; merge_method: mal takes single layers" if layers else "")
    )
