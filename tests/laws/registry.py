"""Every registered method with parameters it can run on, so that a law holds for the next method too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from zoo import Tensors, merge_tensors, random_values, stored_as

from hubmerge.method import get_method, method_names

METHODS = tuple(
    name for name in method_names() if (wrapper := get_method(name).wrapper) is None or not wrapper.needs_data
)
"""Those that merge tensors alone: what must be run on data first has its laws in `test_on_statistics`."""
NEEDED: dict[str, dict[str, Any]] = {"slerp": {"t": 0.3}, "nearswap": {"t": 0.3}}
"""Parameters without a default."""
OF_EACH_KIND = ("linear", "slerp", "ties", "dare_ties", "model_stock", "iso_c")
"""Methods that together have every kind of pass: without and with a base, a stage, marks, measures; and one on matrices.

Numbers are read and written by the same code for all of a kind: what tells of one that its types are right tells of the others.
"""
TELLING: dict[str, dict[str, Any]] = {
    "awd": {"inner": "ties", "density": 0.4, "lambda_": 0.7},
    "slerp": {"t": 0.3},
    "ties": {"density": 0.4, "lambda_": 0.7, "rescale": True, "trim_scope": "layer"},
    "dare_linear": {"density": 0.4, "lambda_": 0.7},
    "dare_ties": {"density": 0.4, "rescale": "inverse"},
    "della": {"density": 0.4, "epsilon": 0.2},
    "della_linear": {"density": 0.4, "epsilon": 0.2, "rescale": False},
    "breadcrumbs": {"density": 0.5, "gamma": 0.2},
    "breadcrumbs_ties": {"density": 0.5, "gamma": 0.2, "rescale": True},
    "sce": {"select_topk": 0.4},
    "task_arithmetic": {"lambda_": 0.7},
    "iso_c": {"lambda_": 0.7},
    "iso_cts": {"lambda_": 0.7, "common": 0.5},
    "tsv_m": {"lambda_": 0.7},
    "passthrough": {"scale": 1.1},
    "nearswap": {"t": 0.3},
    "nuslerp": {"nuslerp_flatten": False, "nuslerp_row_wise": True},
    "karcher": {"max_iter": 3},
    "model_stock": {"filter_wise": True},
    "ram": {"epsilon": 0.5},
    "ramplus_tl": {"epsilon": 0.5, "r": 0.4, "alpha": 0.7},
}
"""Parameters under which a method does more than with its defaults."""


def parents_of(method: str) -> int:
    """How many models are merged by `method` here, the base model not counted."""
    most = get_method(method).parents[1]
    return min(most or 3, 3) - (get_method(method).base == "start")


def has_base(method: str) -> bool:
    return get_method(method).base != "none"


def is_delta(method: str) -> bool:
    return get_method(method).operand == "delta"


def run(method: str, base: Tensors, parents: Sequence[Tensors], **rest: Any) -> dict[str, np.ndarray]:
    """Merge `parents` by `method`, on `base` where the method has one."""
    return merge_tensors(method, parents, base=base if has_base(method) else None, **rest)


def a_model(seed: int, dtype: str = "float32") -> dict[str, np.ndarray]:
    """Tensors of every kind: matrices, a vector, a kernel, a single number, none at all, statistics, counters."""
    shapes = {"a.weight": (13, 7), "a.bias": (13,), "conv.weight": (3, 2, 3, 3), "scale": (), "none": (0, 4)}
    floats = {
        name: stored_as(random_values(shape, 7 * seed + i), dtype) for i, (name, shape) in enumerate(shapes.items())
    }
    floats["bn.running_var"] = stored_as(np.abs(random_values((5,), 7 * seed + 6)), dtype)
    return {**floats, "bn.num_batches_tracked": np.array(seed), "ids": np.arange(4)}
