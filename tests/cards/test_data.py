"""Data of tasks: which files, which rows, which label names, which digest."""

from __future__ import annotations

import hashlib

import pytest
from card_builders import pictures, rows

from cards import Suite, SuiteError, Task
from cards.data import open_task_data


def _open(folder, **task):
    suite = Suite(name="s", seed=task.pop("seed", 0), tasks=(Task(name="t", **task),)).at(folder)
    return open_task_data(suite, suite.tasks[0])


def _fault(folder, **task):
    with pytest.raises(SuiteError) as caught, _open(folder, **task):
        pass
    return str(caught.value)


def test_an_image_folder_gives_pictures_with_the_names_of_their_folders(tmp_path):
    pictures(tmp_path / "zoo", {"owl": 1, "cat": 2})
    with _open(tmp_path, task="image-classification", data="zoo") as data:
        assert data.labels == ("cat", "cat", "owl")
        assert data.label_set == ("cat", "owl")
        assert data.rows[0]["image"].size == (8, 8)


def test_the_digest_is_over_names_and_bytes_sorted_by_name(tmp_path):
    rows(tmp_path / "a.jsonl", {"text": "x", "label": "good"})
    inner = hashlib.sha256((tmp_path / "a.jsonl").read_bytes()).hexdigest()
    with _open(tmp_path, task="text-classification", data="a.jsonl") as data:
        assert data.sha256 == hashlib.sha256(f"a.jsonl\0{inner}\n".encode()).hexdigest()


def test_the_digest_does_not_depend_on_where_the_folder_lies(tmp_path):
    digests = set()
    for place in ("here", "there"):
        pictures(tmp_path / place / "zoo", {"cat": 1})
        with _open(tmp_path / place, task="image-classification", data="zoo") as data:
            digests.add(data.sha256)
    assert len(digests) == 1


def test_a_split_is_a_subfolder_or_a_file_of_that_name(tmp_path):
    pictures(tmp_path / "zoo" / "train", {"cat": 2})
    pictures(tmp_path / "zoo" / "test", {"owl": 1})
    rows(tmp_path / "texts-train.jsonl", {"text": "x"})
    (tmp_path / "texts").mkdir()
    rows(tmp_path / "texts" / "test.jsonl", {"text": "x", "label": "good"})
    rows(tmp_path / "texts" / "train.jsonl", {"text": "y", "label": "bad"})

    with _open(tmp_path, task="image-classification", data="zoo", split="test") as data:
        assert data.labels == ("owl",)
    with _open(tmp_path, task="text-classification", data="texts", split="train") as data:
        assert data.labels == ("bad",)
    no_split = _fault(tmp_path, task="image-classification", data="zoo")
    assert no_split == "the data has splits (test, train) · task 't' · add split: test"
    wrong = _fault(tmp_path, task="text-classification", data="texts", split="dev")
    assert wrong == "no split 'dev' in texts · task 't' · one of test, train"


def test_a_sample_is_drawn_with_the_seed_and_kept_in_file_order(tmp_path):
    rows(tmp_path / "a.jsonl", *({"text": f"{n}", "label": f"{n:02}"} for n in range(50)))

    def sample(seed):
        with _open(tmp_path, task="text-classification", data="a.jsonl", samples=10, seed=seed) as data:
            return data.labels

    assert sample(1) == sample(1) != sample(2)
    assert len(sample(1)) == 10
    assert list(sample(1)) == sorted(sample(1))


def test_whole_numbers_are_labels_by_their_digits(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nx,7\ny,0\n")
    with _open(tmp_path, task="text-classification", data="a.csv") as data:
        assert data.labels == ("7", "0")


def test_numbers_that_the_data_itself_names_are_labels_by_those_names(tmp_path):
    from datasets import ClassLabel, Dataset

    table = Dataset.from_dict({"text": ["x", "y"], "label": [1, 0]})
    table.cast_column("label", ClassLabel(names=["bad", "good"])).to_parquet(tmp_path / "a.parquet")
    with _open(tmp_path, task="text-classification", data="a.parquet") as data:
        assert data.labels == ("good", "bad")


def test_pictures_can_be_named_in_rows(tmp_path):
    pictures(tmp_path / "zoo", {"cat": 1, "owl": 1})
    rows(tmp_path / "a.jsonl", {"image": "zoo/owl/000.png", "label": "owl"})
    with _open(tmp_path, task="image-classification", data="a.jsonl") as data:
        assert data.rows[0]["image"].size == (8, 8)
        with_pictures = data.sha256
    (tmp_path / "zoo/owl/000.png").write_bytes((tmp_path / "zoo/cat/000.png").read_bytes())
    with _open(tmp_path, task="image-classification", data="a.jsonl") as data:
        assert data.sha256 != with_pictures


def test_a_picture_outside_the_data_is_refused(tmp_path):
    pictures(tmp_path / "zoo", {"cat": 1})
    (tmp_path / "inner").mkdir()
    rows(tmp_path / "inner" / "a.jsonl", {"image": "../zoo/cat/000.png", "label": "cat"})
    assert _fault(tmp_path, task="image-classification", data="inner/a.jsonl") == (
        "row 0 names no image file: '../zoo/cat/000.png' · task 't' · "
        "images are named relative to the data file, and lie beside or below it"
    )


def test_a_text_file_is_one_document(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    with _open(tmp_path, task="perplexity", data="a.txt") as data:
        assert list(data.rows["text"]) == ["one\n\ntwo\n"]


@pytest.mark.parametrize(
    ("content", "task", "fault"),
    [
        (
            '{"words": "x", "label": "a"}',
            {},
            "no column 'text' · task 't' · the columns are words, label; set text_column",
        ),
        (
            '{"text": "x", "label": 0.5}',
            {},
            "row 0 has label 0.5, which is no name · task 't' · write label names as text in column 'label'",
        ),
        (
            '{"text": "", "label": "a"}',
            {},
            "row 0 has no text in column 'text' · task 't' · remove the row, or set text_column",
        ),
        (
            '{"text": "x"}',
            {"split": "test"},
            "a file has no split 'test' · task 't' · name the file of that split in data",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_refused_by_number(tmp_path, content, task, fault):
    (tmp_path / "a.jsonl").write_text(content + "\n")
    assert _fault(tmp_path, task="text-classification", data="a.jsonl", **task) == fault


def test_broken_json_is_refused_and_names_the_file(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"\n{')
    fault = _fault(tmp_path, task="perplexity", data="a.jsonl")
    assert fault.startswith("the files cannot be read as json (")
    assert fault.endswith("· task 't' · check a.jsonl")


def test_pictures_loose_in_the_folder_have_no_label(tmp_path):
    pictures(tmp_path / "zoo", {"cat": 1})
    (tmp_path / "zoo/cat/000.png").rename(tmp_path / "zoo/000.png")
    fault = _fault(tmp_path, task="image-classification", data="zoo")
    assert fault == "image 000.png is not in a subfolder named after its label · task 't' · LABEL/image.png"


def test_nothing_stays_behind_in_the_cache_of_datasets(tmp_path, monkeypatch):
    import datasets

    rows(tmp_path / "a.jsonl", {"text": "x"})
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    with _open(tmp_path, task="perplexity", data="a.jsonl") as data:
        assert len(data.rows) == 1
    assert not (tmp_path / "cache").exists()
