"""Models with tables of positions of other lengths: the base's length stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from apart_models import model
from pleas_models import images, vit

import hubmerge
from hubmerge.heterogeneous import Donor, merge_models, transport_deltas
from hubmerge.heterogeneous.plan_types import AssemblyPlan

WPE, GRID = "transformer.wpe.weight", "vit.embeddings.position_embeddings"


def merged(base: Any, other: Any) -> dict[str, torch.Tensor]:
    labels = "shared" if "Image" in type(base).__name__ else None
    found = merge_models([base, other], [], align="identity", fit=None, renormalise=False, labels=labels)
    state: dict[str, torch.Tensor] = found.model.state_dict()
    return state


def test_of_a_longer_table_the_first_rows_are_taken() -> None:
    base, other = model("gpt2", 3), model("gpt2", 4, n_positions=40)
    ours, theirs = base.state_dict()[WPE], other.state_dict()[WPE]
    torch.testing.assert_close(merged(base, other)[WPE], (ours + theirs[:32]) / 2)


def test_where_a_shorter_table_ends_the_base_s_own_rows_stay() -> None:
    base, other = model("gpt2", 3), model("gpt2", 4, n_positions=10)
    ours, theirs = base.state_dict()[WPE], other.state_dict()[WPE]
    found = merged(base, other)[WPE]
    torch.testing.assert_close(found[:10], (ours[:10] + theirs) / 2)
    assert torch.equal(found[10:], ours[10:])


def test_a_grid_of_patches_is_interpolated_and_the_class_token_s_row_is_not() -> None:
    base, other = model("vit", 3), model("vit", 4, image_size=16)
    ours, theirs = base.state_dict()[GRID][0], other.state_dict()[GRID][0]
    assert (ours.shape, theirs.shape) == ((5, 16), (17, 16))
    patches = torch.nn.functional.interpolate(
        theirs[1:].T.reshape(1, 16, 4, 4), size=(2, 2), mode="bicubic", align_corners=False
    )
    expected = torch.cat([theirs[:1], patches.reshape(16, 4).T])
    torch.testing.assert_close(merged(base, other)[GRID][0], (ours + expected) / 2)


def test_what_was_learned_of_positions_is_carried_as_they_are() -> None:
    """A change of every position by the same is that change on any grid."""
    target, base = model("vit", 3), model("vit", 4, image_size=16)
    learned = model("vit", 4, image_size=16)
    with torch.no_grad():
        learned.vit.embeddings.position_embeddings += 0.5
    found = transport_deltas(target, [Donor(learned, base)], align="identity", labels="shared").model.state_dict()
    torch.testing.assert_close(found[GRID], target.state_dict()[GRID] + 0.5)


def test_a_plan_says_what_becomes_of_positions_and_the_merge_keeps_the_base_s_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    vit(tmp_path / "small", 0, ("x", "y"))
    vit(tmp_path / "large", 1, ("x", "y"), image_size=32)
    images(tmp_path)
    recipe = {
        "merge_method": "pleas",
        "models": [{"model": "./small"}, {"model": "./large"}],
        "calibration": {"data": "./images.npz", "samples": 8},
    }
    plan = hubmerge.build_plan(recipe)
    assert isinstance(plan, AssemblyPlan)
    told = "./large's, a grid of 4 by 4, are interpolated (bicubic) to ./small's of 2 by 2"
    assert f"{'positions':<13}{told}" in str(plan).splitlines()
    assert plan.to_dict()["positions"] == {"./large": told}
    record = hubmerge.merge(recipe, tmp_path / "out").assembly
    assert record is not None
    assert record.positions == {"./large": told}
    other = {**recipe, "models": [{"model": "./large"}, {"model": "./small"}]}
    assert isinstance(
        found := hubmerge.build_plan({**other, "align": "weights", "fit": "none", "calibration": None}), AssemblyPlan
    )
    assert found.positions_told == {
        "./small": "./small's, a grid of 2 by 2, are interpolated (bicubic) to ./large's of 4 by 4"
    }


def test_a_plan_of_texts_says_how_many_positions_are_taken() -> None:
    from hubmerge.heterogeneous.position_rows import PositionRows

    longer, shorter = PositionRows("position", 32, 1024, {}, None), PositionRows("position", 1024, 32, {}, None)
    assert longer.text("./b", "./a") == "the first 32 of ./b's 1,024 are taken, as many as ./a has"
    assert shorter.text("./b", "./a") == "./b's 32 go with the first of ./a's 1,024; the others stay ./a's own"
