"""Can two models be merged, and if not, why: `compare` gives a level and the reasons for it, in words.

The shapes in the headers decide what is possible; the config's fields explain it, and warn of what merges without an
error into a model that computes nonsense.  Nothing here touches files.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from zoo_index.alignment import how_to_align, how_to_carry, why_not_matched
from zoo_index.apart import GIVEN_SIZES, differ_in_head, have_other_tokenizers, plain_field
from zoo_index.architecture import Architecture, FieldDifference, compare_architectures
from zoo_index.lineage import same_name
from zoo_index.metadata import ModelRecord
from zoo_index.plain import Json
from zoo_index.ways import Ways, table_of, ways_of

__all__ = ["Compatibility", "Level", "Reason", "Severity", "compare", "differing_fields"]

Severity = Literal["block", "warn", "info"]


class Level(StrEnum):
    """How two models can be combined, closest first."""

    identical = "identical-shape"
    adapter = "adapter-on-same-base"
    vocabulary = "different-vocabulary"
    alignment = "by-alignment"
    transport = "by-transport"
    size = "different-size"
    incompatible = "incompatible"

    @property
    def rank(self) -> int:
        """0 for the closest level."""
        return list(Level).index(self)

    @property
    def meaning(self) -> str:
        """The level in a sentence."""
        return _MEANINGS[self]


_MEANINGS = {
    Level.identical: "same tensors of the same shapes: they can be merged entry by entry",
    Level.adapter: "an adapter and its base, or two adapters of one base",
    Level.vocabulary: "same body, but another vocabulary or other labels: embeddings or heads do not fit each other",
    Level.alignment: "same architecture, but other widths or depths or no common ancestor: their units are to be matched first",
    Level.transport: "same architecture, but streams of other widths: no merge of weights, but what one learned can be carried to the other",
    Level.size: "same architecture, other sizes: no merge entry by entry, and none by matching units unless a recipe insists",
    Level.incompatible: "they cannot be merged",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One finding about a pair: the field, both values and a sentence.

    severity: block (a merge entry by entry is refused), warn (it runs, and the result can be useless), info.
    """

    field: str
    left: Json
    right: Json
    severity: Severity
    sentence: str


@dataclass(frozen=True, slots=True)
class Compatibility:
    """The level of a pair and its reasons, gravest first."""

    level: Level
    reasons: tuple[Reason, ...]

    @property
    def warnings(self) -> int:
        """How many reasons warn of a merge that would run and be wrong."""
        return sum(reason.severity == "warn" for reason in self.reasons)


# Differences in these alone leave the architecture the same, in another width or depth.
_SIZE_FIELDS = {
    "hidden_size", "num_hidden_layers", "num_decoder_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "decoder_ffn_dim", "num_experts", "num_experts_per_tok", "moe_intermediate_size",
    "n_shared_experts", "embedding_size", "hidden_sizes", "depths", "layer_types",
}  # fmt: skip
_HEAD_FIELDS = {"num_labels", "architectures"}
_NAMES = {"model_type", "architectures", "is_encoder_decoder"}

# A soft field that differs: how grave, and what follows from it.
_SOFT_FINDINGS: dict[str, tuple[Severity, str]] = {
    "rope_theta": ("warn", "positions are rotated at other speeds, and a merge fits neither"),
    "rope_type": ("warn", "positions are encoded in another way, and a merge fits neither"),
    "rope_scaling": ("warn", "positions are scaled in another way, and a merge fits neither"),
    "activation": ("warn", "the layers compute another function, and a merge fits neither"),
    "scale_embedding": ("warn", "embeddings are scaled in one and not in the other"),
    "sliding_window": ("warn", "attention reaches to another distance"),
    "labels": ("warn", "a row of the classifier stands for another label"),
    "norm_eps": ("info", ""),
    "tie_word_embeddings": ("info", "one reads its output head from its embeddings"),
    "max_position_embeddings": ("info", "the merged model takes it from the model that gives its config"),
    "dtype": ("info", "numbers are converted"),
    "relative_attention_max_distance": ("warn", "distances are sorted in another way, and a merge fits neither"),
}
_OUTER_SIZES = {
    **dict.fromkeys(GIVEN_SIZES, "its entries are given from outside, and matched with nothing"),
    "vocab_size": "their embeddings have other rows",
    "num_labels": "their classifiers have other rows",
}
_GRAVITY = {"block": 0, "warn": 1, "info": 2}


def differing_fields(a: ModelRecord | Architecture, b: ModelRecord | Architecture) -> tuple[FieldDifference, ...]:
    """The config fields in which two models differ, hard ones first; each prints as ``hidden_size 64 vs 128``."""
    left = a.architecture if isinstance(a, ModelRecord) else a
    right = b.architecture if isinstance(b, ModelRecord) else b
    return compare_architectures(left, right)


