"""Slices: layers stacked from several models, numbered anew, with what stands before and after them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slice_models import WIDTH, folder, sliced, source, three_models_in
from zoo import random_values, read_model, recipe, write_adapter

import hubmerge
from hubmerge import build_plan, merge
from hubmerge.plan import pins_of
from hubmerge.verify import verify_merge


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    three_models_in(tmp_path)


def merged(raw: Mapping[str, Any]) -> dict[str, np.ndarray]:
    merge(raw, "out", jobs=1)
    return read_model(Path("out"))


def test_a_stack_has_the_layers_of_its_slices_under_new_numbers_and_the_ends_of_the_first_and_the_last() -> None:
    out = merged(sliced("passthrough", [source("a", 0, 3)], [source("b", 1, 3)]))
    a, b = folder("a"), folder("b")
    wanted = {name: a[name] for name in a if name.startswith(("model.layers.0.", "model.layers.1.", "model.layers.2."))}
    wanted |= {
        f"model.layers.{2 + i}.{rest}": b[f"model.layers.{i}.{rest}"]
        for i in (1, 2)
        for rest in ("mlp.up.weight", "norm.weight")
    }
    wanted |= {"model.embed_tokens.weight": a["model.embed_tokens.weight"]}
    wanted |= {name: b[name] for name in ("model.norm.weight", "lm_head.weight")}
    assert sorted(out) == sorted(wanted)
    for name, values in wanted.items():
        assert np.array_equal(out[name], values), name
    assert json.loads(Path("out/config.json").read_text())["num_hidden_layers"] == 5


def test_layers_of_a_stack_can_overlap_and_each_copy_is_written() -> None:
    out = merged(sliced("passthrough", [source("a", 0, 3)], [source("a", 1, 4)]))
    for new, old in enumerate((0, 1, 2, 1, 2, 3)):
        name = "mlp.up.weight"
        assert np.array_equal(out[f"model.layers.{new}.{name}"], folder("a")[f"model.layers.{old}.{name}"])
    assert build_plan(sliced("passthrough", [source("a", 0, 3)], [source("a", 1, 4)])).config["num_hidden_layers"] == 6


def test_the_sources_of_a_slice_may_take_other_layers_and_slices_have_other_sources() -> None:
    raw = sliced("linear", [source("a", 1, 3, weight=0.75), source("b", 0, 2, weight=0.25)], [source("c", 3, 4)])
    out = merged(raw)
    a, b, c = folder("a"), folder("b"), folder("c")
    for new in (0, 1):
        name = "mlp.up.weight"
        wanted = 0.75 * a[f"model.layers.{new + 1}.{name}"] + 0.25 * b[f"model.layers.{new}.{name}"]
        np.testing.assert_allclose(out[f"model.layers.{new}.{name}"], wanted, rtol=1e-6)
    assert np.array_equal(out["model.layers.2.norm.weight"], c["model.layers.3.norm.weight"])
    ends = 0.75 * a["model.embed_tokens.weight"] + 0.25 * b["model.embed_tokens.weight"]
    np.testing.assert_allclose(out["model.embed_tokens.weight"], ends, rtol=1e-6)
    assert np.array_equal(out["lm_head.weight"], c["lm_head.weight"])


def test_deltas_are_taken_from_the_bases_own_layers_and_a_slice_can_have_its_own_base() -> None:
    first = {"sources": [source("a", 0, 1), source("b", 2, 3, weight=0.5)], "base_model": "./a"}
    last = {"sources": [source("c", 1, 2), source("b", 0, 1, weight=2.0)]}
    raw = sliced("task_arithmetic", first, last, base_model="./c")
    out = merged(raw)
    a, b, c = folder("a"), folder("b"), folder("c")
    name = "model.layers.{}.mlp.up.weight"
    wanted = a[name.format(0)] + 0.5 * (b[name.format(2)] - a[name.format(0)])
    np.testing.assert_allclose(out[name.format(0)], wanted, rtol=1e-5)
    wanted = c[name.format(1)] + 2 * (b[name.format(0)] - c[name.format(1)])
    np.testing.assert_allclose(out[name.format(1)], wanted, rtol=1e-5)
    assert build_plan(raw).config_donor == list(map(str, hubmerge.load_recipe(raw).references)).index("./c")


@pytest.mark.parametrize(
    ("own", "of_slice", "of_module", "at_top", "value"),
    [(2, 3, 4, 5, 2), (None, 3, 4, 5, 3), (None, None, 4, 5, 4), (None, None, None, 5, 5), ([], 3, 4, 5, 3),
     ({"filter": "attn", "value": 2}, [{"filter": "up", "value": 3}], 4, 5, 3), (None, None, None, None, 1)],
)  # fmt: skip
def test_a_source_speaks_before_its_slice_the_slice_before_the_module_and_the_module_before_the_top(
    own: Any, of_slice: Any, of_module: Any, at_top: Any, value: float
) -> None:
    part = {"sources": [source("a", 0, 4, scale=own)], "parameters": {"scale": of_slice}}
    raw = {
        "merge_method": "passthrough",
        "modules": {"default": {"slices": [part], "parameters": {"scale": of_module}}},
        "parameters": {"scale": at_top},
    }
    (step,) = (s for s in build_plan(raw).steps if s.output.name == "model.layers.1.mlp.up.weight")
    assert step.values["scale"] == value


def test_gradients_begin_anew_in_every_slice_and_the_ends_take_the_ends() -> None:
    pair = [source("a", 0, 3), source("c", 1, 4)]
    raw = sliced("slerp", pair, [source("a", 3, 4), source("c", 0, 1)], base_model="./a", parameters={"t": [0, 0.5, 1]})
    t = {step.output.name: step.values["t"] for step in build_plan(raw).steps}
    assert [t[f"model.layers.{i}.mlp.up.weight"] for i in range(4)] == [0, 0.5, 1, 1]
    assert (t["model.embed_tokens.weight"], t["model.norm.weight"], t["lm_head.weight"]) == (0, 1, 1)


def test_filters_of_a_source_see_its_own_layer_numbers_and_filters_for_all_those_of_the_output() -> None:
    weights = [{"filter": "layers.2.", "value": 3}, {"value": 1}]
    raw = sliced("linear", [source("a", 0, 3, weight=weights), source("c", 1, 4, weight=weights)],
                 parameters={"normalize": [{"filter": "layers.2.", "value": False}, {"value": True}]})  # fmt: skip
    steps = {step.output.name: step.values for step in build_plan(raw).steps}
    assert [steps[f"model.layers.{i}.mlp.up.weight"]["weight"] for i in range(3)] == [(1, 1), (1, 3), (3, 1)]
    assert [steps[f"model.layers.{i}.mlp.up.weight"]["normalize"] for i in range(3)] == [True, True, False]


def test_an_adapter_on_a_source_changes_the_layers_it_was_trained_for() -> None:
    up, down = random_values((WIDTH, 2), 1), random_values((2, WIDTH), 2)
    module = "model.layers.2.mlp.up"
    write_adapter(Path("l"), {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up})  # scale 4 / 2
    rows = [
        {"sources": [{"model": "./a+./l", "layer_range": [2, 4]}]},
        {"sources": [{"model": "./a", "layer_range": [2, 3]}]},
    ]
    out = merged({"merge_method": "passthrough", "slices": rows})
    a = folder("a")
    np.testing.assert_allclose(out["model.layers.0.mlp.up.weight"], a[f"{module}.weight"] + 2 * up @ down, rtol=1e-5)
    assert np.array_equal(out["model.layers.1.mlp.up.weight"], a["model.layers.3.mlp.up.weight"])
    assert np.array_equal(out["model.layers.2.mlp.up.weight"], a[f"{module}.weight"])


def test_one_slice_of_all_layers_is_the_merge_of_the_models() -> None:
    own = [{"weight": 0.3}, {"weight": [0.2, 0.9]}]
    merge(recipe("linear", ["./a", "./c"], own=own), "whole", jobs=1)
    merge(sliced("linear", [source("a", 0, 4, **own[0]), source("c", 0, 4, **own[1])]), "slices", jobs=1)
    for name, values in folder("whole").items():
        assert np.array_equal(values, folder("slices")[name]), name


def test_a_sliced_merge_is_derived_again_and_the_plan_knows_its_layers_by_hash() -> None:
    raw = sliced("passthrough", [source("a", 0, 2)], [source("c", 2, 4)])
    manifest = merge(raw, "out", jobs=1)
    assert verify_merge("out", reload=False).level == "exact"
    assert pins_of(manifest) == {}
    hashes = {build_plan(sliced("passthrough", [source("a", *x)], [source("c", *y)])).hash
              for x, y in (((0, 2), (2, 4)), ((1, 3), (2, 4)), ((0, 2), (1, 3)))}  # fmt: skip
    assert len(hashes) == 3


def test_the_plan_says_which_layers_come_from_where_and_which_are_in_no_slice() -> None:
    plan = build_plan(sliced("linear", [source("a", 1, 3), source("c", 0, 2)], [source("b", 2, 3, weight=2)]))
    lines = str(plan).splitlines()
    start = lines.index("layers")
    assert lines[start + 1 : start + 5] == [
        "      0-1  1-2 of ./a, 0-1 of ./c",
        "        2  2 of ./b",
        "   before the layers: ./a, ./c",
        "   after them: ./b",
    ]
    assert plan.warnings == (
        "layers 0, 3 of ./a are in no slice",
        "layers 2-3 of ./c are in no slice",
        "layers 0-1 of ./b are in no slice",
    )
    assert plan.to_dict()["layers"] == [
        {
            "module": None,
            "layers": [0, 2],
            "sources": [{"parent": 0, "layers": [1, 3]}, {"parent": 1, "layers": [0, 2]}],
        },
        {"module": None, "layers": [2, 3], "sources": [{"parent": 2, "layers": [2, 3]}]},
    ]
    assert build_plan(recipe("linear", ["./a", "./c"])).to_dict()["layers"] == []


def test_the_plan_says_the_parameters_of_each_slice_and_of_a_source_that_has_others_elsewhere() -> None:
    first = {"sources": [source("a", 0, 2, scale=2)], "parameters": {"scale": [1, 2]}}
    plan = build_plan(sliced("passthrough", first, [source("a", 2, 4, scale=[0.5, 1])], [source("b", 0, 1, scale=3)]))
    lines = str(plan).splitlines()
    assert [line for line in lines if " of ./" in line and "slice" not in line] == [
        "      0-1  0-1 of ./a (scale 2); scale 1 to 2",
        "      2-3  2-3 of ./a (scale 0.5 to 1)",
        "        4  0 of ./b",
    ]
    assert "  ./b  (parent)  scale 3" in lines


ROWS = st.sampled_from([0.5, 1, 2, [1, 3], [2, 1, 4]])


@st.composite
def stacks(draw: st.DrawFn) -> list[list[tuple[str, int, int, Any]]]:
    """Slices of one to three layers from one or two of the models; (model, first, after, weight)."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        length = draw(st.integers(1, 3))
        names = draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=2, unique=True))
        firsts = [draw(st.integers(0, (3 if name == "b" else 4) - length)) for name in names]
        found.append([(name, first, first + length, draw(ROWS)) for name, first in zip(names, firsts, strict=True)])
    return found


