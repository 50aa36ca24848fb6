"""The demo's pictures: fixed splits, ordinary PNG folders, legible drawings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hubmerge.demo.digits import (
    HALVES,
    UNLABELLED,
    Digits,
    Split,
    drawing,
    load_split,
    write_pictures,
    write_unlabelled,
)
from hubmerge.demo.reading import Reading, drawn


@pytest.fixture(scope="module")
def split() -> Split:
    return load_split()


def _rows(digits: Digits) -> set[tuple[bytes, int]]:
    return {(picture.tobytes(), int(label)) for picture, label in zip(digits.pictures, digits.labels, strict=True)}


def test_every_digit_is_either_trained_on_or_held_out_and_none_is_both(split: Split) -> None:
    assert (len(split.train), len(split.held_out), len(split.base)) == (1198, 599, 200)
    assert len(_rows(split.train) | _rows(split.held_out)) == 1797  # no two of scikit-learn's pictures are equal
    assert _rows(split.base) < _rows(split.train)


def test_the_split_is_a_function_of_the_seed(split: Split) -> None:
    again, other = load_split(0), load_split(1)
    assert np.array_equal(again.held_out.pictures, split.held_out.pictures)
    assert not np.array_equal(other.held_out.labels, split.held_out.labels)


def test_sixteen_of_sixteen_greys_is_full_ink_and_each_pixel_becomes_four_by_four(split: Split) -> None:
    pictures = split.train.pictures
    assert pictures.shape == (1198, 32, 32)
    assert (pictures.min(), pictures.max()) == (0, 255)
    blocks = pictures.reshape(-1, 8, 4, 8, 4)
    assert np.array_equal(blocks, np.broadcast_to(blocks[:, :, :1, :, :1], blocks.shape))


def test_the_specialists_share_no_digit_and_leave_none_out(split: Split) -> None:
    low, high = (split.train.only(members) for members in HALVES.values())
    assert set(low.labels.tolist()) == {0, 1, 2, 3, 4}
    assert set(high.labels.tolist()) == {5, 6, 7, 8, 9}
    assert len(low) + len(high) == len(split.train)


def test_held_out_pictures_are_written_losslessly_in_one_folder_per_label(split: Split, tmp_path: Path) -> None:
    assert write_pictures(split.held_out, tmp_path) == 599
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*")) == [
        *(f"high/{digit}" for digit in (5, 6, 7, 8, 9)),
        *(f"low/{digit}" for digit in (0, 1, 2, 3, 4)),
    ]
    written = {(np.asarray(Image.open(file)).tobytes(), int(file.parent.name)) for file in tmp_path.glob("*/*/*.png")}
    assert written == _rows(split.held_out)


def test_unlabelled_pictures_are_training_pictures_in_one_folder_whose_names_tell_no_label(
    split: Split, tmp_path: Path
) -> None:
    assert write_unlabelled(split.unlabelled, tmp_path / "unlabelled") == UNLABELLED == 400
    files = sorted((tmp_path / "unlabelled").iterdir())
    assert [file.name for file in files] == [f"{number:04}.png" for number in range(400)]
    written = [np.asarray(Image.open(file)) for file in files]
    assert np.array_equal(written, split.train.pictures[:400])
    held_out = {picture.tobytes() for picture in split.held_out.pictures}
    assert held_out.isdisjoint(picture.tobytes() for picture in written)


def test_a_drawing_has_two_characters_per_pixel_and_darker_ones_for_more_ink() -> None:
    picture = np.zeros((8, 8), np.uint8)
    picture[0] = [0, 28, 29, 57, 128, 227, 254, 255]
    lines = drawing(picture.repeat(4, axis=0).repeat(4, axis=1))
    # 255 / 9 = 28.33 levels of ink to a character: 28 is none yet, 29 one, 57 two, 128 four, 227 eight, 255 nine
    assert lines == ("    ..::==%%%%@@", *[" " * 16] * 7)


def test_readings_stand_side_by_side_and_a_wrong_answer_is_marked() -> None:
    blank = np.zeros((32, 32), np.uint8)
    full = np.full((32, 32), 255, np.uint8)
    lines = list(
        drawn([Reading(full, "3", "3", 0.984), Reading(full, "8", "1", 0.51), Reading(blank, "7", "7", 1.0)], 2)
    )
    assert lines[:8] == ["@" * 16 + "  " + "@" * 16] * 8
    assert lines[8:10] == ["3 -> 3 (98%)      8 -> 1 (51%) !", ""]
    assert lines[10:] == [*[""] * 8, "7 -> 7 (100%)", ""]
