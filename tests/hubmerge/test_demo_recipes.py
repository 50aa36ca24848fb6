"""The recipes and the suite that the demo leaves behind for the user to edit."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hubmerge.demo.folder import METHODS, DemoFolder, spelling
from hubmerge.demo.recipes import recipe_text, strangers_recipe_text, suite_text, write_recipes


@pytest.mark.parametrize(
    ("path", "reference"),
    [
        ("demo", "./demo"),
        ("./demo", "./demo"),
        ("../demo", "../demo"),
        ("/tmp/demo", "/tmp/demo"),
        ("~demo", "./~demo"),
    ],
)
def test_a_folder_is_spelt_so_that_it_cannot_be_taken_for_a_hub_name(path: str, reference: str) -> None:
    assert spelling(Path(path)) == reference


def test_the_task_arithmetic_recipe_reads_as_one_would_write_it() -> None:
    assert recipe_text("task_arithmetic", DemoFolder(Path("demo"))) == (
        "# What each specialist learned, added to the base.\n"
        "merge_method: task_arithmetic\n"
        "base_model: ./demo/models/digits-base\n"
        "models:\n"
        "  - model: ./demo/models/digits-low\n"
        "    parameters: {weight: 1.0}\n"
        "  - model: ./demo/models/digits-high\n"
        "    parameters: {weight: 1.0}\n"
        "parameters: {lambda: 0.7}\n"
        "dtype: float32\n"
    )


def test_the_recipe_for_models_that_share_no_ancestor_reads_as_one_would_write_it() -> None:
    assert strangers_recipe_text(DemoFolder(Path("demo"))) == (
        "# Two models trained apart: units matched on pictures without labels, pairs merged, "
        "every layer fitted to both models.\n"
        "merge_method: pleas\n"
        "base_model: ./demo/models/digits-low\n"
        "models:\n"
        "  - model: ./demo/models/digits-low\n"
        "  - model: ./demo/models/digits-high-wide\n"
        "calibration: {data: ./demo/unlabelled, samples: 400}\n"
        "labels: shared\n"
        "dtype: float32\n"
    )


@pytest.mark.parametrize("root", ["demo", "/a b/demo", "/a: b/demo", "/a #b/demo", '/a "b\\c/demo', "/ä/demo"])
@pytest.mark.parametrize("method", METHODS)
def test_every_recipe_names_the_models_whatever_the_folder_is_called(method: str, root: str) -> None:
    demo = DemoFolder(Path(root))
    recipe = yaml.safe_load(recipe_text(method, demo))
    assert recipe["merge_method"] == method
    assert [entry["model"] for entry in recipe["models"]] == [
        spelling(demo.model(name)) for name in ("digits-low", "digits-high")
    ]
    strangers = yaml.safe_load(strangers_recipe_text(demo))
    assert strangers["models"] == [{"model": spelling(demo.model(name))} for name in ("digits-low", "digits-high-wide")]
    assert strangers["calibration"] == {"data": spelling(demo.unlabelled), "samples": 400}


def test_the_suite_has_one_image_task_per_half_relative_to_its_file() -> None:
    assert yaml.safe_load(suite_text()) == {
        "name": "digits",
        "seed": 0,
        "tasks": [
            {"name": "digits-0-4", "task": "image-classification", "data": "heldout/low"},
            {"name": "digits-5-9", "task": "image-classification", "data": "heldout/high"},
        ],
    }


def test_an_edited_recipe_is_kept_and_named(tmp_path: Path) -> None:
    demo = DemoFolder(tmp_path)
    assert write_recipes(demo) == ()
    demo.recipe("ties").write_text("merge_method: ties  # mine\n")
    assert write_recipes(demo) == ("ties",)
    assert demo.recipe("ties").read_text() == "merge_method: ties  # mine\n"
    assert demo.recipe("linear").read_text() == recipe_text("linear", demo)
    assert demo.recipe("pleas").read_text() == strangers_recipe_text(demo)
