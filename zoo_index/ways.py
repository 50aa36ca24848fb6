"""In which ways two models of one symmetry table can be put together, as far as their records tell; and what stands in the way."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zoo_index.apart import OTHER_TENSORS, Apart, has_head, takes_two
from zoo_index.architecture import compare_architectures
from zoo_index.families import FAMILIES, POSITION_FIELDS, TURNING_FAMILIES, Family
from zoo_index.metadata import ModelRecord

__all__ = ["Ways", "table_of", "ways_of", "why_not_aligned"]

_ROPE = frozenset({"rope_theta", "rope_type", "rope_scaling"})


@dataclass(frozen=True)
class Ways:
    """whole: by merge_method pleas, matched on data where on_data, else by weights alone.  layers: one by one, by mal.  any_method: by any
    method on tensors, after align.  transport: what one learned on top of its base, where no units can be matched.  if_asked:
    by pleas on data, where a recipe asks for residual streams to be matched.  why_not: what
    stands in the way where there is none of these.
    """

    whole: bool = False
    on_data: bool = True
    layers: bool = False
    any_method: bool = False
    transport: bool = False
    if_asked: bool = False
    why_not: str = ""

    @property
    def found(self) -> bool:
        """Whether there is one."""
        return self.match_units or self.transport

    @property
    def match_units(self) -> bool:
        """Whether units are matched in one of the ways."""
        return self.whole or self.layers or self.any_method


def table_of(record: ModelRecord) -> Family | None:
    """The symmetry table of the model's architecture, where there is one."""
    return next((family for family in FAMILIES if record.model_type in family.model_types), None)


def ways_of(a: ModelRecord, b: ModelRecord) -> Ways:
    """The same for both orders of the two; which of them is the base can still make one of the ways a refusal."""
    why_not = why_not_aligned(a, b)
    family = table_of(a)
    if why_not or family is None:
        return Ways(why_not=why_not)
    apart = Apart.of(a, b, family)
    if apart.in_other_things:
        return Ways(
            why_not=f"they differ in {', '.join(sorted(apart.in_other_things))}, which no matching of units brings together"
        )
    if apart.in_planes:
        return Ways(why_not="rotary planes of heads of another size turn at other speeds, and are not matched")
    one_kind = not (takes_two(a) or takes_two(b))
    if apart.in_stream and apart.one_tower_is_alike:
        return Ways(layers=not apart.in_inputs, on_data=one_kind)
    if apart.in_stream:
        fits = not (apart.in_tensors or apart.in_head or apart.in_given or apart.in_words or apart.in_positions)
        return replace(_across_streams(a, family, apart), if_asked=fits and one_kind and has_head(a, family))
    if apart.in_head and a.model_type != b.model_type:
        return Ways(why_not="they have other heads and are of two types, whose layers may have other tensors")
    alike = not (apart.in_tensors or apart.in_head or apart.in_given)
    same_sizes = not apart.in_widths and not apart.in_labels
    on_data = not apart.in_words and one_kind
    moves = apart.in_depth or apart.in_labels or apart.in_inputs or apart.in_positions or apart.in_features
    ways = Ways(
        whole=alike and (on_data or same_sizes) and not (apart.in_positions and family.name not in POSITION_FIELDS),
        on_data=on_data,
        layers=not apart.in_inputs and apart.in_tensors != OTHER_TENSORS,
        any_method=alike and not moves and not apart.in_scales,
    )
    if ways.match_units:
        return ways
    if apart.in_head:
        return replace(ways, why_not="they have other heads, and do not read the same tokens or pictures")
    carried = _across_streams(a, family, apart)
    if carried.transport:
        return carried
    lengths = f"only in models of {', '.join(POSITION_FIELDS)} positions are brought to another length"
    return replace(
        ways,
        why_not=apart.in_tensors
        or (_GIVEN if apart.in_given else "")
        or (_OTHER_WORDS if family.name in POSITION_FIELDS or not apart.in_positions else lengths),
    )


_GIVEN = "what is given from outside is matched with nothing, and they have other numbers of it"
_OTHER_WORDS = (
    "the same text is other tokens to each, so that they do not see the same data, "
    "and by weights alone only models of one width are matched"
)


def _across_streams(a: ModelRecord, family: Family, apart: Apart) -> Ways:
    """Of models whose residual streams, under a norm of all units, have other widths; and of those whose tensors all have the same shapes."""
    if not (apart.in_shapes or apart.in_tensors or apart.in_head or apart.in_labels or apart.in_given):
        return Ways(transport=True, on_data=not apart.in_words)
    unlike = "units under a norm of all of them are not matched with more or fewer"
    if family.name not in TURNING_FAMILIES or not has_head(a, family):
        which = ", ".join(TURNING_FAMILIES)
        return Ways(why_not=f"{unlike}, and streams are turned to one another in models of {which} with a head alone")
    lacking = {
        "as many layers": apart.in_depth,
        "the same tie_word_embeddings": bool(apart.in_tensors),
        "as many labels": apart.in_labels,
        "the same kind of head": apart.in_head,
    }
    needed = [what for what, differs in lacking.items() if differs]
    if needed:
        return Ways(
            why_not=f"{unlike}; what one learned on top of its base could be carried to the other if they had {' and '.join(needed)}"
        )
    return Ways(transport=True, on_data=not apart.in_words)


def why_not_aligned(a: ModelRecord, b: ModelRecord) -> str:
    """Why no table of units fits both models; empty where one does."""
    kinds = [a.model_type, b.model_type]
    tables = [found.name if found else None for found in (table_of(a), table_of(b))]
    if None in kinds or (kinds[0] != kinds[1] and (tables[0] is None or tables[0] != tables[1])):
        return "they are of different architectures, whose units are not matched with one another"
    if tables[0] is None:
        return f"there is no symmetry table for {kinds[0]}, so their units cannot be matched either"
    speeds = [
        difference for difference in compare_architectures(a.architecture, b.architecture) if difference.field in _ROPE
    ]
    if speeds:
        told = ", ".join(map(str, speeds))
        return f"their positions are turned at other speeds ({told}), which no matching of units brings together"
    return ""
