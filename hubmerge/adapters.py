"""A LoRA adapter as what it does to its base's tensors: low-rank terms to add, magnitudes to give, and tensors to replace.

Source of the arithmetic: Hu et al. 2021, LoRA, arXiv:2106.09685, section 4.1: W + (alpha / r) B A; rsLoRA (Kalajdzievski
2023, arXiv:2312.03732) scales by alpha / sqrt(r); DoRA (Liu et al. 2024, arXiv:2402.09353, equation 5) gives each output of that
the length that it learned.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from hubmerge.adapter_kinds import refuse_unsupported, scale_of
from hubmerge.errors import PlanError
from zoo_index.tensors import TensorMeta, TensorTable

__all__ = [
    "AdapterEffect",
    "AdapterTensors",
    "FactorPairs",
    "LowRank",
    "place_of",
    "read_adapter_effect",
    "split_tensors",
]

_SAVE_AGAIN = "the adapter is damaged; fetch or save it again"
_PREFIX, _BASE_LAYER = "base_model.model.", ".base_layer."
_FACTORS = frozenset({"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"})
_SAVED = re.compile(r"\.modules_to_save(\.[^.]+)?(?=\.)")
_FACTOR = re.compile(r"(?P<module>.+)\.(?P<kind>lora_[A-Za-z_]+)(?P<rest>\..+)?\Z")


Effect = TypeVar("Effect")
FactorPairs = dict[tuple[str, bool], dict[str, TensorMeta]]
"""(module, whether it is an embedding) -> its factors, A and B."""


@dataclass(frozen=True)
class AdapterTensors:
    """An adapter's tensors by their names below the model.

    pairs: its factors.  biases: module -> what B has as bias (``lora_bias``).  magnitudes: module -> the lengths of DoRA.  others: those
    that take the place of the base's.
    """

    pairs: FactorPairs
    biases: dict[str, TensorMeta]
    magnitudes: dict[str, TensorMeta]
    others: dict[str, TensorMeta]


@dataclass(frozen=True)
class LowRank:
    """A term ``scale * left @ right`` of a tensor flattened to (rows, columns), from an adapter's A and B.

    a, b: the factors on disk, (rank, in) and (out, rank); of a bias b alone, (out,), and the term is ``scale * b``.  transposed: left is
    A^T and right B^T, for embeddings and layers that store (in, out); else left is B and right A.  magnitude: of DoRA, the length that
    each row of the sum is given (each column where transposed), (out,) but for axes of size 1.
    """

    a: TensorMeta | None
    b: TensorMeta
    scale: float
    transposed: bool
    magnitude: TensorMeta | None = None

    @property
    def rank(self) -> int:
        return 1 if self.a is None else self.a.shape[0]

    @property
    def stored(self) -> tuple[TensorMeta, ...]:
        """What is read of the adapter for it."""
        return tuple(meta for meta in (self.a, self.b, self.magnitude) if meta is not None)


@dataclass(frozen=True)
class AdapterEffect:
    """What an adapter does: base tensor name -> low-rank term; base tensor name -> the adapter's tensor in its place.

    A name in both: the term is added to the adapter's own tensor.  ranks: module -> that of its factors.
    """

    low_rank: Mapping[str, LowRank]
    replaced: Mapping[str, TensorMeta]
    ranks: Mapping[str, int]


def read_adapter_effect(
    config: Mapping[str, Any], adapter: TensorTable, base: TensorTable, where: str
) -> AdapterEffect:
    """Match an adapter's tensors to its base's.

    config: adapter_config.json.  Raises `PlanError` for adapters that are not additive low-rank terms nor DoRA (other PEFT
    types, initialisations that moved the base), for a factor without its partner or without a place in the base, and for
    shapes that do not fit.
    """
    refuse_unsupported(config, where)
    tensors = split_tensors(adapter, config, where)
    replaced = _replaced(tensors.others, base, where)
    low_rank: dict[str, LowRank] = {}
    ranks: dict[str, int] = {}
    for (module, embedding), factors in tensors.pairs.items():
        target = place_of(f"{module}.weight", base, where)
        transposed = embedding or bool(config.get("fan_in_fan_out"))
        _check_shapes(factors["A"], factors["B"], transposed, base[target], where)
        magnitude = tensors.magnitudes.get(module)
        if magnitude is not None or config.get("use_dora"):
            _check_magnitude(magnitude, module, transposed, base[target], where)
        ranks[module] = factors["A"].shape[0]
        scale = scale_of(config, module, ranks[module], where)
        _take(low_rank, target, LowRank(factors["A"], factors["B"], scale, transposed, magnitude), where)
        bias = tensors.biases.get(module)
        if bias is not None:
            _take(low_rank, *_bias_term(module, bias, scale, base, where), where)
    # PEFT saves an embedding it adapts with the adapter, as base_layer: what the factors are added to
    both = next((name for name in low_rank if name in replaced and _BASE_LAYER not in replaced[name].name), None)
    if both is not None:
        raise PlanError(
            f"the adapter both replaces {both!r} and adds to it", where=where, hint="save the adapter again"
        )
    if not low_rank and not replaced:
        raise PlanError("the adapter changes nothing: it has no tensors", where=where, hint="fetch or save it again")
    return AdapterEffect(low_rank, replaced, ranks)


def _replaced(others: Mapping[str, TensorMeta], base: TensorTable, where: str) -> dict[str, TensorMeta]:
    """An adapter's tensors that take the place of the base's, by the base's name."""
    replaced: dict[str, TensorMeta] = {}
    for short, meta in others.items():
        target = place_of(short, base, where)
        if base[target].shape != meta.shape:
            raise PlanError(
                f"the adapter's {meta.name!r} has shape {list(meta.shape)}, the base's {target!r} {list(base[target].shape)}",
                where=where,
                hint="an adapter with resized embeddings needs a base with the same vocabulary",
            )
        _take(replaced, target, meta, where)
    return replaced