def compare(a: ModelRecord, b: ModelRecord) -> Compatibility:
    """How `a` and `b` can be combined.  Symmetric: swapping them swaps the values in the reasons and nothing else."""
    refused = _refusals(a, b)
    if refused:
        return Compatibility(Level.incompatible, refused)
    level, reasons = _compare_adapters(a, b) if "adapter" in (a.kind, b.kind) else _compare_models(a, b)
    return Compatibility(level, tuple(sorted(reasons, key=lambda reason: _GRAVITY[reason.severity])))


def _refusals(a: ModelRecord, b: ModelRecord) -> tuple[Reason, ...]:
    return tuple(
        Reason("refused", _joined(a), _joined(b), "block", f"{record.reference}: {refusal}")
        for record in (a, b)
        for refusal in record.refusals
    )


def _joined(record: ModelRecord) -> str | None:
    return "; ".join(record.refusals) or None


def _compare_models(a: ModelRecord, b: ModelRecord) -> tuple[Level, list[Reason]]:
    same_shapes = a.signature == b.signature
    same_body = a.core_signature == b.core_signature
    differences = differing_fields(a, b)
    same_rows = same_shapes or _same_rows(a, b)
    reasons = [_field_reason(diff, same_rows=same_rows, same_body=same_body) for diff in differences]
    reasons += _vocabulary_reasons(a, b) if same_body else []
    reasons += _tokenizer_reasons(a, b)
    blocks = {reason.field for reason in reasons if reason.severity == "block"}
    hard = {diff.field for diff in differences if diff.hard}
    if same_body:
        return (Level.vocabulary if blocks else Level.identical), [*reasons, *_instead(a, b, hard)]
    ways = ways_of(a, b)
    explained = any(_only_rows(a, b, counted) for counted in _ROWS) or (ways.found and differ_in_head(a, b))
    explained = explained or any(diff.field in GIVEN_SIZES for diff in differences)
    if not hard - _HEAD_FIELDS and not explained:
        reasons.append(_unexplained(a, b))
        return Level.incompatible, reasons
    if table_of(a) is not None:
        hard = {plain_field(field) for field in hard} - (_NAMES if ways.found else set())
    other_kinds = not hard <= _SIZE_FIELDS | {"num_labels", "image_size", "out_indices"}
    if other_kinds or a.model_type is None or (a.model_type != b.model_type and not ways.found):
        return Level.incompatible, reasons
    level, how = _by_matching(a, b, ways)
    if how:
        reasons.append(Reason("alignment", None, None, "info", how))
    return level, reasons


def _by_matching(a: ModelRecord, b: ModelRecord, ways: Ways) -> tuple[Level, str]:
    """Models of other sizes: whether their units can be matched, or what was learned carried, and how."""
    if ways.match_units:
        return Level.alignment, how_to_align(a, b, ways)
    if ways.transport:
        return Level.transport, how_to_carry(ways)
    return Level.size, why_not_matched(ways)


def _instead(a: ModelRecord, b: ModelRecord, hard: set[str]) -> list[Reason]:
    """What does better than a merge entry by entry where classes, or heads of attention, are not the same ones."""
    ways = ways_of(a, b) if hard & {"num_labels", "head_dim"} else Ways()
    if not (ways.whole or ways.transport):
        return []
    how = how_to_align(a, b, ways) if ways.whole else how_to_carry(ways)
    return [Reason("alignment", None, None, "info", how)]


_ROWS = ("max_position_embeddings", "vocab_size")
"""Fields that count the rows of one table."""


def _only_rows(a: ModelRecord, b: ModelRecord, counted: str) -> bool:
    """Whether the rows that a field counts, in one table, are all that makes the tensors of two models differ."""
    lengths = [each.architecture.soft.get(counted) for each in (a, b)]
    width = a.architecture.hard.get("hidden_size")
    counts = (a.parameters, b.parameters, a.tensors, b.tensors, width, *lengths)
    if not all(isinstance(count, int) for count in counts) or a.tensors != b.tensors or lengths[0] == lengths[1]:
        return False
    return a.parameters - b.parameters == (lengths[0] - lengths[1]) * width  # type: ignore[operator]  # all are numbers


def _same_rows(a: ModelRecord, b: ModelRecord) -> bool:
    """Whether the embeddings and heads that both store have the same shapes (a vocabulary can be padded)."""
    shared = a.vocabulary.keys() & b.vocabulary.keys()
    return bool(shared) and all(a.vocabulary[name] == b.vocabulary[name] for name in shared)


