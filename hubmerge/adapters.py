"""A LoRA adapter as what it does to its base's tensors: low-rank terms to add, and tensors to replace.

Source of the arithmetic: Hu et al. 2021, LoRA, arXiv:2106.09685, section 4.1: W + (alpha / r) B A; rsLoRA (Kalajdzievski
2023, arXiv:2312.03732) scales by alpha / sqrt(r).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubmerge.errors import PlanError
from zoo_index.tensors import TensorMeta, TensorTable

__all__ = ["AdapterEffect", "LowRank", "read_adapter_effect"]

_MOVES_THE_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
_NOT_A_TERM = {
    "target_parameters": "targets single parameters",
    "alora_invocation_tokens": "is at work only after certain tokens",
    "layer_replication": "was trained on a base with repeated layers",
}
_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(?P<module>.+)\.(?P<kind>lora_[A-Za-z_]+)(?P<rest>\..+)?\Z")


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
    """What an adapter does: base tensor name -> low-rank term; base tensor name -> the adapter's tensor in its place."""

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
    _refuse_unsupported(config, where)
    pairs: dict[tuple[str, bool], dict[str, TensorMeta]] = {}
    replaced: dict[str, TensorMeta] = {}
    for name, meta in adapter.items():
        short = name.removeprefix(_PREFIX).replace(".base_layer.", ".")
        factor = _FACTOR.match(short)
        if factor is None:
            target = _place(re.sub(r"\.modules_to_save(\.[^.]+)?(?=\.)", "", short), base, where)
            if base[target].shape != meta.shape:
                raise PlanError(
                    f"the adapter's {name!r} has shape {list(meta.shape)}, the base's {target!r} {list(base[target].shape)}",
                    where=where,
                    hint="an adapter with resized embeddings needs a base with the same vocabulary",
                )
            replaced[target] = meta
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
    low_rank = {}
    for (module, embedding), factors in pairs.items():
        if set(factors) != {"A", "B"}:
            raise PlanError(
                f"the adapter has lora_{next(iter(factors))} of {module!r} without its partner",
                where=where,
                hint="the adapter is incomplete; fetch or save it again",
            )
        target = _place(f"{module}.weight", base, where)
        transposed = embedding or bool(config.get("fan_in_fan_out"))
        term = LowRank(factors["A"], factors["B"], _scale(config, module, factors["A"].shape[0]), transposed)
        _check_shapes(term, base[target], where)
        low_rank[target] = term
    if not low_rank and not replaced:
        raise PlanError("the adapter changes nothing: it has no tensors", where=where, hint="fetch or save it again")
    return AdapterEffect(low_rank, replaced)


def _refuse_unsupported(config: Mapping[str, Any], where: str) -> None:
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


def _pattern_value(patterns: Any, module: str, default: Any) -> Any:
    """PEFT's rank_pattern and alpha_pattern: the first key that matches the end of the module's name."""
    for key, value in dict(patterns or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    alpha = float(_pattern_value(config.get("alpha_pattern"), module, config.get("lora_alpha", rank)))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _check_shapes(term: LowRank, weight: TensorMeta, where: str) -> None:
    a, b = term.a, term.b
    rows, columns = (a, b) if term.transposed else (b, a)
    n_rows = rows.shape[1] if term.transposed else rows.shape[0]
    n_columns = columns.shape[0] if term.transposed else math.prod(columns.shape[1:])
    fits = (
        len(weight.shape) >= 2
        and n_rows == weight.shape[0]
        and n_columns == math.prod(weight.shape[1:])
        and b.numel == b.shape[0] * term.rank
        and a.dtype.is_float
        and b.dtype.is_float
    )
    if not fits:
        raise PlanError(
            f"the adapter's factors {list(a.shape)} and {list(b.shape)} do not fit {weight.name!r} of shape {list(weight.shape)}",
            where=where,
            hint="is this the base it was trained on?",
        )
