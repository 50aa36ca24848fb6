"""Tensors in memory are merged to the same bytes as the same tensors on disk, by every method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from registry import METHODS, TELLING, a_model, has_base, parents_of, run
from zoo import Tensors

from hubmerge import merge_state_dicts


def in_torch(tensors: Tensors) -> dict[str, torch.Tensor]:
    """The arrays as torch tensors; uint16 stands for bfloat16."""
    rows = {name: (values.dtype == np.uint16, torch.from_numpy(np.array(values))) for name, values in tensors.items()}
    return {name: values.view(torch.bfloat16) if brief else values for name, (brief, values) in rows.items()}


def as_arrays(tensors: Any) -> dict[str, np.ndarray]:
    """Tensors of either kind as arrays of what is stored."""
    return {
        name: values.view(torch.uint16).numpy()
        if isinstance(values, torch.Tensor) and values.dtype == torch.bfloat16
        else np.asarray(values)
        for name, values in tensors.items()
    }


# Every method in float32, where both kinds run the kernels that were compiled once; bfloat16 where a rule's kind differs.
CASES = [(method, "float32") for method in METHODS]
CASES += [(method, "bfloat16") for method in ("linear", "ties", "slerp", "iso_c", "dare_ties") if method in METHODS]


@pytest.mark.parametrize(("method", "dtype"), CASES)
@pytest.mark.filterwarnings("ignore:running statistics")
def test_tensors_in_memory_merge_to_the_bytes_of_a_merge_on_disk(method: str, dtype: str) -> None:
    base, parents = a_model(0, dtype), [a_model(i + 1, dtype) for i in range(parents_of(method))]
    expected = run(method, base, parents, **TELLING.get(method, {}))
    parameters = {name.rstrip("_"): value for name, value in TELLING.get(method, {}).items()}
    kinds: list[tuple[type, Any]] = [(torch.Tensor, in_torch)]
    kinds += [(np.ndarray, dict)] if dtype == "float32" else []  # numpy has no bfloat16
    for kind, bring in kinds:
        start = bring(base) if has_base(method) else None
        merged = merge_state_dicts(method, [bring(parent) for parent in parents], base=start, parameters=parameters)
        assert list(merged) == list(base)
        assert {type(values) for values in merged.values()} == {kind}
        for name, values in as_arrays(merged).items():
            assert values.shape == expected[name].shape, name
            assert values.tobytes() == expected[name].tobytes(), name
