"""In which ways two models of one symmetry table can be put together, as far as their records tell; and what stands in the way."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from zoo_index.architecture import Architecture, compare_architectures
from zoo_index.families import FAMILIES, POSITION_FIELDS, TURNING_FAMILIES, Family
from zoo_index.metadata import ModelRecord

__all__ = [
    "ALIGNED_SIZES",
    "DEPTHS",
    "GIVEN_SIZES",
    "HEADS",
    "Ways",
    "counts_of",
    "differ_in_head",
    "plain_field",
    "table_of",
    "ways_of",
    "why_not_aligned",
]

ALIGNED_SIZES = frozenset({"embedding_size", "hidden_sizes", "intermediate_size"})
"""Config fields in which models may differ and be aligned: the units that they count stand under no norm but BatchNorm."""
HEADS = frozenset({"num_attention_heads", "num_key_value_heads"})
"""The same of attention heads, where these have as many features (head_dim)."""
DEPTHS = frozenset({"depths", "num_hidden_layers", "num_decoder_layers", "layer_types"})
"""Config fields that say how many layers there are: models that differ in them are merged where a layer has a partner."""
GIVEN_SIZES = frozenset({"projection_dim", "relative_attention_num_buckets", "type_vocab_size"})
"""Config fields that count what is given from outside and matched with nothing: a space that two towers meet in, distances, kinds of tokens."""

_TOWER = "vision_config."
_ROPE = frozenset({"rope_theta", "rope_type", "rope_scaling"})
_KNOWN = ALIGNED_SIZES | HEADS | DEPTHS | {"hidden_size", "head_dim", "num_labels", "image_size", "model_type", "architectures"}  # fmt: skip


@dataclass(frozen=True)
class Ways:
    """whole: by merge_method pleas, matched on data where on_data, else by weights alone.  layers: one by one, by mal.  any_method: by any
    method on tensors, after align.  transport: what one learned on top of its base, where no units can be matched.  why_not: what
    stands in the way where there is none of these.
    """

    whole: bool = False
    on_data: bool = True
    layers: bool = False
    any_method: bool = False
    transport: bool = False
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
    apart = _Apart.of(a, b, family)
    if apart.in_other_things:
        return Ways(
            why_not=f"they differ in {', '.join(sorted(apart.in_other_things))}, which no matching of units brings together"
        )
    if apart.in_planes:
        return Ways(why_not="rotary planes of heads of another size turn at other speeds, and are not matched")
    one_kind = not _takes_two(a)
    if apart.in_stream and apart.one_tower_is_alike:
        return Ways(layers=not apart.in_inputs, on_data=one_kind)
    if apart.in_stream:
        return _across_streams(a, family, apart)
    if apart.in_head and a.model_type != b.model_type:
        return Ways(why_not="they have other heads and are of two types, whose layers may have other tensors")
    alike = not (apart.in_tensors or apart.in_head or apart.in_given)
    same_sizes = not apart.in_widths
    on_data = not apart.in_words and one_kind
    moves = apart.in_depth or apart.in_labels or apart.in_inputs or apart.in_positions or apart.in_features
    ways = Ways(
        whole=alike and (on_data or same_sizes) and not (apart.in_positions and family.name not in POSITION_FIELDS),
        on_data=on_data,
        layers=not apart.in_inputs and apart.in_tensors != _OTHER_TENSORS,
        any_method=alike and not moves,
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
_OTHER_TENSORS = "their layers have other tensors"
_OTHER_WORDS = (
    "the same text is other tokens to each, so that they do not see the same data, "
    "and by weights alone only models of one width are matched"
)


def _across_streams(a: ModelRecord, family: Family, apart: _Apart) -> Ways:
    """Of models whose residual streams, under a norm of all units, have other widths."""
    unlike = "units under a norm of all of them are not matched with more or fewer"
    if family.name not in TURNING_FAMILIES or not _has_head(a, family):
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


@dataclass(frozen=True)
class _Apart:
    """In what two models of one table differ.  in_tensors: why not all layers have the same tensors, empty where they have.  in_inputs: tokens
    or pictures; in_words: tokens alone.  in_given: `GIVEN_SIZES` of tensors.  in_features: of a head.  in_planes: features that turn with the
    position.  one_tower_is_alike: of a model of texts and pictures, where only one of its two streams has another width.
    """

    in_other_things: frozenset[str]
    in_head: bool
    in_stream: bool
    one_tower_is_alike: bool
    in_planes: bool
    in_features: bool
    in_widths: bool
    in_depth: bool
    in_labels: bool
    in_words: bool
    in_inputs: bool
    in_positions: bool
    in_given: bool
    in_tensors: str

    @classmethod
    def of(cls, a: ModelRecord, b: ModelRecord, family: Family) -> _Apart:
        found = compare_architectures(a.architecture, b.architecture)
        fields = {plain_field(difference.field) for difference in found}
        hard = {plain_field(difference.field) for difference in found if difference.hard}
        streams = {difference.field for difference in found} & {"hidden_size", f"{_TOWER}hidden_size"}
        turns = "planes" in family.groups or "plane signs" in family.groups
        words = "tokens" in family.groups and ("vocab_size" in fields or _other_tokens(a, b))
        places = "positions" in family.groups and bool({"max_position_embeddings", "image_size"} & fields)
        in_head = differ_in_head(a, b)
        return cls(
            in_other_things=frozenset(hard - _KNOWN | ({"activation"} & fields if in_head else set())),
            in_head=in_head,
            in_stream=bool(streams),
            one_tower_is_alike=len(streams) == 1 and _has_two_towers(a),
            in_planes="head_dim" in fields and turns,
            in_features="head_dim" in fields,
            in_widths=bool(fields & (ALIGNED_SIZES | HEADS | {"head_dim"})) and a.core_signature != b.core_signature,
            in_depth=bool(fields & DEPTHS),
            in_labels="num_labels" in fields,
            in_words=words,
            in_inputs=words or "image_size" in fields,
            in_positions=places,
            in_given=bool(fields & GIVEN_SIZES) and a.core_signature != b.core_signature,
            in_tensors=_tensors_apart(a, b, fields | (DEPTHS if in_head else set())),
        )


def _tensors_apart(a: ModelRecord, b: ModelRecord, fields: Collection[str]) -> str:
    tied = [_is_tied(each) for each in (a, b)]
    if tied[0] != tied[1]:
        return "only one reads its output head from its embeddings"
    shortcuts = [_has_shortcut(each.architecture) for each in (a, b)]
    if shortcuts[0] != shortcuts[1]:
        return "only one has a shortcut with weights in its first stage"
    stages = [len(counts_of(each.architecture, {"depths"}).get("depths", ())) for each in (a, b)]
    if stages[0] != stages[1]:
        return f"they have {stages[0]} and {stages[1]} stages"
    counts = {_tensors_once(each) for each in (a, b)}
    if len(counts) > 1 and not DEPTHS & set(fields):
        return _OTHER_TENSORS
    return ""


def _tensors_once(record: ModelRecord) -> int | None:
    """How many tensors the layers have; where a head is tied to the embeddings neither counts, since some store both."""
    if record.tensors is None or not _is_tied(record):
        return record.tensors
    return record.tensors - len(record.vocabulary)


def _is_tied(record: ModelRecord) -> bool | None:
    """Whether a head of words is stored as the embeddings; None where nothing says it."""
    tied = record.architecture.soft.get("tie_word_embeddings")
    return tied if isinstance(tied, bool) else None


def _has_shortcut(architecture: Architecture) -> bool | None:
    """Of a ResNet: whether its first stage is wider than what goes in, or halves; None for others."""
    stem, widths = (architecture.hard.get(field) for field in ("embedding_size", "hidden_sizes"))
    if not isinstance(stem, int) or not isinstance(widths, list) or not widths:
        return None
    return stem != widths[0] or bool(architecture.hard.get("downsample_in_first_stage"))


def _other_tokens(a: ModelRecord, b: ModelRecord) -> bool:
    return None not in (a.tokenizer_signature, b.tokenizer_signature) and a.tokenizer_signature != b.tokenizer_signature


def differ_in_head(a: ModelRecord, b: ModelRecord) -> bool:
    """Whether two models do different things: one predicts words, the other classes or nothing."""
    return _task(a) != _task(b)


def _task(record: ModelRecord) -> str:
    """What the model's class is for: CausalLM of LlamaForCausalLM; empty for a body alone."""
    name = record.architectures[0] if record.architectures else ""
    return name.partition("For")[2] or ("LMHead" if "LMHead" in name else "")


def _has_head(record: ModelRecord, family: Family) -> bool:
    return bool(record.architectures) and record.architectures[0] not in family.bodies


def _takes_two(record: ModelRecord) -> bool:
    """Whether a model takes two things at once, and calibration data is of one kind."""
    name = record.architectures[0] if record.architectures else ""
    reads_pairs = bool(record.architecture.hard.get("is_encoder_decoder")) and not name.endswith("EncoderModel")
    return reads_pairs or _has_two_towers(record)


def _has_two_towers(record: ModelRecord) -> bool:
    return record.architectures[:1] == ("CLIPModel",)


def plain_field(field: str) -> str:
    """The name that a field of the pictures' tower has in a model of pictures alone."""
    return field.removeprefix(_TOWER)


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


def counts_of(architecture: Architecture, fields: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Field -> its numbers, for those that are stated in full; those of the pictures' tower too."""
    found = {}
    for field in sorted({*fields, *(f"{_TOWER}{field}" for field in fields)}):
        value = architecture.hard.get(field)
        entries = value if isinstance(value, list) else [value]
        counts = tuple(entry for entry in entries if isinstance(entry, int))
        if len(counts) == len(entries):
            found[field] = counts
    return found
