"""What is told of calibration data before weights are read, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibration_data import checked, image_model, lines, png, text_model, write

from hubmerge import PlanError
from hubmerge.calibration import CalibrationFacts

SAVED = "save the {} into the model's folder (expected {}), or name data of {}"


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    return text_model(tmp_path / "reader")


@pytest.fixture
def viewer(tmp_path: Path) -> Path:
    return image_model(tmp_path / "viewer")


def fault(model: Path, data: Path, **calibration: Any) -> str:
    with pytest.raises(PlanError) as refused:
        checked(model, data, **calibration)
    return str(refused.value).replace(f"{data.parent}/", "").replace(str(model), model.name)


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("a.jsonl", '{"text": "one"}\n\n{"text": "two"}\n', "text"),
        ("a.json", ' [{"label": 1, "sentence": "one"}, {"sentence": "two"}]', "sentence"),
        ("a.csv", 'label,content\n1,"one, and two"\n2,NA\n', "content"),
        ("a.txt", "one\n \ntwo", "text"),
    ],
)
def test_texts_are_found_in_every_kind_of_file(
    tmp_path: Path, reader: Path, name: str, content: str, column: str
) -> None:
    data = write(tmp_path / name, content)
    assert checked(reader, data, samples=2, max_length=4) == CalibrationFacts("text", column, 2, None, ())


def test_texts_and_images_are_found_in_parquet_by_what_the_model_takes(
    tmp_path: Path, reader: Path, viewer: Path
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(
        {"text": ["one", "two"], "image": [{"bytes": png(0), "path": None}, {"bytes": png(1), "path": None}]}
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    assert checked(reader, tmp_path / "a.parquet", samples=2, max_length=4).column == "text"
    assert checked(viewer, tmp_path / "a.parquet", samples=2) == CalibrationFacts("image", "image", 2, None, ())


def test_images_are_found_by_name_beside_the_file_that_names_them(tmp_path: Path, viewer: Path) -> None:
    write(tmp_path / "pictures" / "1.png", png(0))
    data = lines(tmp_path / "a.jsonl", {"img": "pictures/1.png", "label": 3})
    assert checked(viewer, data, samples=1) == CalibrationFacts("image", "img", 1, None, ())
    outside = lines(tmp_path / "sets" / "a.jsonl", {"img": "../pictures/1.png"})
    hint = "images are named relative to the data file, and lie beside or below it"
    assert (
        fault(viewer, outside)
        == f"row 0 of a.jsonl names no image file: '../pictures/1.png' · calibration.data · {hint}"
    )


def test_fewer_samples_than_asked_for_and_texts_that_are_cut_are_told(tmp_path: Path, reader: Path) -> None:
    data = lines(tmp_path / "a.jsonl", {"text": "one"}, {"text": "  "}, {"text": None}, {"text": "two"})
    assert checked(reader, data) == CalibrationFacts(
        kind="text", column="text", samples=2, commit=None,
        notes=(
            f"calibration: {data} has 2 of the 256 samples that were asked for",
            "calibration: texts are cut at 4 tokens, which is all that the base model takes",
        ),
    )  # fmt: skip


def test_arrays_are_pictures_or_what_the_model_is_given_by_their_type(tmp_path: Path, viewer: Path) -> None:
    data = tmp_path / "a.npz"
    np.savez(
        data, images=np.zeros((3, 2, 2), np.uint8), pixel_values=np.zeros((2, 1, 2, 2), np.float32), y=np.arange(3)
    )
    assert checked(viewer, data, samples=1) == CalibrationFacts("image", "images", 1, None, ())
    pixels = CalibrationFacts("pixels", "pixel_values", 1, None, ())
    assert checked(viewer, data, samples=1, column="pixel_values") == pixels
    (viewer / "preprocessor_config.json").unlink()
    assert checked(viewer, data, samples=1) == pixels
    hint = "float32 (n, c, h, w) is what the model is given; uint8 (n, h, w) or (n, h, w, c) are pictures"
    assert fault(viewer, data, column="y") == f"y of a.npz is int64 of shape (3,) · calibration.column · {hint}"


def test_pixels_that_the_model_cannot_take_are_refused(tmp_path: Path, reader: Path, viewer: Path) -> None:
    hint = "pixels are finite numbers (channels, height, width), all of one size"
    np.savez(tmp_path / "a.npz", pixel_values=np.zeros((2, 3, 2, 2), np.float32))
    assert fault(viewer, tmp_path / "a.npz") == (
        f"row 0 of a.npz has 3 channels, and the model takes 1 · calibration.data · {hint}"
    )
    np.savez(tmp_path / "b.npz", pixel_values=np.full((2, 1, 2, 2), np.nan, np.float32))
    assert (
        fault(viewer, tmp_path / "b.npz")
        == f"row 0 of b.npz has a number that is not finite · calibration.data · {hint}"
    )
    what = "reader reads texts, and the calibration data is pixels · calibration.data · name data of texts"
    assert fault(reader, tmp_path / "a.npz") == what


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["CLIPForImageClassification"]},  # of a model of both, whose config it keeps
        {"architectures": ["CLIPVisionModel"], "vocab_size": None, "num_channels": 3},
    ],
)
def test_texts_are_refused_for_a_model_of_pictures_that_has_a_tokenizer(config: dict[str, Any], tmp_path: Path) -> None:
    folder = text_model(tmp_path / "towers", **config)
    what = "towers reads images, and the calibration data is texts · calibration.data"
    assert fault(folder, lines(tmp_path / "a.jsonl", {"text": "one"})) == (
        f"{what} · name data of images, or .npz with pixel_values"
    )


def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path: Path, reader: Path) -> None:
    data = lines(tmp_path / "a.jsonl", {"body": "one", "label": 1})
    assert fault(reader, data) == (
        "no column of a.jsonl is called text, sentence, content or the like · calibration.column · "
        "the columns are body, label; name one in column"
    )
    assert fault(reader, data, column="txt") == (
        "a.jsonl has no column 'txt' · calibration.column · the columns are body, label"
    )
    assert fault(reader, data, column="label") == (
        "column 'label' of a.jsonl holds neither texts nor images: 1 · calibration.column · name another column"
    )


def test_data_that_the_model_has_nothing_to_prepare_with_is_refused(tmp_path: Path, reader: Path) -> None:
    text, picture = write(tmp_path / "a.txt", "one"), write(tmp_path / "pictures" / "a.png", png(0)).parent
    hint = SAVED.format("tokenizer", "tokenizer.json", "images")
    (reader / "tokenizer.json").unlink()
    (reader / "tokenizer_config.json").unlink()
    assert (
        fault(reader, text) == f"reader has no tokenizer, and the calibration data is texts · calibration.data · {hint}"
    )
    hint = SAVED.format("image processor", "preprocessor_config.json", "texts, or .npz with pixel_values")
    assert fault(reader, picture) == (
        f"reader has no image processor, and the calibration data is images · calibration.data · {hint}"
    )


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.txt", "\n \n", "a.txt has nothing in column 'text' · calibration.data · name other data, or another column"),
        ("a.jsonl", "", ("no column of a.jsonl is called text, sentence, content or the like · calibration.column · "
         "it has no columns; name one in column")),
        ("a.jsonl", '{"text": ', ("a.jsonl cannot be read (Expecting value: line 1 column 10 (char 9)) · calibration.data · "
         "is it what its ending says, and readable?")),
        ("a.jsonl", '"one"\n', ("row 0 of a.jsonl is no mapping of columns to values: 'one' · calibration.data · "
         'write each row like {"text": "..."}')),
        ("a.json", '{\n  "text": "one"\n}\n', ("a.json is neither a list of rows nor a row on every line · calibration.data · "
         'write [{"text": "..."}, ...], or a line {"text": "..."} for every row')),
        ("a.csv", "", ("a.csv cannot be read (No columns to parse from file) · calibration.data · "
         "is it what its ending says, and readable?")),
    ],
)  # fmt: skip
def test_a_file_without_texts_is_refused(tmp_path: Path, reader: Path, name: str, content: str, what: str) -> None:
    assert fault(reader, write(tmp_path / name, content)) == what


def test_a_dataset_on_the_hub_is_out_of_reach_offline(tmp_path: Path, reader: Path) -> None:
    with pytest.raises(PlanError) as refused:
        checked(reader, "org/set")
    assert str(refused.value) == (
        "there is no folder org/set here, and HF_HUB_OFFLINE is set, so that datasets on the Hub are out of reach · "
        "calibration.data · `hf download org/set --repo-type dataset --local-dir data` fetches it; then write data: ./data"
    )


def test_the_check_needs_neither_torch_nor_transformers_nor_datasets(tmp_path: Path) -> None:
    text_model(tmp_path / "reader")
    write(tmp_path / "a.txt", "one")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from calibration_data import checked\n"
        "assert checked(Path('./reader'), './a.txt').samples == 1\n"
        "assert not {'torch', 'transformers', 'datasets', 'numba', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], cwd=tmp_path, check=True)
