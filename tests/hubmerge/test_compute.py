"""One step of a plan: what is refused by name, and the measures of whole tensors that methods ask for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import bfloat16, merge_tensors, random_values, read_model, recipe, stored_as, write_model

from hubmerge import MergeError, PlanError, build_plan, measure, merge
from hubmerge.compute import compute, passes
from hubmerge.io.input_files import InputFiles
from hubmerge.io.reader import StepReader
from hubmerge.io.workspace import Workspace
from hubmerge.measure import TensorMeasure

METHODS = ("linear", "slerp", "task_arithmetic", "ties", "iso_c")


def two_models(tmp_path: Path, first: np.ndarray, second: np.ndarray) -> list[Path]:
    return [write_model(tmp_path / "a", {"w": first}), write_model(tmp_path / "b", {"w": second})]


def a_recipe(method: str, folders: list[Path], **rest: Any) -> dict[str, Any]:
    """Two models merged by `method`, the first the base where the method needs one."""
    if method == "linear":
        return recipe(method, folders, **rest)
    return recipe(method, folders[1:], base=folders[0], **({"t": 0.5} if method == "slerp" else {}), **rest)


# As many parents and the same switches as in tests/laws, so that nothing is compiled for these two alone.
SHARED: dict[str, dict[str, Any]] = {
    "slerp": {"t": 0.3},
    "ties": {"density": 0.4, "lambda": 0.7, "rescale": True},
    "dare_ties": {"density": 0.4, "rescale": "inverse"},
    "della": {"density": 0.4, "epsilon": 0.2},
    "breadcrumbs": {"density": 0.5, "gamma": 0.2},
    "sce": {"select_topk": 0.4},
}


def with_a_broken_parent(
    tmp_path: Path, method: str, wrong: float, dtype: str = "float32"
) -> tuple[Path, dict[str, Any]]:
    """The last parent, whose entry 7 is `wrong`, and a recipe that merges it with sound ones."""
    broken = random_values((4, 3), 1)
    broken[2, 1] = wrong
    sound = {"slerp": 1, "linear": 2}.get(method, 3)
    tensors = [*(random_values((4, 3), 2 + i) for i in range(sound)), broken]
    folders = [write_model(tmp_path / "abcd"[i], {"w": stored_as(values, dtype)}) for i, values in enumerate(tensors)]
    base, parents = (None, folders) if method == "linear" else (folders[0], folders[1:])
    return folders[-1], recipe(method, parents, base=base, **SHARED.get(method, {}))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_nan_is_refused_with_tensor_parent_and_entry(tmp_path: Path, method: str, dtype: str) -> None:
    broken, asked = with_a_broken_parent(tmp_path, method, np.nan, dtype)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(MergeError) as refused:
        merge(asked, tmp_path / "out")
    assert str(refused.value) == (
        f"tensor 'w' of {broken} is not finite: entry 7 is nan · {broken}/model.safetensors · "
        "this parent is damaged; nothing was left behind"
    )
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("method", ["dare_ties", "della", "breadcrumbs", "sce"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_parent_that_is_not_finite_is_named_by_methods_that_measure_first(
    tmp_path: Path, method: str, wrong: float
) -> None:
    _, asked = with_a_broken_parent(tmp_path, method, wrong)
    with pytest.raises(MergeError, match=rf"tensor 'w' of .*/d is not finite: entry 7 is {wrong}"):
        merge(asked, tmp_path / "out")


def test_an_infinity_in_the_base_is_refused_though_no_delta_is_kept(tmp_path: Path) -> None:
    folders = two_models(tmp_path, np.array([1, -np.inf, 0], "float32"), np.zeros(3, "float32"))
    with pytest.raises(MergeError, match=r"tensor 'w' of .*/a is not finite: entry 1 is -inf"):
        merge(recipe("ties", folders[1:], base=folders[0], density=0.3), tmp_path / "out")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_nan_is_refused_in_a_model_that_is_only_copied(tmp_path: Path, dtype: str) -> None:
    values = stored_as(np.array([1, 2, np.nan]), dtype)
    folder = write_model(tmp_path / "a", {"w": values})
    with pytest.raises(MergeError, match=r"tensor 'w' of .*/a is not finite: entry 2 is nan"):
        merge(recipe("passthrough", [folder]), tmp_path / "out")


@pytest.mark.parametrize("method", ["linear", "iso_c"])
def test_a_sum_beyond_float32_is_said_to_overflow(tmp_path: Path, method: str) -> None:
    folders = two_models(tmp_path, np.full((2, 2), -3e38, "float32"), np.full((2, 2), 3e38, "float32"))
    given_ = {"own": [{"weight": -1}, {"weight": 1}], "normalize": False} if method == "linear" else {}
    with pytest.raises(MergeError) as refused:
        merge(a_recipe(method, folders, **given_), tmp_path / "out")
    assert str(refused.value) == (
        "tensor 'w' overflows when it is merged, though every parent is finite · w · "
        "the coefficients are too large; `hubmerge plan` shows them; nothing was left behind"
    )


@pytest.mark.parametrize(
    ("dtype", "value", "hint"),
    [("float16", 65520.0, "choose dtype: bfloat16 or float32"), ("bfloat16", 3.4e38, "choose dtype: float32")],
)
@pytest.mark.parametrize("method", ["linear", "iso_c"])
def test_a_number_beyond_the_type_it_is_written_in_is_refused(
    tmp_path: Path, method: str, dtype: str, value: float, hint: str
) -> None:
    values = np.array([1, 2, value, 3], "float32")
    base = np.zeros(4, "float32")
    folders = two_models(tmp_path, values if method == "linear" else base, values)
    with pytest.raises(MergeError) as refused:
        merge(a_recipe(method, folders[: 1 + (method == "iso_c")], dtype=dtype), tmp_path / "out")
    assert (
        str(refused.value) == f"entry 2 of tensor 'w' does not fit into {dtype} · w · {hint}; nothing was left behind"
    )


@pytest.mark.parametrize(("dtype", "largest"), [("float16", 65504.0), ("bfloat16", 3.3895314e38)])
def test_the_largest_number_of_a_type_is_written(dtype: str, largest: float) -> None:
    values = np.array([largest, -largest], "float32")
    assert np.array_equal(merge_tensors("linear", [{"w": values}], dtype=dtype)["w"], stored_as(values, dtype))


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8", "bool", "complex64"])
def test_equal_buffers_are_copied(kind: str) -> None:
    buffer = np.arange(5).astype(kind)
    rows = [{"ids": buffer, "w": np.full(2, value, "float32")} for value in (0, 2)]
    merged = merge_tensors("linear", rows)
    assert merged["ids"].tobytes() == buffer.tobytes()
    assert merged["w"].tolist() == [1, 1]


def test_buffers_that_differ_are_refused_by_name(tmp_path: Path) -> None:
    for name, last in (("a", 4), ("b", 5)):
        tensors = {"position_ids": np.array([0, 1, last], "int64"), "w": np.ones(2, "float32")}
        write_model(tmp_path / name, tensors)
    with pytest.raises(MergeError) as refused:
        merge(recipe("linear", [tmp_path / "a", tmp_path / "b"]), tmp_path / "out")
    assert str(refused.value) == (
        f"tensor 'position_ids' holds I64 numbers that differ between {tmp_path}/a and {tmp_path}/b · position_ids · "
        "such tensors cannot be averaged; make them equal, or leave one of the models out; nothing was left behind"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("method", METHODS)
def test_a_counter_takes_the_largest_count(method: str) -> None:
    rows = [{"bn.num_batches_tracked": np.array(count, "int64"), "w": np.ones(2, "float32")} for count in (7, 12)]
    if method == "linear":
        merged = merge_tensors(method, rows)
    else:
        merged = merge_tensors(method, rows[:1], base=rows[1], **({"t": 0.5} if method == "slerp" else {}))
    assert merged["bn.num_batches_tracked"] == 12


@pytest.mark.parametrize(
    ("method", "passes_made"), [("linear", 1), ("slerp", 2), ("task_arithmetic", 1), ("ties", 3), ("iso_c", 1)]
)
def test_a_plan_counts_how_often_a_tensor_is_read(tmp_path: Path, method: str, passes_made: int) -> None:
    folders = two_models(tmp_path, np.ones((2, 2), "float32"), np.ones((2, 2), "float32"))
    plan = build_plan(a_recipe(method, folders, **({"density": 0.5} if method == "ties" else {})))
    assert passes(plan.steps[0], plan.method) == passes_made
    assert plan.bytes_read == passes_made * 2 * 16


def reader_of(tmp_path: Path, base: np.ndarray, *parents: np.ndarray) -> tuple[StepReader, InputFiles]:
    folders = [write_model(tmp_path / f"p{i}", {"w": values}) for i, values in enumerate(parents)]
    plan = build_plan(recipe("ties", folders, base=write_model(tmp_path / "base", {"w": base}), density=0.5))
    files = InputFiles(plan.parents)
    return StepReader(plan.steps[0], files, Workspace()), files


@given(
    st.lists(st.floats(-4, 4, width=16), min_size=1, max_size=40),
    st.floats(0.01, 1),
    st.sampled_from(["float32", "bfloat16"]),
)
@settings(max_examples=60, deadline=None)
def test_a_threshold_is_the_exact_kth_largest_magnitude(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], density: float, dtype: str
) -> None:
    stored = stored_as(np.array(values, np.float32), dtype)
    reader, files = reader_of(tmp_path_factory.mktemp("models"), np.zeros_like(stored), stored, stored)
    with files:
        k = max(1, int(density * len(values)))
        found = TensorMeasure(reader).ranked([[k, 0], [len(values), 1, len(values) + 1]])
    magnitudes = np.sort(np.abs(np.array(merge_free(stored))))
    assert found[0].tolist() == [magnitudes[-k], math.inf]
    assert found[1].tolist() == [magnitudes[0], magnitudes[-1], 0]


def merge_free(stored: np.ndarray) -> np.ndarray:
    """The numbers behind stored entries."""
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32) if stored.dtype == np.uint16 else stored


@pytest.mark.parametrize("chunk", [16 * 3, 16 * 5, 1 << 18])
def test_measures_do_not_depend_on_the_size_of_a_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    base, first, second = (random_values((31, 29), seed) for seed in range(3))
    reader, files = reader_of(tmp_path, base, first, second)
    monkeypatch.setattr(measure, "spans", lambda low, high, size=chunk: _spans(low, high, size))
    with files:
        ranks = [[int(0.3 * base.size)], [int(0.01 * base.size)]]
        thresholds = tuple(found[0] for found in TensorMeasure(reader).ranked(ranks))
        gram = TensorMeasure(reader).gram()
    deltas = [np.sort(np.abs(parent - base).ravel()) for parent in (first, second)]
    assert thresholds == (deltas[0][-int(0.3 * base.size)], deltas[1][-int(0.01 * base.size)])
    rows = np.array([(parent - base).astype(np.float64).ravel() for parent in (first, second)])
    np.testing.assert_allclose(gram, rows @ rows.T, rtol=1e-13)


def _spans(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    return [(low, min(low + size, stop)) for low in range(start, stop, size)]


@pytest.mark.parametrize("method", METHODS)
def test_a_step_without_entries_gives_none(tmp_path: Path, method: str) -> None:
    folders = two_models(tmp_path, np.zeros((0, 3), "float32"), np.zeros((0, 3), "float32"))
    plan = build_plan(a_recipe(method, folders))
    given_: list[int] = []
    with InputFiles(plan.parents) as files:
        compute(plan.steps[0], plan.method, files, Workspace(), lambda _, entries: given_.append(entries.size))
    assert sum(given_) == 0


def test_any_range_of_a_step_can_be_computed_alone(tmp_path: Path) -> None:
    folders = two_models(tmp_path, random_values((50,), 1), random_values((50,), 2))
    plan = build_plan(a_recipe("ties", folders, density=0.4))
    parts: dict[int, np.ndarray] = {}
    with InputFiles(plan.parents) as files:
        for start, stop in ((0, 7), (7, 8), (8, 50)):
            compute(
                plan.steps[0],
                plan.method,
                files,
                Workspace(),
                lambda first, entries: parts.__setitem__(first, entries.copy()),
                start,
                stop,
            )
    merge(a_recipe("ties", folders, density=0.4), tmp_path / "out")
    assert np.array_equal(np.concatenate([parts[0], parts[7], parts[8]]), read_model(tmp_path / "out")["w"])


def test_a_matrix_method_keeps_to_one_thread_and_gives_the_others_back(tmp_path: Path) -> None:
    import torch

    folders = two_models(tmp_path, random_values((5, 4), 1), random_values((5, 4), 2))
    plan = build_plan(a_recipe("iso_c", folders))
    before, inside = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        with InputFiles(plan.parents) as files:
            step = plan.steps[0]
            compute(step, plan.method, files, Workspace(), lambda *_: inside.append(torch.get_num_threads()))
        assert (inside, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_running_statistics_are_averaged_under_every_method_and_never_negative() -> None:
    names = ("running_mean", "running_var", "weight")
    base = {f"bn.{name}": np.array([1.0, 4.0], "float32") for name in names}
    low = {f"bn.{name}": np.array([0.5, 0.25], "float32") for name in names}
    # as deltas, two parents of a quarter would take the variance to 4 - 3.75 - 3.75 < 0
    for method in ("task_arithmetic", "ties", "iso_c"):
        merged = merge_tensors(method, [low, low], base=base)
        for name in ("running_mean", "running_var"):
            assert merged[f"bn.{name}"].tolist() == [0.5, 0.25], method
    summed = merge_tensors("task_arithmetic", [low, low], base=base)["bn.weight"]
    assert math.isclose(summed[1], 4 - 3.75 * 2)


def test_running_statistics_take_the_normalised_weights() -> None:
    rows = [{"bn.running_var": np.array([v], "float32"), "w": np.ones(1, "float32")} for v in (2, 6)]
    own = [{"weight": 3}, {"weight": 1}]
    # three quarters of 2 and a quarter of 6, also where weights are not normalised
    for rest in ({"normalize": True}, {"normalize": False}):
        assert merge_tensors("linear", rows, own=own, **rest)["bn.running_var"].tolist() == [3]
    # the base has no share in what its successors measured
    assert merge_tensors("task_arithmetic", rows, base=rows[1], own=own)["bn.running_var"].tolist() == [3]


def test_running_statistics_are_averaged_equally_where_weights_are_no_average() -> None:
    rows = [{"bn.running_var": np.array([v], "float32"), "w": np.ones(1, "float32")} for v in (2, 6)]
    own = [{"weight": 3}, {"weight": -1}]
    assert merge_tensors("linear", rows, own=own)["bn.running_var"].tolist() == [4]


def test_running_statistics_under_slerp_stay_between_the_two_models() -> None:
    rows = [{"bn.running_var": np.array([v], "float32"), "w": np.ones(1, "float32")} for v in (2, 6)]
    for t, expected in ((0.25, 3), (2.0, 6), (-1.0, 2)):
        assert merge_tensors("slerp", rows[1:], base=rows[0], t=t)["bn.running_var"].tolist() == [expected]


def test_bfloat16_running_statistics_are_averaged_in_float32() -> None:
    rows = [{"bn.running_mean": bfloat16([v]), "w": bfloat16([1.0])} for v in (1.0, 1.0078125, 1.0078125)]
    # the mean 1.005208 rounds to 1.0078125, the nearest of the 1/128 steps
    assert merge_tensors("linear", rows)["bn.running_mean"].tobytes() == bfloat16([1.0078125]).tobytes()


def test_a_model_without_tensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as refused:
        build_plan(recipe("linear", [write_model(tmp_path / "a", {})]))
    assert str(refused.value) == f"the model has no tensors · {tmp_path}/a · fetch or save it again"
