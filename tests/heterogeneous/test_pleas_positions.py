"""How often weights are used, told from configs, is how often the models use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

from hubmerge.heterogeneous.merging import _positions
from hubmerge.heterogeneous.positions import picture_size, planned_positions
from hubmerge.symmetry import spec_of
from zoo_index.hub import open_source
from zoo_index.reference import ModelRef

BASIC = {"layer_type": "basic", "embedding_size": 4, "hidden_sizes": [4, 8, 8], "depths": [1, 2, 1]}
BOTTLENECK = {"layer_type": "bottleneck", "embedding_size": 4, "hidden_sizes": [8, 16], "depths": [2, 2]}


def used(model: Any, sides: tuple[int, int], channels: int) -> dict[str, int]:
    return _positions(model.eval(), spec_of(model), {"pixel_values": torch.zeros(1, channels, *sides)})


@pytest.mark.parametrize("sides", [(32, 32), (28, 28), (33, 47)])
@pytest.mark.parametrize(
    "config",
    [
        BASIC,
        {**BASIC, "downsample_in_first_stage": True},
        BOTTLENECK,
        {**BOTTLENECK, "downsample_in_bottleneck": True},
        {**BOTTLENECK, "downsample_in_first_stage": True},
    ],
)
def test_a_resnet_halves_where_its_config_says(config: dict[str, Any], sides: tuple[int, int]) -> None:
    model = ResNetForImageClassification(ResNetConfig(**config, num_channels=1, num_labels=2))
    found = planned_positions(spec_of(model), model.config.to_dict(), sides)
    seen = used(model, sides, 1)
    assert found.known
    assert {name: found.of_tensors.get(name, 1) for name in seen} == seen


def test_a_vit_sees_its_patches_and_a_class_token() -> None:
    config = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=24, patch_size=8
    )
    model = ViTForImageClassification(config)
    found = planned_positions(spec_of(model), config.to_dict(), None)
    seen = used(model, (24, 24), 3)
    assert {name: found.of_tensors[name] for name in seen} == seen
    assert sorted(set(seen.values())) == [1, 9, 10]


@pytest.mark.parametrize(
    ("processor", "sides"),
    [
        ({"size": {"height": 20, "width": 30}}, (20, 30)),
        ({"size": 40}, (40, 40)),
        ({"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}}, (32, 32)),
        ({"size": {"shortest_edge": 40}}, None),
        ({"size": 40, "do_resize": False}, None),
        ({"image_processor": {"size": 16}}, (16, 16)),
        ([], None),
    ],
)
def test_what_an_image_processor_makes_of_pictures(
    tmp_path: Path, processor: Any, sides: tuple[int, int] | None
) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    assert picture_size(open_source(ModelRef.of(str(tmp_path)))) == sides