def at(weight: Any, depth: float) -> float:
    """A gradient's value, by numpy."""
    values = weight if isinstance(weight, list) else [weight]
    return float(np.interp(depth, np.linspace(0, 1, len(values)), values)) if len(values) > 1 else float(values[0])


def average(sources: list[tuple[str, int, int, Any]], names: list[str], depth: float) -> np.ndarray:
    weights = [at(weight, depth) for *_, weight in sources]
    rows = [folder(source[0])[name].astype(np.float64) for source, name in zip(sources, names, strict=True)]
    return sum(w * row for w, row in zip(weights, rows, strict=True)) / sum(weights)  # type: ignore[return-value]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stacks())
def test_any_stack_is_what_a_slow_and_plain_reading_of_its_slices_gives(
    parts: list[list[tuple[str, int, int, Any]]],
) -> None:
    rows = [[source(name, first, after, weight=weight) for name, first, after, weight in part] for part in parts]
    with TemporaryDirectory() as place:
        merge(sliced("linear", *rows), Path(place) / "out", jobs=1)
        out = read_model(Path(place) / "out")
    wanted: dict[str, np.ndarray] = {}
    number = 0
    for part in parts:
        length = part[0][2] - part[0][1]
        for k in range(length):
            for rest in ("mlp.up.weight", "norm.weight"):
                names = [f"model.layers.{first + k}.{rest}" for _, first, _, _ in part]
                wanted[f"model.layers.{number}.{rest}"] = average(part, names, k / (length - 1) if length > 1 else 1.0)
            number += 1
    for name, part, depth in (("model.embed_tokens.weight", parts[0], 0.0), ("model.norm.weight", parts[-1], 1.0),
                              ("lm_head.weight", parts[-1], 1.0)):  # fmt: skip
        wanted[name] = average(part, [name] * len(part), depth)
    assert sorted(out) == sorted(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(out[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
