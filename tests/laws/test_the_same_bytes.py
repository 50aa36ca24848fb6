"""The same recipe gives the same bytes on any number of threads, in any chunks, in any files, beside any adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from registry import METHODS, OF_EACH_KIND, TELLING, a_model, has_base, parents_of, run
from zoo import bfloat16, numbers, random_values, read_model, recipe, write_adapter, write_model

from hubmerge import compute, execute, file_kernels, gram_kernels, merge, merge_pass, ranges
from hubmerge.io.workspace import CHUNK

DTYPES = ("float32", "float16", "bfloat16", "mixed")
CASES = [(method, dtype) for method in METHODS for dtype in DTYPES]
CASES += [(method, "mixed to bfloat16") for method in OF_EACH_KIND]
OTHERWISE = [case for case in CASES if case[1] not in {"float32", "bfloat16"}]
"""float32 without a pass from file to file is what models in memory are merged by (`test_state_dicts`)."""


def models(method: str, dtype: str) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Base and parents stored in `dtype`; "mixed": a base in float32, parents in bfloat16, float16, float32."""
    mixed = dtype.startswith("mixed")
    kinds = ("bfloat16", "float16", "float32") if mixed else (dtype,) * 3
    base = a_model(0, "float32" if mixed else dtype)
    return base, [a_model(i + 1, kinds[i]) for i in range(parents_of(method))]


def asked(method: str, dtype: str) -> dict[str, Any]:
    """Parameters, and the type that models of `dtype` are written in."""
    return {**TELLING.get(method, {}), "dtype": {"mixed": "float16", "mixed to bfloat16": "bfloat16"}.get(dtype)}


def raw(tensors: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {name: values.tobytes() for name, values in tensors.items()}


@pytest.mark.parametrize(("method", "dtype"), CASES)
def test_threads_chunks_and_files_change_no_byte(method: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base, parents = models(method, dtype)
    monkeypatch.setattr(gram_kernels, "GRAM_BLOCK", 32)
    rest = asked(method, dtype)
    expected = raw(run(method, base, parents, jobs=1, **rest))
    for jobs, chunk, pieces, shard_size in ((2, 32, 1, 400), (5, 96, 3, 1), (3, 160, 1, 10**9)):
        monkeypatch.setattr(ranges.spans, "__defaults__", (chunk,))
        monkeypatch.setattr(execute, "_PIECE", pieces * chunk)
        monkeypatch.setattr(compute, "AT_ONCE", chunk)
        monkeypatch.setattr(merge_pass, "_BLOCK", chunk // 3)
        assert raw(run(method, base, parents, jobs=jobs, output={"shard_size": shard_size}, **rest)) == expected


@pytest.mark.parametrize("method", METHODS)
def test_chunks_that_divide_nothing_change_no_byte_either(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base, parents = models(method, "bfloat16")
    expected = raw(run(method, base, parents, **TELLING.get(method, {})))
    for chunk in (1, 7, 13):
        monkeypatch.setattr(ranges.spans, "__defaults__", (chunk,))
        monkeypatch.setattr(execute, "_PIECE", chunk)
        monkeypatch.setattr(merge_pass, "_BLOCK", chunk)
        assert raw(run(method, base, parents, **TELLING.get(method, {}))) == expected


@pytest.mark.parametrize(("method", "dtype"), OTHERWISE)
def test_where_no_pass_goes_from_file_to_file_the_bytes_are_the_same(
    method: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, parents = models(method, dtype)
    rest = asked(method, dtype)
    expected = raw(run(method, base, parents, **rest))
    monkeypatch.setattr(file_kernels, "file_kernel", lambda *_: None)
    monkeypatch.setattr(gram_kernels, "gram_of_files_kernel", lambda *_: None)
    assert raw(run(method, base, parents, **rest)) == expected


@pytest.mark.parametrize("method", METHODS)
def test_tensors_of_many_chunks_are_the_same_on_any_number_of_threads(method: str) -> None:
    rows = [{"w": bfloat16(random_values((2 * CHUNK + 101,), seed, 0.5))} for seed in range(parents_of(method) + 1)]
    one, many = (run(method, rows[0], rows[1:], jobs=jobs, **TELLING.get(method, {})) for jobs in (1, 4))
    assert raw(one) == raw(many)


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_of_a_parent_changes_no_byte_with_threads_and_chunks(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_model(tmp_path / "base", {"w.weight": random_values((13, 7), 1)})
    factors = {"w.lora_A.weight": random_values((2, 7), 2), "w.lora_B.weight": random_values((13, 2), 3)}
    model = f"{base}+{write_adapter(tmp_path / 'lora', factors)}"
    start = base if has_base(method) else None
    others = [
        write_model(tmp_path / f"other{i}", {"w.weight": random_values((13, 7), 4 + i)})
        for i in range(parents_of(method) - 1)
    ]
    whole = recipe(method, [model, *others], base=start, dtype="float32", **TELLING.get(method, {}))
    monkeypatch.setattr(gram_kernels, "GRAM_BLOCK", 32)
    merge(whole, tmp_path / "one", jobs=1)
    monkeypatch.setattr(ranges.spans, "__defaults__", (32,))
    monkeypatch.setattr(execute, "_PIECE", 32)
    merge(whole, tmp_path / "many", jobs=3)
    assert raw(read_model(tmp_path / "one")) == raw(read_model(tmp_path / "many"))
    assert not np.array_equal(read_model(tmp_path / "one")["w.weight"], numbers(read_model(base)["w.weight"]))
