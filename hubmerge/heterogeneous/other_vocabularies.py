"""What does for two models whose tokens are not the same, in the words of a hint: who can be brought to one vocabulary, and how."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from hubmerge.heterogeneous.depths import differ_in_depth
from hubmerge.heterogeneous.stream_form import is_turnable
from hubmerge.symmetry.groups import Kind, SymmetrySpec

__all__ = ["instead_of_one_vocabulary", "to_one_vocabulary"]


def to_one_vocabulary(base: object) -> str:
    """How a model of the base's shapes gets the base's tokens.  base: as a recipe names it."""
    return (
        f"bring them to one vocabulary first: merge_method: passthrough with the other alone, base_model: {base} and "
        "tokenizer_source: base"
    )


def instead_of_one_vocabulary(
    base: object, spec: SymmetrySpec, theirs: SymmetrySpec, aligned: str = "", *, turns: bool = False
) -> str:
    """What the two models can do, the base's symmetries being `spec`.

    aligned: what to write so that this recipe's own merge goes by tokens, which models of one width can; "" where none does.  turns: whether
    it also takes streams of other widths.
    """
    same_widths = _are_alike(spec, theirs, {Kind.TOKENS, Kind.POSITIONS})
    turnable, deeper = is_turnable(spec), differ_in_depth(spec, theirs)
    ways = []
    if aligned and (same_widths or (turns and turnable)):
        ways.append(aligned)
    elif turnable and not (same_widths or deeper):
        ways.append("merge_method: transport with align: weights carries what a model learned on top of its base")
    if not deeper and _are_alike(spec, theirs, {Kind.TOKENS}):
        ways.append(to_one_vocabulary(base))
    nearest = f"take a model of the vocabulary of {base}, or one of its {'widths' if aligned else 'shapes'}"
    return ", or ".join(ways) or nearest


def _are_alike(spec: SymmetrySpec, theirs: SymmetrySpec, whatever: AbstractSet[Kind]) -> bool:
    """Whether groups of all kinds but `whatever` have the same sizes, where both models have them."""
    groups = theirs.groups
    return all(
        group.size == groups[name].size
        for name, group in spec.groups.items()
        if name in groups and group.kind not in whatever
    )
