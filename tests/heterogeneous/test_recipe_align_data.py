"""A recipe's `align: activations` before a method on tensors: permuted copies, units without a partner, BatchNorm's statistics."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from apart_models import reordered
from pleas_models import bert, images, resnet
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification
from zoo import contents

import hubmerge
from hubmerge import PlanError, build_plan, verify_merge
from hubmerge.alignment.matching import Order
from hubmerge.alignment.words import how_aligned
from hubmerge.assemble import merge_plan
from hubmerge.symmetry.elements import Monomial
from hubmerge.symmetry.groups import Factor, Group, Kind, Role, SymmetrySpec, TensorSymmetry

LABELS = ("a", "b", "c")
DATA = {"data": "./images.npz", "samples": 8}
BY_DATA = {"align": "activations", "calibration": DATA}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a and b, random ResNets; moved, b with its channels in other orders; eight pictures."""
    place = tmp_path_factory.mktemp("models")
    resnet(place / "a", 0, LABELS)
    resnet(place / "b", 1, LABELS)
    reordered(AutoModelForImageClassification.from_pretrained(place / "b"), 0)[0].save_pretrained(place / "moved")
    images(place)
    return place


@pytest.fixture(autouse=True)
def in_their_folder(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)


def recipe(*names: str, **changes: Any) -> dict[str, Any]:
    rows = [{"model": f"./{name}"} for name in names]
    return {"merge_method": "linear", "models": rows, "parameters": {"weight": 0.5}, **changes}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var"))


def test_channels_that_were_moved_are_found_on_data_and_the_merge_is_that_of_the_model_they_were_moved_in(
    tmp_path: Path,
) -> None:
    """A copy's units correlate with its model's by 1, and with no other's: here b comes into the order of b."""
    manifest = hubmerge.merge(recipe("b", "moved", **BY_DATA), tmp_path / "out")
    merged, own = weights(tmp_path / "out"), weights(Path("b"))
    assert all(torch.equal(values, own[name]) for name, values in merged.items() if not is_statistic(name))
    assert manifest.alignment is not None
    assert (manifest.alignment.method, manifest.alignment.min_similarity) == ("activations", 0)
    groups = manifest.alignment.parents[0].groups
    assert sorted(groups) == ["mid0.0", "mid1.0", "res1", "res2"]
    assert {(group.apart, group.before) for group in groups.values()} == {(0, None)}
    assert groups["res1"].similarity == 1
    assert manifest.alignment.kept == {
        "channel": "what its entries are is given from outside",
        "label": "what its entries are is given from outside",
    }
    assert manifest.alignment.calibration is not None
    assert manifest.alignment.calibration.samples == 8


