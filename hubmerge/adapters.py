"""A LoRA adapter as what it does to its base's tensors: low-rank terms to add, and tensors to replace.

Source of the arithmetic: Hu et al. 2021, LoRA, arXiv:2106.09685, section 4.1: W + (alpha / r) B A; rsLoRA (Kalajdzievski
2023, arXiv:2312.03732) scales by alpha / sqrt(r).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from hubmerge.errors import PlanError, shown
from zoo_index.tensors import TensorMeta, TensorTable

__all__ = [
    "AdapterEffect",
    "FactorPairs",
    "LowRank",
    "read_adapter_effect",
    "refuse_unsupported",
    "scale_of",
    "split_tensors",
]

_MOVES_THE_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
_NOT_A_TERM = {
    "target_parameters": "targets single parameters",
    "alora_invocation_tokens": "is at work only after certain tokens",
    "layer_replication": "was trained on a base with repeated layers",
    "trainable_token_indices": "trains the embeddings of single tokens",
}
_SAVE_AGAIN = "the adapter is damaged; fetch or save it again"
_LARGEST_ALPHA = 1e30
# Keys of alpha_pattern are a stranger's regular expressions; those that could take for ever are not tried.
_LONGEST_PATTERN, _MOST_REPEATS = 300, 3
_REPEATS = re.compile(r"[*+{]")
_NESTED = re.compile(r"\)[*+?{]|\\\d")
_PREFIX, _BASE_LAYER = "base_model.model.", ".base_layer."
_FACTOR = re.compile(r"(?P<module>.+)\.(?P<kind>lora_[A-Za-z_]+)(?P<rest>\..+)?\Z")


Effect = TypeVar("Effect")
FactorPairs = dict[tuple[str, bool], dict[str, TensorMeta]]
"""(module, whether it is an embedding) -> its factors, A and B."""


@dataclass(frozen=True)
class LowRank:
    """A term ``scale * left @ right`` of a tensor flattened to (rows, columns), from an adapter's A and B.

    a, b: the factors on disk, (rank, in) and (out, rank).  transposed: left is A^T and right B^T, for embeddings and
    layers that store (in, out); else left is B and right A.
    """

    a: TensorMeta
    b: TensorMeta
    scale: float
    transposed: bool

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass(frozen=True)
class AdapterEffect:
    """What an adapter does: base tensor name -> low-rank term; base tensor name -> the adapter's tensor in its place.

    A name in both: the term is added to the adapter's own tensor.
    """

    low_rank: Mapping[str, LowRank]
    replaced: Mapping[str, TensorMeta]


def read_adapter_effect(
    config: Mapping[str, Any], adapter: TensorTable, base: TensorTable, where: str
) -> AdapterEffect:
    """Match an adapter's tensors to its base's.

    config: adapter_config.json.  Raises `PlanError` for adapters that are not additive low-rank terms (DoRA, other PEFT
    types, initialisations that moved the base), for a factor without its partner or without a place in the base, and for
    shapes that do not fit.
    """
    refuse_unsupported(config, where)
    pairs, replaced = _sorted_tensors(adapter, base, where)
    low_rank: dict[str, LowRank] = {}
    for (module, embedding), factors in pairs.items():
        if set(factors) != {"A", "B"}:
            raise PlanError(
                f"the adapter has lora_{next(iter(factors))} of {module!r} without its partner",
                where=where,
                hint="the adapter is incomplete; fetch or save it again",
            )
        target = _place(f"{module}.weight", base, where)
        transposed = embedding or bool(config.get("fan_in_fan_out"))
        _check_shapes(factors["A"], factors["B"], transposed, base[target], where)
        scale = scale_of(config, module, factors["A"].shape[0], where)
        _take(low_rank, target, LowRank(factors["A"], factors["B"], scale, transposed), where)
    # PEFT saves an embedding it adapts with the adapter, as base_layer: what the factors are added to
    both = next((name for name in low_rank if name in replaced and _BASE_LAYER not in replaced[name].name), None)
    if both is not None:
        raise PlanError(
            f"the adapter both replaces {both!r} and adds to it", where=where, hint="save the adapter again"
        )
    if not low_rank and not replaced:
        raise PlanError("the adapter changes nothing: it has no tensors", where=where, hint="fetch or save it again")
    return AdapterEffect(low_rank, replaced)


def _sorted_tensors(adapter: TensorTable, base: TensorTable, where: str) -> tuple[FactorPairs, dict[str, TensorMeta]]:
    """An adapter's factors by module, and its tensors that take the place of the base's, by the base's name."""
    pairs, others = split_tensors(adapter, where)
    replaced: dict[str, TensorMeta] = {}
    for short, meta in others.items():
        target = _place(re.sub(r"\.modules_to_save(\.[^.]+)?(?=\.)", "", short), base, where)
        if base[target].shape != meta.shape:
            raise PlanError(
                f"the adapter's {meta.name!r} has shape {list(meta.shape)}, the base's {target!r} {list(base[target].shape)}",
                where=where,
                hint="an adapter with resized embeddings needs a base with the same vocabulary",
            )
        _take(replaced, target, meta, where)
    return pairs, replaced


