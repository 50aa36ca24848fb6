"""Calibration data as models take it: numbers by hand, the same every time, whatever the batches."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from calibration_data import image_model, lines, opened, png, text_model, write

from hubmerge import MergeError, PlanError
from hubmerge.calibration import Batches
from hubmerge.calibration.samples import Row, sample_of


def texts(folder: Path, count: int) -> Path:
    return lines(folder / "texts.jsonl", *({"text": "one " * (1 + i % 3)} for i in range(count)))


def numbers(batches: Batches, name: str) -> list[list[float]]:
    return [batch[name].flatten().tolist() for batch in batches]


def test_texts_are_cut_at_the_model_s_positions_and_padded_on_the_right(tmp_path: Path) -> None:
    data = write(tmp_path / "a.txt", "one two three and is\n\nthree is nothing\n")
    (batch,) = opened(text_model(tmp_path / "m"), data)
    assert batch["input_ids"].tolist() == [[3, 4, 5, 6], [5, 7, 2, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    (short,) = opened(tmp_path / "m", data, max_length=2)
    assert short["input_ids"].tolist() == [[3, 4], [5, 7]]


def test_images_go_through_the_processor_in_as_many_channels_as_the_model_has(tmp_path: Path) -> None:
    write(tmp_path / "pictures" / "a" / "1.png", png(0, 51, 204, 255))
    (batch,) = opened(image_model(tmp_path / "grey"), tmp_path / "pictures")
    np.testing.assert_allclose(batch["pixel_values"].numpy(), [[[[-1, -0.6], [0.6, 1]]]], rtol=1e-6)
    (batch,) = opened(image_model(tmp_path / "colour", num_channels=3), tmp_path / "pictures")
    assert batch["pixel_values"].shape == (1, 3, 2, 2)


def test_arrays_of_bytes_are_pictures_and_arrays_of_floats_are_what_the_model_is_given(tmp_path: Path) -> None:
    pixels = np.arange(8, dtype=np.float64).reshape(2, 1, 2, 2)
    images = np.array([[[0, 51], [204, 255]]], np.uint8)
    np.savez(tmp_path / "a.npz", pixel_values=pixels, images=images, flat=images[..., None])
    model = image_model(tmp_path / "m")
    assert numbers(opened(model, tmp_path / "a.npz", column="pixel_values"), "pixel_values") == [list(range(8))]
    for name in ("images", "flat"):
        (batch,) = opened(model, tmp_path / "a.npz", column=name)
        np.testing.assert_allclose(batch["pixel_values"].numpy(), [[[[-1, -0.6], [0.6, 1]]]], rtol=1e-6)


def test_numbers_in_a_column_are_what_the_model_is_given(tmp_path: Path) -> None:
    data = lines(tmp_path / "a.jsonl", {"pixel_values": [[[1, 2], [3, 4]]]}, {"pixel_values": [[[5, 6], [7, 8]]]})
    assert numbers(opened(image_model(tmp_path / "m"), data), "pixel_values") == [[1, 2, 3, 4, 5, 6, 7, 8]]
    uneven = lines(tmp_path / "b.jsonl", {"pixel_values": [[[1, 2], [3, 4]]]}, {"pixel_values": [[[1, 2], [3]]]})
    with pytest.raises(PlanError) as refused:
        opened(tmp_path / "m", uneven)
    assert str(refused.value) == (
        "row 1 of b.jsonl holds no numbers in the shape (channels, height, width) · calibration.data · "
        "name a column of texts or images"
    )


def test_batches_can_be_gone_through_again_and_are_the_same(tmp_path: Path) -> None:
    batches = opened(text_model(tmp_path / "m"), texts(tmp_path, 10), batch=4)
    first = numbers(batches, "input_ids")
    assert [len(batch["input_ids"]) for batch in batches] == [4, 4, 2]
    assert numbers(batches, "input_ids") == first
    assert numbers(opened(tmp_path / "m", tmp_path / "texts.jsonl", batch=4), "input_ids") == first
    assert len(batches) == 10


def test_batches_that_were_left_halfway_begin_anew(tmp_path: Path) -> None:
    batches = opened(text_model(tmp_path / "m"), texts(tmp_path, 10), batch=4)
    next(iter(batches))
    assert len(list(batches)) == 3


def test_batches_too_large_to_keep_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = opened(text_model(tmp_path / "m"), texts(tmp_path, 10), batch=4)
    monkeypatch.setattr("hubmerge.calibration.batches._KEPT", 1)
    first, second = list(batches), list(batches)
    assert all(a["input_ids"] is not b["input_ids"] for a, b in zip(first, second, strict=True))
    assert [a["input_ids"].tolist() for a in first] == [b["input_ids"].tolist() for b in second]


def test_the_digest_is_of_what_was_drawn_whatever_the_batches(tmp_path: Path) -> None:
    model, data = text_model(tmp_path / "m"), write(tmp_path / "a.txt", "one\n\ntwo é\n")
    expected = hashlib.sha256(b"text 3\0one" + b"text 6\0two " + "é".encode()).hexdigest()
    assert opened(model, data).digest == opened(model, data, batch=1).digest == expected
    many = texts(tmp_path, 100)
    drawn = {opened(model, many, samples=10, seed=seed).digest for seed in (0, 0, 1)}
    assert len(drawn) == 2


def test_the_digest_of_images_is_of_their_files_and_of_arrays_of_type_shape_and_numbers(tmp_path: Path) -> None:
    model, file = image_model(tmp_path / "m"), png(7)
    write(tmp_path / "pictures" / "1.png", file)
    expected = hashlib.sha256(f"image {len(file)}\0".encode() + file).hexdigest()
    assert opened(model, tmp_path / "pictures").digest == expected
    array = np.ones((1, 1, 2, 1), np.float32)
    np.savez(tmp_path / "a.npz", pixel_values=array)
    expected = hashlib.sha256(b"<f4(1, 2, 1) 8\0" + array.tobytes()).hexdigest()
    assert opened(model, tmp_path / "a.npz").digest == expected


def test_an_image_that_is_none_is_told_by_name(tmp_path: Path) -> None:
    write(tmp_path / "pictures" / "1.png", png(7))
    write(tmp_path / "pictures" / "2.png", png(7)[:40])
    batches = opened(image_model(tmp_path / "m"), tmp_path / "pictures")
    with pytest.raises(MergeError) as refused:
        list(batches)
    assert str(refused.value).startswith("2.png is no image that can be opened (")
    assert (refused.value.where, refused.value.hint) == ("calibration", "mend it, or remove it from the data")


@pytest.mark.parametrize("address", ["{}", "file://{}", "zip://a::file://{}", "hf://datasets/a/b::file://{}"])
def test_a_row_of_a_stranger_names_no_file_of_this_machine(tmp_path: Path, address: str) -> None:
    named = address.format(write(tmp_path / "private.png", png(7)))
    with pytest.raises(PlanError) as refused:
        sample_of(Row("row 0", {"bytes": None, "path": named}), "image", root=None)
    assert refused.value.message.startswith("row 0 names an image that cannot be read: ")
    assert refused.value.hint == "choose another dataset, or save it with its images inside"


def test_a_row_unlike_the_first_is_told_by_its_number(tmp_path: Path) -> None:
    data = lines(tmp_path / "a.jsonl", {"text": "one"}, {"text": 5})
    with pytest.raises(PlanError) as refused:
        opened(text_model(tmp_path / "m"), data)
    assert str(refused.value) == (
        "row 1 of a.jsonl is no text, as the rows before it are: 5 · calibration.data · "
        "remove the row, or name another column"
    )


def test_a_tokenizer_of_another_model_is_told(tmp_path: Path) -> None:
    batches = opened(text_model(tmp_path / "m", vocab_size=6), write(tmp_path / "a.txt", "one\nthree is\n"))
    with pytest.raises(MergeError) as refused:
        list(batches)
    assert str(refused.value) == (
        "the tokenizer makes token 7 of row 1 of a.txt, and the model has rows for 6 tokens · calibration · "
        "is it the model's own tokenizer?"
    )


def test_a_tokenizer_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    write(text_model(tmp_path / "m") / "tokenizer.json", "{")
    with pytest.raises(PlanError) as refused:
        opened(tmp_path / "m", write(tmp_path / "a.txt", "one"))
    assert str(refused.value).startswith(f"the tokenizer of {tmp_path}/m cannot be loaded (")
    assert refused.value.hint == "save the tokenizer again with save_pretrained"