def _field_reason(diff: FieldDifference, *, same_rows: bool, same_body: bool) -> Reason:
    severity: Severity
    if diff.field in _OUTER_SIZES:
        fits = same_body if diff.field in GIVEN_SIZES else same_rows
        severity, why = ("info", "") if fits else ("block", _OUTER_SIZES[diff.field])
    elif diff.hard and same_body:
        severity, why = "warn", "the tensors have the same shapes but are used in another way"
    elif diff.hard:
        severity, why = "block", ""
    else:
        severity, why = _SOFT_FINDINGS.get(diff.field, ("info", ""))
    return Reason(diff.field, diff.left, diff.right, severity, f"{diff}: {why}" if why else str(diff))


def _vocabulary_reasons(a: ModelRecord, b: ModelRecord) -> list[Reason]:
    """Embeddings and heads that do not fit each other; a head that is absent because it is tied fits."""
    found: list[Reason] = []
    for name in sorted(a.vocabulary.keys() | b.vocabulary.keys()):
        left, right = a.vocabulary.get(name), b.vocabulary.get(name)
        if left == right:
            continue
        values: tuple[Json, Json] = (list(left) if left else None, list(right) if right else None)
        if left is not None and right is not None:
            found.append(Reason(name, *values, "block", f"{name} {values[0]} vs {values[1]}"))
        elif _is_tied_head(name, right, a) if left is None else _is_tied_head(name, left, b):
            found.append(Reason(name, *values, "info", f"{name} is in one only: the other ties it to its embeddings"))
        else:
            found.append(Reason(name, *values, "block", f"{name} is in one only"))
    return found


def _is_tied_head(name: str, shape: tuple[int, ...] | None, other: ModelRecord) -> bool:
    untied = other.architecture.soft.get("tie_word_embeddings") is False
    return not untied and name.endswith(".weight") and shape in other.vocabulary.values()


def _tokenizer_reasons(a: ModelRecord, b: ModelRecord) -> list[Reason]:
    if not have_other_tokenizers(a, b):
        return []
    left, right = (str(record.tokenizer_signature)[:12] for record in (a, b))
    sentence = f"tokenizers differ ({left} vs {right}): one row of the embeddings can stand for two tokens"
    return [Reason("tokenizer", left, right, "warn", sentence)]


def _unexplained(a: ModelRecord, b: ModelRecord) -> Reason:
    left, right = (f"{record.tensors} tensors, {record.parameters} parameters" for record in (a, b))
    sentence = f"their tensors differ in name or shape ({left} vs {right}), and no width or depth explains it"
    return Reason("tensors", left, right, "block", sentence)


def _compare_adapters(a: ModelRecord, b: ModelRecord) -> tuple[Level, list[Reason]]:
    if a.adapter is None or b.adapter is None:
        return _compare_with_base(a, b)
    reasons: list[Reason] = []
    left, right = a.adapter, b.adapter
    same_base = left.base is not None and right.base is not None and same_name(left.base, right.base)
    if not same_base:
        sentence = f"base {left.base or 'not stated'} vs {right.base or 'not stated'}: they adapt other models"
        reasons.append(Reason("base", left.base, right.base, "block", sentence))
    if left.peft_type != right.peft_type:
        sentence = f"peft_type {left.peft_type} vs {right.peft_type}"
        reasons.append(Reason("peft_type", left.peft_type, right.peft_type, "block", sentence))
    for field in ("r", "alpha", "target_modules", "modules_to_save", "dora", "rslora", "task_type"):
        pair = [_json(getattr(facts, field)) for facts in (left, right)]
        if pair[0] != pair[1]:
            difference = FieldDifference(field=field, left=pair[0], right=pair[1], hard=False)
            severity: Severity = "warn" if field in ("dora", "modules_to_save") else "info"
            reasons.append(Reason(field, pair[0], pair[1], severity, str(difference)))
    blocked = any(reason.severity == "block" for reason in reasons)
    return (Level.incompatible if blocked else Level.adapter), reasons


def _compare_with_base(a: ModelRecord, b: ModelRecord) -> tuple[Level, list[Reason]]:
    adapter, model = (a, b) if a.kind == "adapter" else (b, a)
    base = adapter.adapter.base if adapter.adapter else None
    values: tuple[Json, Json] = (base, model.reference) if adapter is a else (model.reference, base)
    if base is not None and same_name(base, model.reference):
        sentence = "the adapter was trained on this model: name them together as base+adapter"
        return Level.adapter, [Reason("base", *values, "info", sentence)]
    if base is not None and any(same_name(base, edge.parent) for edge in model.base_models):
        sentence = f"the adapter was trained on {base}, and the model says that it descends from that"
        return Level.adapter, [Reason("base", *values, "warn", sentence)]
    sentence = f"the adapter was trained on another model: {base or 'which one, it does not state'}"
    return Level.incompatible, [Reason("base", *values, "block", sentence)]


def _json(value: object) -> Json:
    return list(value) if isinstance(value, tuple) else value  # type: ignore[return-value]  # fields of AdapterFacts
