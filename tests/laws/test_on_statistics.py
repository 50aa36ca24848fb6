"""Methods that look at data first, run on statistics: around every inner method the laws of that method hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from registry import a_model
from zoo import bfloat16

from hubmerge import MergedState, merge_state_dicts
from hubmerge.errors import MergeError
from hubmerge.method import get_method, method_names

WRAPPERS = [
    (name, inner)
    for name in method_names()
    if (wrapper := get_method(name).wrapper) is not None and "statistics" in wrapper.takes
    for inner in wrapper.inners
]
PARENTS = [a_model(i + 1) for i in range(3)]
MERGED = ("a.weight", "a.bias", "conv.weight", "scale", "none")
TELLING = {"density": 0.4, "lambda": 0.7}

pytestmark = pytest.mark.filterwarnings("ignore:running statistics", "ignore:parameters.density is ignored")


def run(name: str, inner: str, statistics: Any, parents: Any = PARENTS, **rest: Any) -> MergedState:
    parameters = {"inner": inner, **TELLING, **rest.pop("parameters", {})}
    found = merge_state_dicts(name, parents, a_model(0), parameters, statistics=statistics, **rest)
    assert isinstance(found, MergedState)
    return found


def alike(parents: int = 3) -> dict[int, dict[str, float]]:
    return {place: dict.fromkeys(MERGED, 1.5) for place in range(parents)}


def unlike() -> dict[int, dict[str, float]]:
    return {place: {name: place + i + 0.5 for i, name in enumerate(MERGED)} for place in range(3)}


@pytest.mark.parametrize(("name", "inner"), WRAPPERS)
def test_parents_that_are_alike_in_all_that_is_measured_are_merged_by_the_inner_method(name: str, inner: str) -> None:
    method = get_method(name).wrapper
    assert method is not None
    plain = {**{key: value for key, value in TELLING.items() if key != "density" or inner != "task_arithmetic"}}
    expected = merge_state_dicts(inner, PARENTS, a_model(0), {**plain, **method.inners[inner]})
    for tensor, values in run(name, inner, alike()).items():
        assert values.tobytes() == expected[tensor].tobytes(), tensor


@pytest.mark.parametrize(("name", "inner"), WRAPPERS)
def test_threads_change_no_byte_and_half_precision_is_the_float32_result_rounded_once(name: str, inner: str) -> None:
    import torch

    one, many = (run(name, inner, unlike(), parameters={"temperature": 0.1}, jobs=jobs) for jobs in (1, 4))
    tensors = [{key: torch.from_numpy(np.array(v)) for key, v in parent.items()} for parent in (*PARENTS, a_model(0))]
    given = {"inner": inner, **TELLING, "temperature": 0.1}
    brief = merge_state_dicts(name, tensors[:3], tensors[3], given, statistics=unlike(), dtype="bfloat16")
    for tensor, values in one.items():
        assert values.tobytes() == many[tensor].tobytes(), tensor
        if values.dtype == np.float32:
            assert np.array_equal(brief[tensor].view(torch.uint16).numpy(), bfloat16(values)), tensor


@pytest.mark.parametrize(("name", "inner"), WRAPPERS)
def test_parents_that_equal_the_base_give_the_base(name: str, inner: str) -> None:
    base = a_model(0)
    for tensor, values in run(name, inner, unlike(), [base] * 3).items():
        if tensor in MERGED:
            assert np.array_equal(values, base[tensor]), tensor


@pytest.mark.parametrize(("name", "inner"), WRAPPERS)
def test_a_number_that_is_not_finite_is_named_with_its_parent(name: str, inner: str) -> None:
    broken = a_model(3)
    broken["a.weight"][2, 1] = np.nan
    with pytest.raises(MergeError, match=r"tensor 'a.weight' of parents\[2\] is not finite: entry 15 is nan"):
        run(name, inner, alike(), [*PARENTS[:2], broken])
