"""Curves of drift and loss, their table, CSV and drawing, and the command that measures them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from apart_models import batches, logits, model, reordered
from typer.testing import CliRunner

from hubmerge.cli import commands
from hubmerge.cli.app import app
from hubmerge.errors import HubmergeError
from hubmerge.heterogeneous.mal_laws import Law, Laws, Point, laws
from hubmerge.heterogeneous.mal_plot import svg_of
from hubmerge.heterogeneous.mal_report import COLUMNS, csv_of, table_of

CURVE = Law(
    0, "net.stages.0.layers.0", 0, "net.stages.0.layers.1", 0.5, 0.25,
    (Point(0.0, 0.0, 1.0), Point(0.1, 0.04, 0.9), Point(0.5, 0.2, 2.0), Point(1.0, float("inf"), float("nan"))),
)  # fmt: skip
NONE = Law(1, "net.stages.0.layers.0", 0, None, 0.0, 0.0, (), "the donor has no such stage")
FOUND = Laws((CURVE, NONE), 1.0)


def test_a_curve_begins_at_0_and_rises_with_the_share_of_a_donor_of_noise() -> None:
    base = model("vit", 0)
    given = batches("vit")
    probe = [{**batch, "labels": logits(base, batch).argmax(-1)} for batch in given]
    found = laws(base, [model("vit", 1), reordered(base, 2)[0]], given, probe=probe)
    assert [(law.donor, law.position) for law in found.curves] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    noise, same = found.curves[0].points, found.curves[2].points
    assert [point.factor for point in noise] == [i / 10 for i in range(11)]
    assert (noise[0].drift, noise[0].loss) == (0.0, found.loss)
    assert [point.drift for point in noise] == sorted(point.drift for point in noise)
    assert max(point.drift for point in same) < 1e-5
    assert all(point.loss == pytest.approx(found.loss, rel=1e-4) for point in same)


def test_without_a_probe_there_is_no_loss_and_a_layer_without_a_partner_has_no_points() -> None:
    donor = model("resnet basic", 1, depths=[1, 1])
    found = laws(model("resnet basic", 0), [donor], batches("resnet basic"), factors=(0.2,))
    assert found.loss is None
    assert [len(law.points) for law in found.curves] == [1, 1, 0]
    assert found.curves[2].why == "no layer of its stage has the same structure"
    assert found.curves[0].points[0].loss is None


def test_the_largest_factor_within_a_drift_is_read_off_a_curve() -> None:
    assert [CURVE.largest_within(tau) for tau in (0.0, 0.1, 0.2, float("inf"))] == [0.0, 0.1, 0.5, 1.0]
    assert NONE.largest_within(1) is None


def test_the_table_has_a_row_for_each_donor_and_layer_without_what_all_names_begin_with() -> None:
    columns, rows = table_of(FOUND, ["one", "two"], 0.1)
    assert columns == (
        "donor", "position", "layer", "goes with", "cka", "similarity", "within 0.1",
        "drift 0.1", "drift 0.5", "drift 1", "loss 0.1", "loss 0.5", "loss 1",
    )  # fmt: skip
    assert rows[0][:10] == ("one", 0, "layers.0", "layers.1", 0.5, 0.25, 0.1, 0.04, 0.2, float("inf"))
    assert rows[1] == ("two", 0, "layers.0", "the donor has no such stage", *[None] * 9)


def test_the_csv_has_a_row_for_every_point() -> None:
    rows = list(csv.reader(io.StringIO(csv_of(FOUND, ["one", "two"]))))
    assert tuple(rows[0]) == COLUMNS
    assert rows[2] == ["one", CURVE.layer, "0", CURVE.donor_layer, "0.5", "0.25", "0.1", "0.04", "0.9"]
    assert rows[5] == ["two", NONE.layer, "0", "", "0.0", "0.0", "", "", ""]
    assert len(rows) == 6


def test_the_drawing_has_a_panel_for_each_donor_and_measure_and_a_line_for_each_curve() -> None:
    root = ET.fromstring(svg_of(FOUND, ["one", "<two>"], 0.1))
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text and ":" in text] == [
        "one: drift of the layer's output", "<two>: drift of the layer's output",
        "one: loss of the model", "<two>: loss of the model",
    ]  # fmt: skip
    lines = [line for line in root.iter("{http://www.w3.org/2000/svg}polyline") if "stroke-width" in line.attrib]
    assert len(lines) == 2
    # axes from (60, 214) over 260 to 1 and up 170 to the largest finite drift, .2; what is infinite is drawn there, too
    assert lines[0].attrib["points"] == "60.0,214.0 86.0,180.0 190.0,44.0 320.0,44.0"


def saved(folder: Path, name: str, seed: int, **changes: Any) -> str:
    model(name, seed, **changes).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base, a wider donor and data with labels."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "base", "resnet basic", 0)
    saved(tmp_path / "wide", "resnet basic", 1, hidden_sizes=[10, 16], embedding_size=10)
    pixels = np.concatenate([batch["pixel_values"].numpy() for batch in batches("resnet basic", count=1, size=8)])
    np.savez(tmp_path / "data.npz", pixel_values=pixels, digit=np.arange(8) % 3)
    return tmp_path


def run(*arguments: str) -> Any:
    commands.register(app, "mal-report")
    return CliRunner().invoke(app, ["mal-report", *arguments])


def test_the_command_prints_a_table_and_writes_csv_and_svg(zoo: Path) -> None:
    done = run("base", "wide", "--data", "data.npz", "--samples", "8", "--labels", "digit", "--out", "report")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split()[:4] == ["donor", "position", "layer", "goes"]
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["wide", "0", "stages.0.layers.0"], ["wide", "1", "stages.1.layers.0"], ["wide", "2", "stages.1.layers.1"],
    ]  # fmt: skip
    assert lines[-1].startswith("loss of the base, BatchNorm's statistics estimated on the same data: ")
    assert len((zoo / "report" / "laws.csv").read_text().splitlines()) == 1 + 3 * 11
    ET.fromstring((zoo / "report" / "laws.svg").read_text())


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    from hubmerge.cli.mal_report import _facts

    last = _facts(FOUND, "base", ["one", "two"], "")["layers"][0]["points"][-1]
    assert last == {"factor": 1.0, "drift": None, "loss": None}


def test_the_loss_is_that_of_the_labels_in_the_order_of_the_data(zoo: Path) -> None:
    from hubmerge.heterogeneous.mal_models import labelled, opened
    from hubmerge.recipe_calibration import Calibration

    some = Calibration(data="data.npz", samples=5, seed=3)
    drawn, probe = labelled(some, opened("base"), "digit")
    assert probe is not None
    (batch,) = probe
    every = np.load(zoo / "data.npz")
    places = [
        int(np.flatnonzero((every["pixel_values"] == row.numpy()).all((1, 2, 3)))[0]) for row in batch["pixel_values"]
    ]
    assert batch["labels"].tolist() == [place % 3 for place in places]
    assert len(drawn) == 5
    assert "labels" not in next(iter(drawn))


def test_json_has_every_point(zoo: Path) -> None:
    done = run("base", "wide", "--data", "data.npz", "--samples", "8", "--json")
    facts = json.loads(done.stdout)
    assert (facts["base"], facts["donors"], facts["loss"]) == ("base", ["wide"], None)
    assert [layer["donor"] for layer in facts["layers"]] == ["wide"] * 3
    assert facts["layers"][0]["points"][0] == {"factor": 0.0, "drift": 0.0, "loss": None}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("base", "wide", "--labels", "nothing"), "data.npz has no column 'nothing' · --labels · the columns are pixel_values, digit"),
        (("base", "wide+adapter"), "a model with an adapter has no layers of its own · wide+adapter · make one model of the two first"),
        (("base", "missing-folder"), "missing-folder"),
        (("base", "wide", "--column", "nothing"), "data.npz has no column 'nothing' · --column · "),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(zoo: Path, arguments: tuple[str, ...], text: str) -> None:
    done = run(*arguments, "--data", "data.npz")
    assert isinstance(done.exception, HubmergeError)
    assert text in str(done.exception)


def test_a_donor_of_another_family_is_named_as_it_was_given(zoo: Path) -> None:
    saved(zoo / "vit", "vit", 0)
    done = run("base", "wide", "./vit", "--data", "data.npz")
    assert str(done.exception) == "the base is resnet, this model is vit · ./vit · merge models of one family"


def test_labels_that_are_no_classes_of_the_base_are_refused(zoo: Path) -> None:
    content = dict(np.load(zoo / "data.npz"))
    np.savez(zoo / "data.npz", **{**content, "digit": np.arange(8)})
    done = run("base", "wide", "--data", "data.npz", "--labels", "digit")
    assert str(done.exception) == (
        "column 'digit' holds 3, and the base has 3 classes · --labels · labels are the numbers of the base's classes, from 0"
    )


def test_labels_are_read_from_rows_as_numbers_or_as_their_digits(tmp_path: Path) -> None:
    from hubmerge.calibration.files import DataFiles
    from hubmerge.heterogeneous.mal_models import _labels

    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a", "label": 1}\n{"text": "b", "label": "2"}\n')
    assert list(_labels(DataFiles(tmp_path, "json", (file,)), "label")) == [1, 2]


def test_a_base_without_donors_is_wrong_usage(zoo: Path) -> None:
    done = run("base", "--data", "data.npz")
    assert done.exit_code == 2
    assert "Missing argument 'DONOR'" in done.output


def test_models_are_loaded_in_float32_and_in_evaluation_mode(zoo: Path) -> None:
    from hubmerge.heterogeneous.mal_models import loaded, opened

    found = loaded(opened("base"))
    assert not found.training
    assert {values.dtype for values in found.parameters()} == {torch.float32}
