"""The card of a merge whose coefficients were found first: their table by layer, their range, the data they were found on."""

from __future__ import annotations

import pytest
from card_builders import card_of, image_model, merge_of
from huggingface_hub import ModelCard

from cards import write_card
from cards.content import gather
from cards.errors import PublishError
from hubmerge.prepared_record import PreparedRecord, TaskDataRecord
from hubmerge.prepared_words import layer_rows, prepared_lines

LAYERS = {"stem": (1.0, 1.0), "layers.0": (0.5, 1.5), "layers.1": (0.0, 2.0)}


def record(parents=("./low", "./high"), layers=LAYERS, data="./low.npz"):
    own = TaskDataRecord(
        data=data, kind="pixels", column="pixel_values", samples=100, sha256="ab" * 32, labels="kind", labels_sha256="c"
    )
    return PreparedRecord(inner="ties", parents=parents, layers=layers, calibration=(own,))


@pytest.fixture
def merge(tmp_path):
    for name in ("low", "high"):
        card_of(image_model(tmp_path / name), "license: mit")
    return image_model(tmp_path / "both")


def test_the_table_has_a_row_for_each_layer_and_coefficients_of_tensors_are_averaged_over_blocks():
    assert [(row.layer, row.shades) for row in layer_rows(record())] == [
        ("stem", ("▒", "▒")),
        ("layers.0", ("░", "▓")),
        ("layers.1", ("·", "█")),
    ]
    tensors = {"layers.0.w": (1.0, 2.0), "layers.0.b": (0.0, 4.0), "layers.1.w": (1.0, 1.0), "head.w": (0.0, 0.0)}
    rows = layer_rows(record(layers={**tensors, "layers.1.b": (1.0, 1.0)}))
    assert [(row.layer, row.coefficients) for row in rows] == [
        ("layers.0", (0.5, 3.0)),
        ("layers.1", (1.0, 1.0)),
        ("head", (0.0, 0.0)),
    ]


def test_every_parent_has_a_line_with_its_smallest_and_largest_coefficient():
    assert prepared_lines(record()) == (
        "./low: coefficients from 0.000 (layers.1) to 1.000 (stem), 0.500 on average",
        "./high: coefficients from 1.000 (stem) to 2.000 (layers.1), 1.500 on average",
    )
    assert prepared_lines(record(layers={"model": (0.5, 1.5)})) == (
        "./low: coefficient 0.500 everywhere",
        "./high: coefficient 1.500 everywhere",
    )


def test_the_card_shows_the_coefficients_and_no_local_path(merge):
    parents = [merge.parent / "low", merge.parent / "high"]
    data = str(merge.parent / "low.npz")
    prepared = record(tuple(map(str, parents)), data=data)
    merge_of(merge, parents, method="sens_merging", format_version=6, reproducible="tolerance", prepared=prepared)
    write_card(merge, overwrite=True)
    card = ModelCard.load(merge / "README.md").text
    assert (
        "| layer | low | high |\n|---|---|---|\n| `stem` | ▒ 1.000 | ▒ 1.000 |\n| `layers.0` | ░ 0.500 | ▓ 1.500 |"
        in card
    )
    assert "then merged by `ties` with these as weights" in card
    assert "- high: coefficients from 1.000 (stem) to 2.000 (layers.1), 1.500 on average." in card
    assert (
        "- low was run on 100 rows of ./low.npz, column `pixel_values`, with labels of column `kind`; SHA-256 `abababababababab`."
        in card
    )
    assert "No weight was trained; gradients on data were taken to find coefficients, and nothing else." in card
    assert "Models are run on data to find the coefficients" in card
    assert str(merge.parent) not in card
    with pytest.raises(
        PublishError, match="is not published as a recipe alone: making it again finds its coefficients anew"
    ):
        gather(merge, "recipe", name="both", place="ada/both")