def test_statistics_are_those_of_the_merge_on_the_data(tmp_path: Path) -> None:
    """The stem's convolution is the first layer, so that its output's mean over the pictures is told by one convolution."""
    manifest = hubmerge.merge(recipe("a", "b", **BY_DATA), tmp_path / "out")
    merged = weights(tmp_path / "out")
    pictures = torch.from_numpy(np.load("images.npz")["pixel_values"])
    stem = "resnet.embedder.embedder"
    seen = torch.nn.functional.conv2d(pictures, merged[f"{stem}.convolution.weight"], stride=2, padding=3)
    assert torch.allclose(merged[f"{stem}.normalization.running_mean"], seen.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(
        merged[f"{stem}.normalization.running_var"], seen.transpose(0, 1).flatten(1).var(1), rtol=1e-4
    )
    assert manifest.alignment is not None
    assert manifest.alignment.statistics == sum(name.endswith("running_mean") for name in merged)
    assert manifest.tensors["averaged"] == 0
    assert manifest.tensors["estimated"] == sum(is_statistic(name) for name in merged)
    assert sum(manifest.tensors.values()) == len(merged)
    found = verify_merge(tmp_path / "out")
    assert [check.passed for check in found.checks] == [True, True, True]


def test_with_weights_the_data_serves_the_statistics_alone_and_without_data_they_are_averaged(tmp_path: Path) -> None:
    aligned = {"align": "weights"}
    with_data = hubmerge.merge(recipe("a", "b", **aligned, calibration=DATA), tmp_path / "with")
    without = hubmerge.merge(recipe("a", "b", **aligned), tmp_path / "without")
    left, right = weights(tmp_path / "with"), weights(tmp_path / "without")
    assert {name for name in left if not torch.equal(left[name], right[name])} == {n for n in left if is_statistic(n)}
    assert with_data.alignment is not None
    assert without.alignment is not None
    assert (with_data.alignment.statistics > 0, without.alignment.statistics) == (True, 0)
    assert "estimated" not in without.tensors
    assert without.tensors["averaged"] == sum(is_statistic(name) for name in right)
    note = (
        "align: statistics of BatchNorm are averaged, which fits no merge of models trained apart; "
        "with calibration they are estimated anew"
    )
    assert (without.warnings, with_data.warnings) == ((note,), ())


def test_units_without_a_partner_are_the_base_s_own(tmp_path: Path) -> None:
    """No two units of random models are alike by 1: all that is left of the other model is what no group touches."""
    asked = recipe("a", "b", align={"method": "activations", "min_similarity": 1.0}, calibration=DATA)
    manifest = hubmerge.merge(asked, tmp_path / "out")
    merged, base, other = weights(tmp_path / "out"), weights(Path("a")), weights(Path("b"))
    assert manifest.alignment is not None
    assert how_aligned(manifest.alignment) == (
        "./b in the order of ./a: 0 of 20 units moved, 20 without a partner, 2% of the weights' norm carried",
    )
    warning = (
        "no unit of ./b is at least 1 alike to one of ./a, so that none of them were brought together: "
        "a lower align.min_similarity leaves pairs"
    )
    assert manifest.warnings == (warning,)
    free = {name for name in merged if not is_statistic(name) and not torch.equal(merged[name], base[name])}
    assert free == {"classifier.1.bias"}
    assert torch.equal(merged["classifier.1.bias"], (base["classifier.1.bias"] + other["classifier.1.bias"]) / 2)


def test_an_entry_of_a_unit_without_a_partner_is_the_base_s_and_the_others_are_moved() -> None:
    """Units 0 and 1 of three change places; 2 has no partner.  The second tensor reads the units, and the third has none."""
    unit, free = Factor("h", Role.WRITES, 3), Factor(None, Role.WRITES, 2)
    reads = Factor("h", Role.READS, 3)
    axes = {"up": (((unit,),), ((free,),)), "down": (((free,),), ((reads,),)), "bias": (((free,),),)}
    spec = SymmetrySpec(
        "toy",
        {"h": Group("h", "h", Kind.PERMUTATION, 3)},
        {name: TensorSymmetry(name, name, "", each) for name, each in axes.items()},
    )
    element = {"h": Monomial(np.array([1, 0, 2]), np.ones(3))}
    order = Order(spec, element, {}, {"h": np.array([False, False, True])})
    base = {"up": torch.tensor([[0, 0], [0, 0], [70, 80]]), "down": torch.tensor([[0, 0, 30], [0, 0, 60]])}
    up = torch.tensor([[1.0, 2], [3, 4], [5, 6]])
    down = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    assert order.moved("up", up, base).tolist() == [[3, 4], [1, 2], [70, 80]]
    assert order.moved("down", down, base).tolist() == [[2, 1, 30], [5, 4, 60]]
    bias = torch.tensor([1.0, 2])
    assert order.moved("bias", bias, base) is bias
    assert up.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_other_data_under_the_same_name_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(Path(name).absolute())
    monkeypatch.chdir(tmp_path)
    images(tmp_path)
    plan = build_plan(recipe("a", "b", **BY_DATA))
    merge_plan(plan, tmp_path / "out")
    assert merge_plan(plan, tmp_path / "out").already_done
    images(tmp_path, count=9)
    with pytest.raises(PlanError, match="this merge, of parents that have changed since"):
        merge_plan(build_plan(recipe("a", "b", **BY_DATA)), tmp_path / "out")
    check = verify_merge(tmp_path / "out", reload=False).checks[1]
    assert check.detail == "not tried: the calibration data changed since the merge"


def test_the_plan_tells_of_pairs_of_data_and_of_statistics() -> None:
    lines = str(build_plan(recipe("a", "b", **BY_DATA))).splitlines()
    told = lines[lines.index("aligned") :]
    assert told[1:6] == [
        "  ./b into the order of ./a, by the correlations of their activations on the calibration data",
        "  units of res1 4, mid0.0 4, mid1.0 6, res2 6",
        "  pairs less alike than 0 are not merged: the unit is the base's own",
        "  channel, label stay as they are: what its entries are is given from outside",
        "  statistics of BatchNorm are estimated anew on the calibration data, once the weights are merged",
    ]
    assert any(" estimated anew (running statistics), " in line for line in lines)
    assert not any("averaged" in line for line in lines)


def test_data_that_nothing_is_done_with_is_a_warning(tmp_path: Path) -> None:
    for seed, name in enumerate(("first", "second")):
        bert(tmp_path / name, seed, ["[UNK]", "red", "green"])
    (tmp_path / "texts.txt").write_text("red green\ngreen\n")
    asked = recipe("a", align="weights", calibration={"data": str(tmp_path / "texts.txt"), "samples": 2})
    asked["models"] = [{"model": str(tmp_path / name)} for name in ("first", "second")]
    text = "calibration is of no use: units are matched by weights, and there is no BatchNorm"
    assert text in build_plan(asked).warnings
    with pytest.raises(PlanError, match=text):
        build_plan(asked, strict=True)


def test_other_vocabularies_of_one_size_are_refused(tmp_path: Path) -> None:
    for name, words in (("first", ["[UNK]", "red", "green"]), ("second", ["[UNK]", "green", "red"])):
        bert(tmp_path / name, 0, words)
    asked = {**recipe("a", align="weights"), "models": [{"model": str(tmp_path / n)} for n in ("first", "second")]}
    with pytest.raises(PlanError) as error:
        build_plan(asked)
    assert str(error.value) == (
        f"{tmp_path / 'first'} and {tmp_path / 'second'} have different vocabularies, and one row of the embeddings would stand for two "
        f"tokens · models · bring them to one vocabulary first: merge_method: passthrough with the other alone, base_model: "
        f"{tmp_path / 'first'} and tokenizer_source: base"
    )


def test_a_kill_after_the_statistics_were_estimated_is_gone_on_with_to_the_same_bytes(tmp_path: Path) -> None:
    asked = recipe("a", "b", **BY_DATA)
    hubmerge.merge(asked, tmp_path / "clean")

    def merge_and_die() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hubmerge.carry_out.manifest_of", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            hubmerge.merge(asked, tmp_path / "out")

    process = multiprocessing.get_context("fork").Process(target=merge_and_die)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    told: list[str] = []
    merge_plan(build_plan(asked), tmp_path / "out", note=told.append)
    assert told == [
        "bringing ./b into the order of ./a",
        f"{tmp_path / 'out.partial'} holds 100 % of this merge: going on from there",
        "estimating the statistics of BatchNorm",
    ]
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")