def split_tensors(adapter: TensorTable, where: str) -> tuple[FactorPairs, dict[str, TensorMeta]]:
    """An adapter's factors by module, and its other tensors, by their names below the model.

    Raises `PlanError` for a tensor of another kind of adapter.
    """
    pairs: FactorPairs = {}
    others: dict[str, TensorMeta] = {}
    for name, meta in adapter.items():
        short = name.removeprefix(_PREFIX).replace(_BASE_LAYER, ".")
        factor = _FACTOR.match(short)
        if factor is None:
            others[short] = meta
            continue
        kind = factor["kind"]
        if kind not in {"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"} or factor["rest"] not in {
            None,
            ".weight",
        }:
            raise PlanError(
                f"the adapter's {name!r} ({kind}) is not a low-rank factor",
                where=where,
                hint="merge it into its base with PEFT first (merge_and_unload)",
            )
        pairs.setdefault((factor["module"], "embedding" in kind), {})[kind[-1]] = meta
    return pairs, others


def refuse_unsupported(config: Mapping[str, Any], where: str) -> None:
    """Raise `PlanError` for an adapter that is no additive low-rank term.  config: adapter_config.json."""
    kind = str(config.get("peft_type", "unknown"))
    dense = "merge it into its base with PEFT first (merge_and_unload) and name the result"
    if kind.upper() != "LORA":
        raise PlanError(f"adapter type {kind} is not a low-rank term to add", where=where, hint=dense)
    if config.get("use_dora"):
        raise PlanError("DoRA adapters rescale their base and are no low-rank term to add", where=where, hint=dense)
    start = str(config.get("init_lora_weights", "")).lower()
    if start.startswith(_MOVES_THE_BASE):
        raise PlanError(
            f"the adapter was initialised by {start}, which also moved the base it was trained on",
            where=where,
            hint="convert it to plain LoRA with PEFT (save_pretrained with path_initial_model_for_weight_conversion)",
        )
    for key, what in _NOT_A_TERM.items():
        if config.get(key):
            raise PlanError(f"the adapter {what} ({key})", where=where, hint=dense)


def _place(name: str, base: TensorTable, where: str) -> str:
    """The base's tensor that `name` means; prefixes may differ between the class trained and the class saved."""
    if name in base:
        return name
    found = [other for other in base if other.endswith("." + name) or name.endswith("." + other)]
    if len(found) != 1:
        what = "no tensor" if not found else "several tensors"
        raise PlanError(
            f"the adapter changes {name!r}, for which the base has {what}",
            where=where,
            hint="is this the base it was trained on?",
        )
    return found[0]


def _take(effects: dict[str, Effect], target: str, effect: Effect, where: str) -> None:
    if target in effects:
        raise PlanError(f"the adapter changes {target!r} twice", where=where, hint="save the adapter again")
    effects[target] = effect


def _alpha(config: Mapping[str, Any], module: str, rank: int, where: str) -> Any:
    """lora_alpha of one module, as PEFT finds it: the first key of alpha_pattern that matches the end of its name."""
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, Mapping):
        raise PlanError("alpha_pattern is not a mapping", where=where, hint=_SAVE_AGAIN)
    for key, value in patterns.items():
        if len(key) > _LONGEST_PATTERN or len(_REPEATS.findall(key)) > _MOST_REPEATS or _NESTED.search(key):
            raise PlanError(
                f"alpha_pattern has the key {shown(key)}, too costly to match", where=where, hint=_SAVE_AGAIN
            )
        try:
            if re.match(rf"(.*\.)?({key})$", module):
                return value
        except re.error as error:
            message = f"alpha_pattern has the key {shown(key)}, no regular expression ({error})"
            raise PlanError(message, where=where, hint=_SAVE_AGAIN) from None
    return config.get("lora_alpha", rank)


def scale_of(config: Mapping[str, Any], module: str, rank: int, where: str) -> float:
    """What a module's product of factors is multiplied with; `PlanError` for a config that does not say it."""
    alpha = _alpha(config, module, rank, where)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < _LARGEST_ALPHA:
        raise PlanError(f"lora_alpha of {module!r} is {shown(alpha)}, not a number", where=where, hint=_SAVE_AGAIN)
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _check_shapes(a: TensorMeta, b: TensorMeta, transposed: bool, weight: TensorMeta, where: str) -> None:
    odd = next((factor for factor in (a, b) if not factor.dtype.is_float), None)
    if odd is not None:
        raise PlanError(f"the adapter's {odd.name!r} holds {odd.dtype.value} numbers", where=where, hint=_SAVE_AGAIN)
    if not _fits(a, b, transposed, weight.shape):
        raise PlanError(
            f"the adapter's factors {list(a.shape)} and {list(b.shape)} do not fit {weight.name!r} of shape {list(weight.shape)}",
            where=where,
            hint="is this the base it was trained on?",
        )


def _fits(a: TensorMeta, b: TensorMeta, transposed: bool, shape: tuple[int, ...]) -> bool:
    if min(len(a.shape), len(b.shape), len(shape)) < 2:
        return False
    rank = a.shape[0]
    rows = b.shape[0] if not transposed else a.shape[1]
    columns = math.prod(a.shape[1:]) if not transposed else b.shape[0]
    return rank > 0 and b.numel == b.shape[0] * rank and rows == shape[0] and columns == math.prod(shape[1:])
