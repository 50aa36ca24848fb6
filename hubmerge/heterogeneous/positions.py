"""How often a model uses the weights of a layer for one input, told from its config and the size of its pictures, without running it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubmerge.symmetry.groups import SymmetrySpec
from zoo_index.source import ModelSource

__all__ = ["Positions", "picture_size", "planned_positions"]

_USUAL = 224
"""Pixels along a side where nothing says it."""
_BLOCK = re.compile(r"stages\.(\d+)\.layers\.(\d+)\.(?:layer\.(\d+)|(shortcut))\.")


@dataclass(frozen=True)
class Positions:
    """tensor -> at how many positions it is used.  known: whether they are those of the merge's data, not of a usual size."""

    of_tensors: Mapping[str, int]
    known: bool


def planned_positions(spec: SymmetrySpec, config: Mapping[str, Any], sides: tuple[int, int] | None) -> Positions:
    """The positions for a picture of `sides` (height, width), None where that is not known; for models of texts there are none.

    Layers that see every token of a text are used alike, so that their shares of a cost are right without positions.
    """
    if spec.family == "resnet":
        return Positions(_of_resnet(spec, config, sides or (_USUAL, _USUAL)), sides is not None)
    if spec.family == "vit":
        return Positions(_of_vit(spec, config), known=True)
    return Positions({}, known=False)


def picture_size(source: ModelSource) -> tuple[int, int] | None:
    """Height and width of what the model's image processor makes of any picture; None where it keeps a picture's own or does not say."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if name in source.files():
            try:
                given = json.loads(source.read(name))
            except ValueError:
                return None
            given = given.get("image_processor", given) if isinstance(given, Mapping) else {}
            crops = given.get("do_center_crop") and given.get("crop_size")
            return _sides(crops) if crops else _sides(given.get("size")) if given.get("do_resize", True) else None
    return None


def _sides(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping) and isinstance(size.get("height"), int) and isinstance(size.get("width"), int):
        return size["height"], size["width"]
    return None


def _of_resnet(spec: SymmetrySpec, config: Mapping[str, Any], sides: tuple[int, int]) -> dict[str, int]:
    """Every stride of 2 halves, rounded up: in the first convolution, in the pooling behind it, and where a stage begins."""
    stem = _halved(sides)
    inside = _halved(stem)
    outside = []  # of every stage: what goes in, what comes out
    for stage in range(len(config["depths"])):
        strides = stage > 0 or bool(config.get("downsample_in_first_stage"))
        outside.append((inside, _halved(inside) if strides else inside))
        inside = outside[-1][1]
    late = config.get("layer_type", "bottleneck") == "bottleneck" and not config.get("downsample_in_bottleneck")
    found = {}
    for name in spec.tensors:
        if not name.endswith("convolution.weight"):
            continue
        block = _BLOCK.search(name)
        if block is None:
            found[name] = stem[0] * stem[1]
            continue
        before, after = outside[int(block[1])]
        first = int(block[2]) == 0 and block[3] == "0"
        height, width = before if first and late else after
        found[name] = height * width
    return found


def _halved(sides: tuple[int, int]) -> tuple[int, int]:
    return (sides[0] + 1) // 2, (sides[1] + 1) // 2


def _of_vit(spec: SymmetrySpec, config: Mapping[str, Any]) -> dict[str, int]:
    patches = (config.get("image_size", _USUAL) // config.get("patch_size", 16)) ** 2
    found = dict.fromkeys(spec.tensors, patches + 1)
    for name in found:
        if "patch_embeddings" in name:
            found[name] = patches
        elif name.startswith(("classifier.", "vit.pooler.", "pooler.")):
            found[name] = 1
    return found
