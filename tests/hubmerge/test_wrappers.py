"""Wrappers: coefficients that are found first, kept with an interrupted merge, recorded, and multiplied with the parents' weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import Field
from zoo import read_model, recipe, write_model

from hubmerge import MergedState, build_plan, merge, merge_state_dicts, verify_merge
from hubmerge import method as methods
from hubmerge.assemble import merge_plan
from hubmerge.errors import MergeError, RecipeError
from hubmerge.method_parameters import Parameters
from hubmerge.wrapper import Prepared, Preparing, Wrapper

BASE = {"layers.0.w": np.array([1, 1], np.float32), "head.w": np.array([0, 2], np.float32)}
FIRST = {"layers.0.w": np.array([3, 1], np.float32), "head.w": np.array([1, 2], np.float32)}
SECOND = {"layers.0.w": np.array([1, 5], np.float32), "head.w": np.array([0, 0], np.float32)}


class ToyParameters(Parameters):
    inner: Literal["task_arithmetic", "ties"] = "task_arithmetic"
    share: float = Field(0.5, description="of the first parent in the layers")


class Toy:
    """A wrapper that counts how often it is asked: `share` and its rest in the layers, (2, 0) elsewhere."""

    def __init__(self) -> None:
        self.asked = 0
        self.share: float | None = None

    def prepare(self, given: Preparing) -> Prepared:
        self.asked += 1
        share = given.values["share"] if self.share is None else self.share
        layer_of = {name: name.split(".")[0] for name in given.tensors}
        return Prepared({"layers": (share, 1 - share), "head": (2.0, 0.0)}, layer_of, {"asked of": given.parents})


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    methods.method_names()
    made = Toy()
    inners: dict[str, dict[str, Any]] = {"task_arithmetic": {}, "ties": {"normalize": False}}
    wrapper = Wrapper("toy", inners, ToyParameters, made.prepare, about="Weigh.", paper="none")
    monkeypatch.setitem(methods._REGISTRY, "toy", methods.with_inner(wrapper, "task_arithmetic"))
    return made


def asked(place: Path, **parameters: Any) -> dict[str, Any]:
    folders = [write_model(place / name, own) for name, own in (("a", FIRST), ("b", SECOND), ("base", BASE))]
    return recipe("toy", folders[:2], base=folders[2], **parameters)


def test_every_parents_weight_is_multiplied_by_its_coefficient_and_all_of_it_is_recorded(
    tmp_path: Path, toy: Toy
) -> None:
    manifest = merge({**asked(tmp_path, share=0.25), "seed": 3}, tmp_path / "out")
    merged = read_model(tmp_path / "out")
    assert merged["layers.0.w"].tolist() == [1 + 0.25 * 2, 1 + 0.75 * 4]
    assert merged["head.w"].tolist() == [2 * 1, 2]
    record = manifest.prepared
    assert record is not None
    assert (manifest.format_version, record.inner, manifest.method) == (6, "task_arithmetic", "toy")
    assert record.parents == (str(tmp_path / "a"), str(tmp_path / "b"))
    assert record.layers == {"layers": (0.25, 0.75), "head": (2.0, 0.0)}
    assert record.state == {"asked of": 2}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "hubmerge.json",
        "model.safetensors",
    ]
    assert [check.passed for check in verify_merge(tmp_path / "out", reload=False).checks] == [True, True]
    assert verify_merge(tmp_path / "out", reload=False).level == "exact"
    before = toy.asked
    again = merge_plan(build_plan({**asked(tmp_path, share=0.25), "seed": 3}), tmp_path / "out")
    assert (again.already_done, toy.asked) == (True, before + 1)  # written anew just now, the parents are derived again


def test_in_memory_a_merge_gives_the_same_bytes_and_its_coefficients(tmp_path: Path, toy: Toy) -> None:
    merge(asked(tmp_path, share=0.3, lambda_=2), tmp_path / "out")
    merged = merge_state_dicts("toy", [FIRST, SECOND], BASE, {"share": 0.3, "lambda": 2})
    assert isinstance(merged, MergedState)
    assert {name: values.tobytes() for name, values in merged.items()} == {
        name: values.tobytes() for name, values in read_model(tmp_path / "out").items()
    }
    assert merged.coefficients == {"layers.0.w": (0.3, 0.7), "head.w": (2.0, 0.0)}
    assert (merged.state, merged.masks, list(merged), len(merged)) == ({"asked of": 2}, {}, list(BASE), 2)


def test_an_interrupted_merge_goes_on_with_the_coefficients_that_it_found(tmp_path: Path, toy: Toy) -> None:
    plan = build_plan(asked(tmp_path))

    def interrupt(_: int) -> None:
        raise OSError("stopped")

    with pytest.raises(MergeError, match="stopped"):
        merge_plan(plan, tmp_path / "out", progress=interrupt)
    assert (tmp_path / "out.partial" / "prepared").is_dir()
    toy.share = 0.9  # what it would find now
    told: list[str] = []
    manifest = merge_plan(plan, tmp_path / "out", note=told.append).manifest
    assert (toy.asked, told[0]) == (1, "the coefficients were found before, and are used again")
    assert manifest.prepared is not None
    assert manifest.prepared.layers["layers"] == (0.5, 0.5)


def test_verify_tells_coefficients_that_are_not_found_again(tmp_path: Path, toy: Toy) -> None:
    merge(asked(tmp_path), tmp_path / "out")
    toy.share = 0.5005
    found = verify_merge(tmp_path / "out", reload=False)
    assert found.level == "tolerance"
    assert "those found again differ by at most 5.0e-04" in found.checks[1].detail
    toy.share = 0.6
    detail = verify_merge(tmp_path / "out", reload=False).checks[1].detail
    assert detail.startswith("coefficients differ by 1.0e-01 from those that are found again · ")


def test_coefficients_that_are_not_finite_are_refused_and_nothing_is_published(tmp_path: Path, toy: Toy) -> None:
    toy.share = float("nan")
    with pytest.raises(MergeError, match=r"toy found coefficients that are not finite: \[nan, nan\] · layers"):
        merge(asked(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("toy")
def test_what_a_wrapper_cannot_do_is_refused_by_the_recipe(tmp_path: Path) -> None:
    given = asked(tmp_path, share=[0.1, 0.2], inner="slerp")
    with pytest.raises(RecipeError) as caught:
        build_plan({**given, "align": "weights"})
    assert [str(fault).partition(": ")[2] or str(fault) for fault in caught.value.faults] == [
        "parameters.inner · the method by which toy merges what it weighs"
    ]
    del given["parameters"]["inner"]
    with pytest.raises(RecipeError) as caught:
        build_plan({**given, "align": "weights"})
    assert [fault.message for fault in caught.value.faults] == [
        "toy takes no align",
        "share is one value for the whole merge under toy, neither gradient nor filters",
    ]


def test_data_that_a_method_does_not_use_is_refused_by_name() -> None:
    for key in ("calibration", "statistics"):
        with pytest.raises(RecipeError, match=rf"^ties has no use for {key}= · {key} · leave it out$"):
            merge_state_dicts("ties", [FIRST, SECOND], BASE, **{key: {0: {}, 1: {}}})


def test_a_merged_state_is_a_mapping_that_a_model_can_load() -> None:
    import torch

    model = torch.nn.Linear(2, 1, bias=False)
    state = MergedState({"weight": torch.ones(1, 2)})
    model.load_state_dict(dict(state))
    assert model.weight.tolist() == [[1, 1]]
    assert json.dumps(dict(state.state)) == "{}"
