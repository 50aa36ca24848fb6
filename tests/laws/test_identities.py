"""What must come out whatever the numbers: parents in another order, parents that are alike, a parent that learned nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import METHODS, NEEDED, TELLING, a_model, has_base, is_delta, parents_of, run
from zoo import merge_entries, numbers

KNOWN = {
    "linear": ("weight",),
    "task_arithmetic": ("weight",),
    "ties": ("weight", "density"),
    "breadcrumbs": ("weight", "density"),
    "breadcrumbs_ties": ("weight", "density"),
    "dare_linear": ("weight",),
    "dare_ties": ("weight",),
    "della": ("weight",),
    "della_linear": ("weight",),
    "iso_c": (),
    "nuslerp": ("weight",),
    "model_stock": (),
    "ram": (),
    "ramplus_tl": (),
}
"""Methods to which the order of the parents means nothing, and the parameters of a parent that go along with it.

Random ones drop other entries of a parent in another place: the order means nothing as long as they drop none.
"""

NEARLY = {"awd": ("weight",), "multislerp": ("weight",), "karcher": (), "sce": (), "iso_cts": (), "tsv_m": ()}
"""Methods that add parents with coefficients of many digits: another order changes the last ones of a sum."""

# Multiples of 1/8 below 16 and of 1/4 below 8: their products and sums are exact in float32, so that another order
# changes no bit.
ENTRIES = st.lists(st.integers(-127, 127).map(lambda n: n / 8), min_size=6, max_size=6)
WEIGHTS = st.integers(1, 31).map(lambda n: n / 4)


def test_every_method_of_several_parents_is_symmetric_or_has_a_first_parent() -> None:
    assert {name for name in METHODS if parents_of(name) > 1} == set(KNOWN | NEARLY)


@pytest.mark.parametrize("method", [*KNOWN, *NEARLY])
@given(st.data())
@settings(max_examples=15, deadline=None)
def test_parents_in_another_order_with_their_parameters_give_the_same_bytes(method: str, data: Any) -> None:
    base = data.draw(ENTRIES)
    densities = st.sampled_from([0.3, 0.6, 1.0])
    parents = [(data.draw(ENTRIES), data.draw(WEIGHTS), data.draw(densities)) for _ in range(parents_of(method))]
    known = (KNOWN | NEARLY)[method]

    def merged(rows: list[tuple[list[float], float, float]]) -> np.ndarray:
        own = [{name: {"weight": w, "density": d}[name] for name in known} for _, w, d in rows]
        shaped = [np.reshape(values, (2, 3)) for values, _, _ in rows]
        few = {"iterations": 5} if method == "awd" else {}  # 300 steps among short vectors make rounding large
        return merge_entries(
            method, shaped, base=np.reshape(base, (2, 3)) if has_base(method) else None, own=own, **few
        )

    one, other = merged(parents), merged(data.draw(st.permutations(parents)))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(one).max() if method in NEARLY else 0)


@given(ENTRIES, ENTRIES, st.sampled_from([0.0, 0.25, 0.5, 0.875, 1.0, 1.5]))
@settings(max_examples=25, deadline=None)
def test_slerp_from_the_other_end_is_the_same_arc(start: list[float], end: list[float], t: float) -> None:
    there, back = merge_entries("slerp", [end], base=start, t=t), merge_entries("slerp", [start], base=end, t=1 - t)
    assert np.array_equal(there, back)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("method", ["linear", "slerp", "passthrough", "ties"])
def test_identical_half_precision_parents_give_the_parent_back(method: str, dtype: str) -> None:
    # float32 arithmetic is off by a few of its own last bits, far less than half a step of these types
    parent = a_model(1, dtype)
    base = parent if method == "slerp" else a_model(2, dtype)
    merged = run(method, base, [parent] * parents_of(method), **NEEDED.get(method, {}))
    for name, values in parent.items():
        if not (method == "ties" and name == "bn.num_batches_tracked"):  # the base has counted more
            assert np.array_equal(numbers(merged[name]), numbers(values)), name


@pytest.mark.parametrize("own", [[0.3, 0.3, 0.4], [1, 1, 1], [5, -1, 2]])
def test_identical_float32_parents_give_the_parent_back_but_for_the_last_bits(own: list[float]) -> None:
    parent = a_model(1)
    merged = run("linear", {}, [parent] * 3, own=[{"weight": weight} for weight in own])
    for name, values in parent.items():
        np.testing.assert_allclose(merged[name], values, rtol=4 * 2**-23, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("method", [name for name in METHODS if has_base(name)])
def test_parents_that_equal_the_base_give_the_base(method: str, dtype: str) -> None:
    base = a_model(1, dtype)
    # number and parameters are those of other laws, so that nothing is compiled for this one
    parameters = NEEDED if dtype == "float32" else TELLING
    merged = run(method, base, [base] * parents_of(method), **parameters.get(method, {}))
    for name, values in base.items():
        # a delta of 0 leaves the base bit for bit; running statistics are averaged by every method
        if dtype != "float32" or (is_delta(method) and name != "bn.running_var"):
            assert np.array_equal(numbers(merged[name]), numbers(values)), name
        else:
            np.testing.assert_allclose(merged[name], values, rtol=2 * 2**-23, err_msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_every_tensor_of_the_parents_comes_out_once_with_its_shape(method: str) -> None:
    base = a_model(1)
    merged = run(method, base, [a_model(2 + i) for i in range(parents_of(method))], **NEEDED.get(method, {}))
    assert {name: values.shape for name, values in merged.items()} == {name: v.shape for name, v in base.items()}
