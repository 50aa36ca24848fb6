"""What an adapter's config says of its low-rank terms: whether they are such, and how they are scaled."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from hubmerge.errors import PlanError, shown

__all__ = ["FOUND_AGAIN", "moved_by", "other_rank", "refuse_dora", "refuse_start", "refuse_unsupported", "scale_of"]

_MOVES_THE_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
FOUND_AGAIN = frozenset({"pissa", "olora"})
"""Starts that the base alone decides."""
_NOT_A_TERM = {
    "target_parameters": "targets single parameters",
    "alora_invocation_tokens": "is at work only after certain tokens",
    "layer_replication": "was trained on a base with repeated layers",
    "trainable_token_indices": "trains the embeddings of single tokens",
    "use_bdlora": "has factors in blocks",
    "kasa_config": "was trained on a base without its smallest singular values",
    "use_qalora": "was trained on the groups of a quantised base",
    "arrow_config": "chooses between other adapters for every token",
}
_SAVE_AGAIN = "the adapter is damaged; fetch or save it again"
_LARGEST_ALPHA = 1e30
# Keys of alpha_pattern are a stranger's regular expressions; those that could take for ever are not tried.
_LONGEST_PATTERN, _MOST_REPEATS = 300, 3
_REPEATS = re.compile(r"[*+{]")
_NESTED = re.compile(r"\)[*+?{]|\\\d")


def refuse_unsupported(config: Mapping[str, Any], where: str, *, starts: bool = False) -> None:
    """Raise `PlanError` for an adapter that is neither low-rank terms to add nor DoRA.

    config: adapter_config.json.  starts: whether it may have one that moved its base.
    """
    kind = str(config.get("peft_type", "unknown"))
    dense = "merge it into its base with PEFT first (merge_and_unload) and name the result"
    if kind.upper() != "LORA":
        raise PlanError(f"adapter type {kind} is not a low-rank term to add", where=where, hint=dense)
    if not starts:
        refuse_start(config, where)
    for key, what in _NOT_A_TERM.items():
        if config.get(key):
            raise PlanError(f"the adapter {what} ({key})", where=where, hint=dense)


def moved_by(config: Mapping[str, Any]) -> str | None:
    """The start of an adapter, where that also moved the base that it was trained on."""
    start = str(config.get("init_lora_weights", "")).lower()
    return start if start.startswith(_MOVES_THE_BASE) else None


def refuse_start(config: Mapping[str, Any], where: str) -> None:
    """Raise `PlanError` for an adapter whose start moved the base, with what to do about it."""
    start = moved_by(config)
    if start is None:
        return
    moved = "for which its base was quantised" if start == "loftq" else "which also moved the base it was trained on"
    again = "base, in which its start is found again, or " if start in FOUND_AGAIN else ""
    peft = "" if start == "loftq" else ", or by PEFT (save_pretrained with path_initial_model_for_weight_conversion)"
    raise PlanError(
        f"the adapter was initialised by {start}, {moved}",
        where=where,
        hint=f"convert it to plain LoRA by hubmerge.lora.plain_adapter with {again}initial, the adapter before training{peft}",
    )


def refuse_dora(config: Mapping[str, Any], where: str) -> None:
    """Raise `PlanError` for a DoRA adapter, where only low-rank terms will do."""
    if config.get("use_dora"):
        raise PlanError(
            "DoRA adapters rescale their base and are no low-rank term to add",
            where=where,
            hint="merge whole models instead: `hubmerge merge` with models named base+adapter",
        )


def _by_pattern(config: Mapping[str, Any], name: str, module: str, default: Any, where: str) -> Any:
    """One module's value, as PEFT finds it: of the first key that matches the end of its name; `default` where none does.

    name: alpha_pattern or rank_pattern.
    """
    patterns = config.get(name) or {}
    if not isinstance(patterns, Mapping):
        raise PlanError(f"{name} is not a mapping", where=where, hint=_SAVE_AGAIN)
    for key, value in patterns.items():
        if len(key) > _LONGEST_PATTERN or len(_REPEATS.findall(key)) > _MOST_REPEATS or _NESTED.search(key):
            raise PlanError(f"{name} has the key {shown(key)}, too costly to match", where=where, hint=_SAVE_AGAIN)
        try:
            if re.match(rf"(.*\.)?({key})$", module):
                return value
        except re.error as error:
            message = f"{name} has the key {shown(key)}, no regular expression ({error})"
            raise PlanError(message, where=where, hint=_SAVE_AGAIN) from None
    return default


def other_rank(config: Mapping[str, Any], ranks: Mapping[str, int], where: str) -> str | None:
    """A warning of factors of another rank than the adapter's config says, which PEFT does not load; None where there are none.

    ranks: module -> that of its factors.
    """
    for module, rank in ranks.items():
        try:
            stated = _by_pattern(config, "rank_pattern", module, config.get("r"), where)
        except PlanError:  # nothing is computed with it
            return None
        if isinstance(stated, int) and not isinstance(stated, bool) and stated != rank:
            return (
                f"{where}: the factors of {module!r} have rank {rank}, and its config says {stated}, so that PEFT does not load it; "
                f"lora_alpha is taken to be over {rank}"
            )
    return None


def scale_of(config: Mapping[str, Any], module: str, rank: int, where: str) -> float:
    """What a module's product of factors is multiplied with; `PlanError` for a config that does not say it."""
    alpha = _by_pattern(config, "alpha_pattern", module, config.get("lora_alpha", rank), where)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < _LARGEST_ALPHA:
        raise PlanError(f"lora_alpha of {module!r} is {shown(alpha)}, not a number", where=where, hint=_SAVE_AGAIN)
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)
