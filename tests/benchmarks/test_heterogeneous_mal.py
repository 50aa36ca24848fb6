"""The benchmark of MAL: what is held against the control, and on which images."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.heterogeneous.data import Division
from benchmarks.heterogeneous.examples import Examples
from benchmarks.heterogeneous.mal import ASSEMBLIES, PROBE, _Line, _probe, _table
from benchmarks.heterogeneous.settings import CALIBRATION, PARENTS, ImageSet


def images(number: int) -> Examples:
    """Images whose one pixel is their number."""
    return Examples(np.arange(number, dtype=np.float32).reshape(-1, 1, 1, 1), np.arange(number) % 10)


def test_the_labelled_images_are_none_of_those_that_the_models_are_run_on() -> None:
    names: tuple[ImageSet, ...] = ("mnist", "digits")
    divisions = {name: Division(images(900), images(1)) for name in names}
    batches = _probe(divisions)
    share = CALIBRATION // 2
    assert [batch["pixel_values"].flatten().tolist() for batch in batches] == [
        list(range(share, share + PROBE)),
        list(range(share, share + PROBE)),
    ]
    assert batches[0]["labels"].tolist() == [number % 10 for number in range(share, share + PROBE)]


def test_a_gain_is_one_over_the_control_seed_by_seed(capsys: pytest.CaptureFixture[str]) -> None:
    def lines(control: float, merged: float) -> tuple[_Line, ...]:
        own = [
            ("base", 50.0, "-", None), ("control", control, "-", None), ("zoo_10", merged, "3/6", 2.0),
        ]  # fmt: skip
        return tuple(
            _Line(key, key, {"MNIST": mean, "digits": mean, "mean": mean}, taken, seconds)
            for key, mean, taken, seconds in own
        )

    report = _table({0: lines(80.0, 81.0), 1: lines(84.0, 82.0)})
    assert report.rows[2] == ("zoo_10", "3/6 3/6", "81.5 ± 0.5", "81.5 ± 0.5", "81.5 ± 0.5", "-0.5 ± 1.5", "2.0")
    assert report.rows[1][5] == "0.0 ± 0.0"
    assert report.measurements[0]["over_control"] == [-30.0, -34.0]


def test_every_donor_is_a_parent_that_is_trained_and_keys_are_told_apart() -> None:
    names = {parent.name for parent in PARENTS}
    assert all(set(assembly.donors) <= names for assembly in ASSEMBLIES)
    assert len({assembly.key for assembly in ASSEMBLIES}) == len(ASSEMBLIES)
    assert all(assembly.probe or assembly.arguments.get("choose") != "best" for assembly in ASSEMBLIES)
