"""The recipe that each method is measured with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hubmerge.method import get_method, method_names

__all__ = ["PARAMETERS", "entrywise_methods", "inputs", "recipe", "takes", "weights"]

PARAMETERS: dict[str, dict[str, Any]] = {
    "breadcrumbs": {"density": 0.9, "gamma": 0.01},
    "breadcrumbs_ties": {"density": 0.9, "gamma": 0.01},
    "dare_linear": {"density": 0.5},
    "dare_ties": {"density": 0.5},
    "della": {"density": 0.5, "epsilon": 0.15},
    "della_linear": {"density": 0.5, "epsilon": 0.15},
    "nearswap": {"t": 0.001},
    "passthrough": {"scale": 1.1},
    "sce": {"select_topk": 0.5},
    "slerp": {"t": 0.4},
    "ties": {"density": 0.5},
}
"""Parameters for all parents, by method; `weights` come on top where a method has them."""


def weights(parents: int) -> list[float]:
    """The parents' weights: 0.6, 0.4, 0.6, ..."""
    return [0.4 if parent % 2 else 0.6 for parent in range(parents)]


def entrywise_methods() -> tuple[str, ...]:
    """Every entrywise method there is."""
    methods = ((name, get_method(name)) for name in method_names())
    return tuple(name for name, method in methods if method.kind == "entrywise" and method.wrapper is None)


def takes(name: str, parents: int) -> int:
    """How many of `parents` parents a method merges, beside the base model where it has one."""
    method = get_method(name)
    most = method.parents[1]
    return parents if most is None else min(parents, most - (method.base == "start"))


def recipe(name: str, base: Path, parents: Sequence[Path], *, dtype: str = "bfloat16", **output: Any) -> dict[str, Any]:
    """A recipe that merges `parents`, as many as it takes, by the method `name`, with the base model where it needs one."""
    method = get_method(name)
    models = list(parents[: takes(name, len(parents))])
    if method.base == "start":  # between the base model and a parent
        models.insert(0, base)
    rows: list[dict[str, Any]] = [{"model": str(model)} for model in models]
    if "weight" in method.parameters.model_fields:
        for row, weight in zip(rows, weights(len(rows)), strict=True):
            row["parameters"] = {"weight": weight}
    content: dict[str, Any] = {"merge_method": name, "models": rows, "dtype": dtype}
    if method.base in {"required", "start"}:
        content["base_model"] = str(base)
    if name in PARAMETERS:
        content["parameters"] = PARAMETERS[name]
    if output:
        content["output"] = output
    return content


def inputs(content: Mapping[str, Any]) -> list[Path]:
    """The folders that a recipe reads, each once."""
    names = [content.get("base_model"), *(row["model"] for row in content["models"])]
    return list(dict.fromkeys(Path(name) for name in names if name))
