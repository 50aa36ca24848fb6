"""In what two models of one symmetry table differ, as far as their records tell: the sizes that count, heads, tokens, what a caller sees."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from zoo_index.architecture import Architecture, compare_architectures
from zoo_index.families import Family
from zoo_index.metadata import ModelRecord

__all__ = [
    "ALIGNED_SIZES",
    "DEPTHS",
    "GIVEN_SIZES",
    "HEADS",
    "OTHER_TENSORS",
    "Apart",
    "counts_of",
    "differ_in_head",
    "has_head",
    "have_other_tokenizers",
    "plain_field",
    "takes_two",
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
_KNOWN = ALIGNED_SIZES | HEADS | DEPTHS | {
    "hidden_size", "head_dim", "num_labels", "image_size", "out_indices", "model_type", "architectures", "is_encoder_decoder",
}  # fmt: skip


OTHER_TENSORS = "their layers have other tensors"
"""What `Apart.in_tensors` says where nothing more is known."""


@dataclass(frozen=True)
class Apart:
    """In what two models of one table differ.  in_tensors: why not all layers have the same tensors, empty where they have.  in_inputs: tokens
    or pictures; in_words: tokens alone.  in_given: `GIVEN_SIZES` of tensors, or what a caller sees.  in_features: of a head.  in_planes:
    features that turn with the position.  in_scales: the units of only one can be scaled, behind ReLU.  one_tower_is_alike: of a model of
    texts and pictures, where only one of its two streams has another width.
    """

    in_other_things: frozenset[str]
    in_head: bool
    in_stream: bool
    one_tower_is_alike: bool
    in_planes: bool
    in_features: bool
    in_shapes: bool
    in_widths: bool
    in_scales: bool
    in_depth: bool
    in_labels: bool
    in_words: bool
    in_inputs: bool
    in_positions: bool
    in_given: bool
    in_tensors: str

    @classmethod
    def of(cls, a: ModelRecord, b: ModelRecord, family: Family) -> Apart:
        found = compare_architectures(a.architecture, b.architecture)
        fields = {plain_field(difference.field) for difference in found}
        hard = {plain_field(difference.field) for difference in found if difference.hard}
        streams = {difference.field for difference in found} & {"hidden_size", f"{_TOWER}hidden_size"}
        turns = "planes" in family.groups or "plane signs" in family.groups
        words = "tokens" in family.groups and ("vocab_size" in fields or have_other_tokenizers(a, b))
        places = "positions" in family.groups and bool({"max_position_embeddings", "image_size"} & fields)
        in_head = differ_in_head(a, b)
        return cls(
            in_other_things=frozenset(hard - _KNOWN | ({"activation"} & fields if in_head else set())),
            in_head=in_head,
            in_stream=bool(streams),
            one_tower_is_alike=len(streams) == 1 and _has_two_towers(a),
            in_planes="head_dim" in fields and turns,
            in_features="head_dim" in fields,
            in_shapes=a.core_signature != b.core_signature,
            in_widths=bool(fields & (HEADS | {"head_dim"}))
            or (bool(fields & ALIGNED_SIZES) and a.core_signature != b.core_signature),
            in_scales="'relu'" in family.groups
            and any(_is_relu(d.left) != _is_relu(d.right) for d in found if d.field == "activation"),
            in_depth=bool(fields & (DEPTHS - {"layer_types"})),  # which tells kinds too
            in_labels="num_labels" in fields,
            in_words=words,
            in_inputs=words or "image_size" in fields,
            in_positions=places,
            in_given=_shown_widths(a, family) != _shown_widths(b, family)
            or (bool(fields & GIVEN_SIZES) and a.core_signature != b.core_signature),
            in_tensors=_tensors_apart(a, b, fields | (DEPTHS if in_head else set())),
        )


def _is_relu(activation: object) -> bool:
    return activation == "relu"


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
        return OTHER_TENSORS
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


def _shown_widths(record: ModelRecord, family: Family) -> Mapping[int, int]:
    """The stages of a ResNet that its caller sees, with their widths: the last of a body, those that a backbone's config names."""
    widths = counts_of(record.architecture, {"hidden_sizes"}).get("hidden_sizes", ())
    named = counts_of(record.architecture, {"out_indices"}).get("out_indices")
    if named is None:
        return {} if has_head(record, family) or not widths else {len(widths): widths[-1]}
    stem = counts_of(record.architecture, {"embedding_size"}).get("embedding_size", (0,))
    sizes = (*stem, *widths)
    return {place % len(sizes): sizes[place] for place in named if -len(sizes) <= place < len(sizes)}


def have_other_tokenizers(a: ModelRecord, b: ModelRecord) -> bool:
    """Whether two models are known to have tokenizers that are not the same."""
    return None not in (a.tokenizer_signature, b.tokenizer_signature) and a.tokenizer_signature != b.tokenizer_signature


def differ_in_head(a: ModelRecord, b: ModelRecord) -> bool:
    """Whether two models do different things: one predicts words, the other classes or nothing."""
    return _task(a) != _task(b)


def _task(record: ModelRecord) -> str:
    """What the model's class is for: CausalLM of LlamaForCausalLM; empty for a body alone."""
    name = record.architectures[0] if record.architectures else ""
    return name.partition("For")[2] or next(
        (head for head in ("LMHead", "DoubleHeads", "Encoder", "WithProjection") if head in name), ""
    )


def has_head(record: ModelRecord, family: Family) -> bool:
    """Whether a model has more than its body."""
    return bool(record.architectures) and record.architectures[0] not in family.bodies


def takes_two(record: ModelRecord) -> bool:
    """Whether a model takes two things at once, and calibration data is of one kind."""
    name = record.architectures[0] if record.architectures else ""
    reads_pairs = bool(record.architecture.hard.get("is_encoder_decoder")) and not name.endswith("EncoderModel")
    return reads_pairs or _has_two_towers(record)


def _has_two_towers(record: ModelRecord) -> bool:
    return record.architectures[:1] == ("CLIPModel",)


def plain_field(field: str) -> str:
    """The name that a field of the pictures' tower has in a model of pictures alone."""
    return field.removeprefix(_TOWER)


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
