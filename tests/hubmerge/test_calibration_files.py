"""Which files a calibration set is made of, and which rows of it are drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from calibration_data import png, write

from hubmerge import PlanError
from hubmerge.calibration.draw import drawn
from hubmerge.calibration.files import find_files
from hubmerge.recipe_calibration import Calibration


def found(folder: Path, data: str = "", split: str = "train") -> tuple[str, list[str]]:
    """The kind of the files and their names, seen from `folder`."""
    files = find_files(Calibration(data=f"{folder}/{data}", split=split))
    assert files is not None
    return files.kind, [file.relative_to(folder).as_posix() for file in files.files]


def fault(folder: Path, data: str = "", split: str = "train") -> str:
    with pytest.raises(PlanError) as refused:
        find_files(Calibration(data=f"{folder}/{data}", split=split))
    return str(refused.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jsonl", "json"), ("a.json", "json"), ("a.CSV", "csv"), ("a.parquet", "parquet"), ("a.txt", "text"), ("a.npz", "npz")],
)  # fmt: skip
def test_a_file_is_what_its_name_ends_in(tmp_path: Path, name: str, kind: str) -> None:
    write(tmp_path / name, "")
    assert found(tmp_path, name) == (kind, [name])


def test_a_folder_of_images_is_flat_or_by_class(tmp_path: Path) -> None:
    write(tmp_path / "flat" / "b.png", png(0))
    write(tmp_path / "flat" / "a.JPG", png(0))
    write(tmp_path / "flat" / ".hidden.png", png(0))
    write(tmp_path / "flat" / "notes.md", "")
    for name in ("cat/1.png", "dog/1.png"):
        write(tmp_path / "classes" / name, png(0))
    assert found(tmp_path, "flat") == ("images", ["flat/a.JPG", "flat/b.png"])
    assert found(tmp_path, "classes") == ("images", ["classes/cat/1.png", "classes/dog/1.png"])


def test_a_split_is_a_folder_or_the_files_of_its_name(tmp_path: Path) -> None:
    for name in ("pictures/train/cat/1.png", "pictures/test/cat/2.png"):
        write(tmp_path / name, png(0))
    for name in ("data/train-0-of-2.parquet", "data/train-1-of-2.parquet", "data/test-0-of-1.parquet"):
        write(tmp_path / "rows" / name, "")
    for name in ("train.jsonl", "test.jsonl"):
        write(tmp_path / "lines" / name, "")
    assert found(tmp_path, "pictures") == ("images", ["pictures/train/cat/1.png"])
    assert found(tmp_path, "pictures", "test") == ("images", ["pictures/test/cat/2.png"])
    assert found(tmp_path, "rows") == ("parquet", [f"rows/data/train-{i}-of-2.parquet" for i in (0, 1)])
    assert found(tmp_path, "lines", "test") == ("json", ["lines/test.jsonl"])
    assert fault(tmp_path, "rows", "val") == "no split 'val' in rows · calibration.split · one of test, train"
    assert fault(tmp_path, "pictures", "val") == "no split 'val' in pictures · calibration.split · one of test, train"


def test_other_splits_alone_are_not_taken_for_the_one_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "test" / "cat" / "1.png", png(0))
    assert fault(tmp_path) == f"no split 'train' in {tmp_path.name} · calibration.split · one of test"


def test_a_folder_without_splits_has_only_the_default_one(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "")
    write(tmp_path / "b.csv", "")
    assert found(tmp_path) == ("csv", ["a.csv", "b.csv"])
    assert fault(tmp_path, split="test") == f"no split 'test' in {tmp_path.name} · calibration.split · leave split out"
    what = "a file has no split 'test' · calibration.split · name the file of that split in data"
    assert fault(tmp_path, "a.csv", "test") == what


def test_what_is_no_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = ".jsonl, .json, .csv, .parquet, .txt, .npz"
    assert fault(tmp_path, "none.txt") == (
        f"none.txt does not exist · calibration.data · looked from {tmp_path}; name a file, a folder, or a dataset on the Hub"
    )
    write(tmp_path / "a.bin", "")
    assert fault(tmp_path, "a.bin") == f"a.bin is of no known kind · calibration.data · one of {kinds}"
    (tmp_path / "empty").mkdir()
    assert fault(tmp_path, "empty") == (
        f"no images and no data files are in empty · calibration.data · data files end in {kinds}"
    )
    write(tmp_path / "mixed" / "a.png", png(0))
    write(tmp_path / "mixed" / "a.csv", "")
    assert fault(tmp_path, "mixed") == (
        "both images and a.csv are in mixed · calibration.data · name a.csv itself in data, or move it away"
    )
    write(tmp_path / "kinds" / "a.csv", "")
    write(tmp_path / "kinds" / "a.txt", "")
    assert fault(tmp_path, "kinds") == (
        "files of 2 kinds (csv, text) are in kinds · calibration.data · name one file in data"
    )


def test_a_name_is_a_folder_s_where_there_is_one_and_else_the_hub_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_files(Calibration(data="org/set")) is None
    write(tmp_path / "org" / "set" / "a.txt", "")
    files = find_files(Calibration(data="org/set"))
    assert files is not None
    assert files.files == (Path("org/set/a.txt"),)
    assert find_files(Calibration(data="org/set@main")) is None


def test_rows_are_drawn_once_each_in_their_order_and_the_same_for_the_same_seed() -> None:
    first = drawn(range(1000), 100, seed=0)
    assert len(set(first)) == 100
    assert list(first) == sorted(first)
    assert drawn(range(1000), 100, seed=0) == first
    assert drawn(range(1000), 100, seed=1) != first
    assert drawn(range(5), 5, seed=3) == drawn(range(5), 9, seed=3) == (0, 1, 2, 3, 4)
    assert drawn((), 5, seed=0) == ()


def test_every_row_is_drawn_alike() -> None:
    # 2 of 6 rows, 3,000 times: each row 1,000 times but for chance, of which 100 are 3.9 standard deviations
    counts = Counter(row for seed in range(3000) for row in drawn(range(6), 2, seed))
    assert all(900 < counts[row] < 1100 for row in range(6))
