"""A recipe's `align: activations` with parents of other widths: units left out, joined or copied, by what they do on the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from apart_models import reordered
from pleas_models import images, resnet
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification

import hubmerge
from hubmerge import build_plan, verify_merge
from hubmerge.alignment.words import how_aligned

LABELS = ("a", "b", "c")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base, a random ResNet of 4 and 6 channels; padded, the same with 2 and 3 more that are 0, in another order; eight pictures."""
    place = tmp_path_factory.mktemp("models")
    resnet(place / "base", 2, LABELS)  # none of its channels is dead on the pictures
    resnet(place / "padded", 1, LABELS, (6, 9))
    wide = AutoModelForImageClassification.from_pretrained(place / "padded")
    tensors = {name: torch.zeros_like(values) for name, values in wide.state_dict().items()}
    for name, values in load_file(place / "base" / "model.safetensors").items():
        tensors[name][tuple(map(slice, values.shape))] = values
    wide.load_state_dict(tensors)
    reordered(wide, 0)[0].save_pretrained(place / "padded")
    images(place)
    return place


@pytest.fixture(autouse=True)
def in_their_folder(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)


def recipe(*names: str, **align: Any) -> dict[str, Any]:
    return {
        "merge_method": "linear",
        "models": [{"model": f"./{name}"} for name in names],
        "parameters": {"weight": 0.5},
        "align": {"method": "activations", **align},
        "calibration": {"data": "./images.npz", "samples": 8},
    }


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = load_file(folder / "model.safetensors")
    return {name: values for name, values in found.items() if "running" not in name and "tracked" not in name}


def test_a_copy_with_more_channels_in_another_order_merges_with_the_base_to_the_base(tmp_path: Path) -> None:
    manifest = hubmerge.merge(recipe("base", "padded"), tmp_path / "out")
    merged, base = weights(tmp_path / "out"), weights(Path("base"))
    assert all(torch.equal(values, base[name]) for name, values in merged.items())
    assert manifest.alignment is not None
    groups = manifest.alignment.parents[0].groups
    sizes = {name: (group.size, group.units, group.left_out, group.similarity) for name, group in groups.items()}
    assert sizes == {
        "res1": (4, 6, 2, 1), "mid0.0": (4, 6, 2, 1), "mid1.0": (6, 9, 3, 1), "res2": (6, 9, 3, 1),
    }  # fmt: skip
    assert how_aligned(manifest.alignment)[0].endswith(" of 20 units moved, 10 left out, correlation 1.00 on average")
    assert verify_merge(tmp_path / "out", reload=False).level == "exact"


def test_into_a_wider_base_a_model_comes_with_the_base_s_own_channels_where_it_has_none(tmp_path: Path) -> None:
    """They are all 0 here, as is their mean with themselves: the merge is the wider model."""
    manifest = hubmerge.merge(recipe("padded", "base"), tmp_path / "out")
    merged, wide = weights(tmp_path / "out"), weights(Path("padded"))
    assert all(torch.equal(values, wide[name]) for name, values in merged.items())
    assert manifest.alignment is not None
    assert [group.apart for group in manifest.alignment.parents[0].groups.values()] == [2, 2, 3, 3]


def test_folded_no_channel_is_left_out(tmp_path: Path) -> None:
    manifest = hubmerge.merge(recipe("base", "padded", widths="fold", min_similarity=-1), tmp_path / "out")
    assert manifest.alignment is not None
    assert manifest.alignment.widths == "fold"
    assert " 10 joined to another or copied" in how_aligned(manifest.alignment)[0]
    assert [(group.left_out, group.folded) for group in manifest.alignment.parents[0].groups.values()] == [
        (0, 2), (0, 2), (0, 3), (0, 3),
    ]  # fmt: skip


def test_the_plan_says_what_joins_and_what_is_copied() -> None:
    def told(*names: str) -> list[str]:
        lines = str(build_plan(recipe(*names, widths="fold"))).splitlines()
        return [line for line in lines if line.startswith(f"  ./{names[1]}: ")]

    assert told("base", "padded") == [
        "  ./padded: res1 6 for 4, 2 joined to the most similar",
        "  ./padded: mid0.0 6 for 4, 2 joined to the most similar",
        "  ./padded: mid1.0 9 for 6, 3 joined to the most similar",
        "  ./padded: res2 9 for 6, 3 joined to the most similar",
    ]
    assert told("padded", "base")[-1] == "  ./base: res2 6 for 9, 3 copied from the most similar"
