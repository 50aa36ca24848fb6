"""Buffers that only some parents store: BERT's positions, which old transformers saved and new ones make up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from zoo import random_values, read_model, recipe, write_model

from hubmerge import build_plan, merge, verify_merge

POSITIONS = "embeddings.position_ids"


def old_and_new(place: Path) -> tuple[Path, Path]:
    old = write_model(place / "old", {"w": random_values((4, 3), 1), POSITIONS: np.arange(5)[None]})
    return old, write_model(place / "new", {"w": random_values((4, 3), 2)})


def test_a_buffer_of_the_base_is_copied_though_a_parent_does_not_have_it(tmp_path: Path) -> None:
    old, new = old_and_new(tmp_path)
    manifest = merge(recipe("task_arithmetic", [new], base=old), tmp_path / "out")
    assert read_model(tmp_path / "out")[POSITIONS].tolist() == [[0, 1, 2, 3, 4]]
    assert manifest.tensors == {"merged": 1, "copied": 1, "averaged": 0, "counted": 0}
    assert verify_merge(tmp_path / "out", reload=False).level == "exact"


def test_a_buffer_that_the_base_does_not_have_is_left_out_with_a_warning(tmp_path: Path) -> None:
    old, new = old_and_new(tmp_path)
    made = recipe("task_arithmetic", [old], base=new)
    assert f"{old}: buffer '{POSITIONS}' is left out, {new} does not have it" in build_plan(made).warnings
    merge(made, tmp_path / "out")
    assert read_model(tmp_path / "out").keys() == {"w"}