def split_tensors(adapter: TensorTable, config: Mapping[str, Any], where: str) -> AdapterTensors:
    """Sort an adapter's tensors, whose factors are then pairs.  config: adapter_config.json.

    Raises `PlanError` for a tensor of another kind of adapter, and for a factor without its partner.
    """
    found = AdapterTensors({}, {}, {}, {})
    for name, meta in adapter.items():
        short = name.removeprefix(_PREFIX).replace(_BASE_LAYER, ".")
        factor = _FACTOR.match(short)
        if factor is None:
            found.others[_SAVED.sub("", short)] = meta
            continue
        kind, rest = factor["kind"], factor["rest"]
        if kind in _FACTORS and rest in {None, ".weight"}:
            found.pairs.setdefault((factor["module"], "embedding" in kind), {})[kind[-1]] = meta
        elif (kind, rest) == ("lora_B", ".bias") and config.get("lora_bias"):
            found.biases[factor["module"]] = meta
        elif kind == "lora_magnitude_vector" and rest in {None, ".weight"} and config.get("use_dora"):
            found.magnitudes[factor["module"]] = meta
        else:
            raise PlanError(
                f"the adapter's {name!r} ({kind}) is not a low-rank factor",
                where=where,
                hint="merge it into its base with PEFT first (merge_and_unload)",
            )
    for (module, _), factors in found.pairs.items():
        if set(factors) != {"A", "B"}:
            raise PlanError(
                f"the adapter has lora_{next(iter(factors))} of {module!r} without its partner",
                where=where,
                hint="the adapter is incomplete; fetch or save it again",
            )
    return found


def place_of(name: str, base: Collection[str], where: str) -> str:
    """The base's tensor that `name` means; prefixes may differ between the class trained and the class saved.

    Raises `PlanError` where there is none, or several.
    """
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


def _check_magnitude(
    magnitude: TensorMeta | None, module: str, transposed: bool, weight: TensorMeta, where: str
) -> None:
    """A DoRA module needs a length for every output."""
    outputs = weight.shape[-1] if transposed else weight.shape[0]
    if magnitude is None:
        raise PlanError(
            f"the adapter is DoRA's and has no lora_magnitude_vector of {module!r}", where=where, hint=_SAVE_AGAIN
        )
    if magnitude.numel != outputs or not magnitude.dtype.is_float:
        raise PlanError(
            f"the adapter's {magnitude.name!r} has shape {list(magnitude.shape)}, {module!r} {outputs} outputs",
            where=where,
            hint="is this the base it was trained on?",
        )


def _bias_term(module: str, bias: TensorMeta, scale: float, base: TensorTable, where: str) -> tuple[str, LowRank]:
    """What the bias of B adds to the base's: it is scaled as the product is."""
    target = place_of(f"{module}.bias", base, where)
    if bias.shape != base[target].shape or not bias.dtype.is_float:
        raise PlanError(
            f"the adapter's {bias.name!r} has shape {list(bias.shape)}, the base's {target!r} {list(base[target].shape)}",
            where=where,
            hint="is this the base it was trained on?",
        )
    return target, LowRank(None, bias, scale, transposed=False)
