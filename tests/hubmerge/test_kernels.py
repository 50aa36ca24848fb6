"""The compiled passes: bit for bit what their rules say in plain Python, rounding included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import bfloat16, random_values

from hubmerge import gram_kernels, kernels
from hubmerge.jit import compiled
from hubmerge.method import MergeMethod, get_method, method_names
from hubmerge.ops.bits import EXPONENT, exponent, load, store

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "linear": ((0.3, 1.7, -0.4), True),
    "slerp": ((0.3, 0.8),),
    "task_arithmetic": ((0.3, 1.7, -0.4), 0.7, True),
    "ties": ((0.3, 1.7, 0.9), (0.3, 1.7, 0.9), (1.0, 1.0, 1.0), 0.7, True, 1.0),
    "breadcrumbs": ((0.3, 1.7, -0.4), 0.7, False),
    "breadcrumbs_ties": ((0.3, 1.7, 0.9), (1.0, 1.0, 1.0), (0.3, 1.7, 0.9), 0.7, True, -1.0),
    "sce": (0.001, (0.3, 0.5, 0.2), (1.0, 1.0, 1.0)),
    "passthrough": (1.1,),
    "nuslerp": ((0.3, 0.8),),
    "multislerp": ((0.3, 0.8, -0.1),),
    "karcher": ((0.3, 0.8, -0.1),),
    "model_stock": ((0.3,),),
    "nearswap": (0.05,),
    "ram": (0.05,),
    "ramplus_tl": ((1.1, 1.2, 1.3), 0.05),
    "arcee_fusion": ((0.3,), 0.02),
    "awd": (
        (0.2, 0.1, -0.3), (1.0, 1.0, 0.0), (0.02, 0.05, 0.03), (0.3, 1.7, 0.9), (0.3, 1.7, 0.9), (1.0, 1.0, 1.0),
        0.7, True, 1.0, True,
    ),
}  # fmt: skip
"""For every entrywise method with a rule of its own: the arguments of the rule after the entries."""
PARENTS = {"slerp": 2, "passthrough": 1, "nuslerp": 2, "nearswap": 2, "arcee_fusion": 2}
STATES: dict[str, tuple[float, ...]] = {"magnitude": (0.05, 1.1), "breadcrumbs": (0.05, 0.15, 1.1)}
"""For every stage of one entry at a time that draws no random numbers: what it knows of each parent."""


def is_entrywise(method: MergeMethod) -> bool:
    if method.wrapper is not None:  # what merges is the rule of the method inside
        return False
    return method.kind == "entrywise" and (method.before is None or method.before.name in STATES)


ENTRYWISE = [name for name in method_names() if is_entrywise(get_method(name))]


def as_float32(value: Any) -> Any:
    """What the engine hands to a rule: every float a float32, every flag as it is."""
    if isinstance(value, tuple):
        return tuple(as_float32(item) for item in value)
    return np.float32(value) if isinstance(value, float) else value


def run_kernel(method: MergeMethod, base: Any, parents: Any, arguments: Any, out: Any, known: Any = ()) -> int:
    run = kernels.merge_kernel(method.rule, method.operand, method.before.rule if method.before else None)
    entry = (np.float32(0),) * len(parents)
    state = (as_float32(tuple(known)),) * len(parents)
    return int(run(base, parents, entry, state, arguments, out, 0))


def run_plain(method: MergeMethod, base: Any, parents: Any, arguments: Any, known: Any) -> np.ndarray:
    """The kernel's contract in plain Python over numpy's float32 numbers."""
    merged = []
    for i in range(base.size):
        entries = [parent[i] for parent in parents]
        if method.operand == "delta":
            entries = [entry - base[i] for entry in entries]
            if method.before is not None:
                entries = [method.before.rule(entry, i, as_float32(tuple(known))) for entry in entries]
        value = np.float32(method.rule(tuple(entries), *arguments))
        merged.append(base[i] + value if method.operand == "delta" else value)
    return np.array(merged, np.float32)


def known_of(method: MergeMethod) -> tuple[float, ...]:
    return STATES[method.before.name] if method.before is not None else ()


def test_every_entrywise_method_has_arguments_here() -> None:
    assert set(ENTRYWISE) == set(ARGUMENTS)


@pytest.mark.parametrize("name", ENTRYWISE)
def test_a_compiled_rule_gives_the_bits_of_the_plain_python_rule(name: str) -> None:
    # thousands of products and sums: one fused multiply-add, or one step in float64, would change some last bit
    method, count = get_method(name), PARENTS.get(name, 3)
    base = random_values((3000,), 99)
    parents = tuple((base + random_values((3000,), seed, 0.1)).astype(np.float32) for seed in range(count))
    arguments, known = as_float32(ARGUMENTS[name]), known_of(method)
    out = np.empty(base.size, np.uint32)
    bits = tuple(parent.view(np.uint32) for parent in parents)
    assert run_kernel(method, base.view(np.uint32), bits, arguments, out, known) < kernels.NOT_FINITE
    expected = run_plain(method, base, parents, arguments, known)
    assert np.array_equal(out, expected.view(np.uint32))


@pytest.mark.parametrize("name", ["linear", "ties"])  # every method's is rounded in tests/laws/test_rounding.py
def test_a_bfloat16_output_is_the_float32_output_rounded_once(name: str) -> None:
    method, count = get_method(name), PARENTS.get(name, 3)
    base = bfloat16(random_values((5000,), 99))
    parents = tuple(bfloat16(random_values((5000,), seed)) for seed in range(count))
    arguments, known = as_float32(ARGUMENTS[name]), known_of(method)
    wide, narrow = np.empty(base.size, np.uint32), np.empty(base.size, np.uint16)
    run_kernel(method, base, parents, arguments, wide, known)
    run_kernel(method, base, parents, arguments, narrow, known)
    assert np.array_equal(narrow, bfloat16(wide.view(np.float32)))


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_parents_keep_their_order_up_to_eight(count: int) -> None:
    # parent p is a field of 2^p and has weight 4^p: every parent met its own weight
    parents = tuple(np.full(33, 2.0**p, np.float32).view(np.uint32) for p in range(count))
    weight = tuple(np.float32(4.0**p) for p in range(count))
    out = np.empty(33, np.uint32)
    run_kernel(get_method("linear"), parents[0], parents, (weight, False), out)
    assert set(out.view(np.float32).tolist()) == {sum(8.0**p for p in range(count))}


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["base", "parent"])
def test_a_number_that_is_not_finite_is_reported_even_where_the_rule_drops_it(wrong: float, place: str) -> None:
    base, parent = np.zeros(100, np.float32), np.ones(100, np.float32)
    (base if place == "base" else parent)[63] = wrong
    out = np.empty(100, np.uint32)
    parents = (np.zeros(100, np.float32).view(np.uint32), parent.view(np.uint32))
    ones = as_float32((1.0, 1.0))
    arguments = (as_float32((1.0, 0.0)), ones, ones, np.float32(0), True, np.float32(1))
    worst = run_kernel(get_method("ties"), base.view(np.uint32), parents, arguments, out, (9.0, 1.0))
    assert worst == kernels.NOT_FINITE


def test_an_overflow_in_the_merge_is_reported() -> None:
    parents = (np.full(3, 3e38, np.float32).view(np.uint32),) * 2
    arguments = (as_float32((1.0, 1.0)), False)
    out = np.empty(3, np.uint32)
    assert run_kernel(get_method("linear"), parents[0], parents, arguments, out) == kernels.NOT_FINITE


def neighbourhood() -> np.ndarray:
    """Every bfloat16 number and its float32 neighbours around zero, half and a whole step; finite ones only."""
    upper = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    bits = (upper[:, None] | lower[None, :]).ravel()
    return bits[(bits & EXPONENT) != EXPONENT]


def test_storing_bfloat16_rounds_as_torch_does_around_every_bfloat16_number() -> None:
    import torch

    bits = neighbourhood()
    out = np.empty(bits.size, np.uint16)

    @compiled
    def write(values: Any, out: Any) -> None:
        for i in range(values.size):
            store(out, i, load(values[i]))

    write(bits, out)
    expected = torch.from_numpy(bits.view(np.float32)).to(torch.bfloat16).view(torch.uint16).numpy()
    assert bits.size > 390_000
    assert np.array_equal(out, expected)


def test_loading_gives_the_number_behind_every_bfloat16_pattern() -> None:
    patterns = np.arange(1 << 16, dtype=np.uint16)
    out = np.empty(patterns.size, np.uint32)

    @compiled
    def read(values: Any, out: Any) -> None:
        for i in range(values.size):
            out[i] = np.float32(load(values[i])).view(np.uint32)

    read(patterns, out)
    numbers = np.isfinite(out.view(np.float32))
    assert np.array_equal(out >> np.uint32(16), patterns)
    assert np.array_equal(numbers, (patterns & 0x7F80) != 0x7F80)


@given(st.floats(width=32))
@settings(max_examples=200, deadline=None)
def test_the_exponent_tells_what_is_not_finite(value: float) -> None:
    assert (_exponent(np.float32(value)) == kernels.NOT_FINITE) == (not np.isfinite(value))


@compiled
def _exponent(value: Any) -> Any:
    return exponent(value)


@pytest.mark.parametrize("operand", ["weight", "delta"])
@pytest.mark.parametrize("size", [1, 255, 256, 257, 1000])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_the_gram_kernel_gives_the_inner_products_in_float64(operand: str, size: int, count: int) -> None:
    base = random_values((size,), 99)
    parents = [random_values((size,), seed) for seed in range(count)]
    gram = np.zeros((count, count))
    gram_kernels.gram_kernel(operand)(base.view(np.uint32), tuple(p.view(np.uint32) for p in parents), gram)
    rows = np.array([(p - base if operand == "delta" else p).astype(np.float64) for p in parents])
    np.testing.assert_allclose(gram, rows @ rows.T, rtol=1e-13, atol=1e-13)


@given(st.integers(0, 23), st.integers(1, 24))
@settings(max_examples=60, deadline=None)
def test_a_low_rank_term_gives_the_same_bits_wherever_a_chunk_begins(start: int, size: int) -> None:
    rows, columns, rank = 4, 6, 3
    left, right = random_values((rows, rank), 1), random_values((rank, columns), 2)
    whole, part = random_values((rows * columns,), 3), random_values((rows * columns,), 3)
    scratch = np.empty(columns, np.float32)
    stop = min(start + size, rows * columns)
    kernels.add_low_rank()(whole, 0, left, right, np.float32(0.5), scratch)
    kernels.add_low_rank()(part[start:stop], start, left, right, np.float32(0.5), scratch)
    assert np.array_equal(part[start:stop], whole[start:stop])
    expected = random_values((rows * columns,), 3) + 0.5 * (left.astype(np.float64) @ right).ravel()
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-6)
