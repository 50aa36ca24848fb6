"""The benchmark of six text tasks: what a piece is and where it goes, what is scored, which scale is chosen, how the table is ordered."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.text_tasks import packages
from benchmarks.text_tasks.compare import BASE, EXPERTS, table
from benchmarks.text_tasks.documents import documents, without_markup
from benchmarks.text_tasks.measuring import Line, best_scale
from benchmarks.text_tasks.models import head_rows
from benchmarks.text_tasks.packages import unpacked
from benchmarks.text_tasks.pieces import cut, divided
from benchmarks.text_tasks.scoring import Score, scored
from benchmarks.text_tasks.settings import ALL_LABELS, PIECE, TASKS
from benchmarks.text_tasks.trainings import BASES, HEAD_SPREAD
from benchmarks.text_tasks.ways import SCALES, ways


def test_labels_of_all_tasks_stand_side_by_side_and_none_twice() -> None:
    assert [column for task in TASKS for column in task.columns] == list(range(47))
    assert len({*ALL_LABELS}) == 47
    assert ALL_LABELS[TASKS[1].columns.start] == "code: C++"


def test_a_man_page_is_its_words_without_markup_and_without_sections_of_others() -> None:
    page = '.TH OPEN 2\n.SH NAME\nopen \\- open a \\fIfile\\fP\n.\\" a comment\n.B "int open"\nsee\n.BR creat (2)\n'
    assert without_markup(page) == "open - open a file int open see creat "


def test_the_same_page_under_two_names_is_one_document(tmp_path: Path) -> None:
    folder = tmp_path / "manpages-da" / "usr/share/man/da/man1"
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        (folder / f"{name}.1.gz").write_bytes(gzip.compress(b"words"))
    (folder / "c.1.gz").symlink_to("a.1.gz")
    assert documents("man", TASKS[0].labels[0], tmp_path) == ("words",)


def test_a_licence_text_stands_for_one_licence_whose_key_begins_with_the_label(tmp_path: Path) -> None:
    folder = tmp_path / "licences/licensedcode/data/rules"
    folder.mkdir(parents=True)
    for name, key in (("a", "gpl-2.0"), ("b", "gpl-2.0 OR mit"), ("c", "gplus"), ("d", "lgpl-2.1")):
        (folder / f"{name}.RULE").write_text(f"---\nlicense_expression: {key}\nis_license_text: yes\n---\n\n{name}")
    labels = {label.name: label for label in TASKS[5].labels}
    assert documents("licences", labels["gpl"], tmp_path) == ("\na",)
    assert documents("licences", labels["lgpl"], tmp_path) == ("\nd",)


def test_pieces_are_whole_words_and_short_ends_are_dropped() -> None:
    text = "word " * 100  # 52 words and the spaces between them are 259 characters
    assert cut(text) == ("word " * 51 + "word", "word " * 47 + "word")
    assert cut("a" * (PIECE + 1)) == ()
    assert cut("short") == ()
    line = "x" * 79
    assert cut(f"{line}\n\n\n{line}") == (f"{line}\n{line}",)


def test_no_document_is_in_two_parts() -> None:
    documents = [tuple(f"{document} {piece}" for piece in range(50)) for document in range(9)]
    found = divided(documents, {"test": 12, "train": 1000}, np.random.default_rng(0))
    assert [len(found["test"]), len(found["train"])] == [12, 6 * 20]
    homes = {part: {text.split()[0] for text in texts} for part, texts in found.items()}
    assert len(homes["test"]) == 3
    assert not homes["test"] & homes["train"]
    assert {text.split()[1] for text in found["test"]} == {"0", "10", "20", "30", "40"}


def test_rows_of_the_head_have_one_length_and_nothing_of_what_all_features_share() -> None:
    features = torch.tensor([[5.0, 1, 0], [5, 3, 0], [5, 0, 1], [5, 0, 3]])
    rows = head_rows(features, [0, 0, 4, 4])
    middle = torch.tensor([5.0, 1, 1])
    assert rows.shape == (47, 3)
    assert rows[0].norm() == pytest.approx(float(rows[4].norm()))
    assert float(rows[0] @ middle) == pytest.approx(0, abs=1e-5)
    assert rows[1].tolist() == [0, 0, 0]
    assert float((features @ rows[[0, 4]].T).std()) == pytest.approx(HEAD_SPREAD)


def test_accuracy_is_among_the_labels_of_a_task_and_hits_among_all() -> None:
    logits = torch.zeros(2, 47)
    logits[:, 0] = 2.0  # a label of another task
    logits[0, 8], logits[1, 9], logits[1, 8] = 1.0, 0.5, 1.0
    found = scored({TASKS[1]: (logits, [8, 9])})
    assert found.accuracy == {"code": 0.5}
    assert found.hits == {1: 0.0, 3: 1.0, 5: 1.0}
    assert found.normalised({"code": 0.8}) == pytest.approx(0.625)


def test_of_equally_good_scales_the_smallest_is_chosen() -> None:
    assert best_scale({1.0: 0.7, 0.3: 0.7, 0.5: 0.6}) == 0.3


def test_the_best_merge_comes_first_after_experts_and_base() -> None:
    def line(share: float, **more: float) -> Line:
        return Line(Score({"code": share}, {1: share / 2}), **more)  # type: ignore[arg-type]

    found = {
        seed: {
            BASE: line(0.2),
            EXPERTS: line(0.8),
            "linear": line(0.4, seconds=2.0, bytes=3_000_000),
            "ties": Line(
                Score({"code": 0.6}, {1: 0.5}), 0.3 + seed, Score({"code": 0.4}, {1: 0.5}), {}, 1.0, 2_000_000
            ),
        }
        for seed in (0, 1)
    }
    rows = table(BASES[0], BASES[0].trainings[0], found, {}).rows
    assert [row[0] for row in rows] == [EXPERTS, BASE, "ties", "linear"]
    assert rows[2] == (
        "ties", "60.0", "60.0 ± 0.0", "75.0 ± 0.0", "50.0 ± 0.0", "0.3 1.3", "50.0 ± 0.0", "1.0", "2",
    )  # fmt: skip
    assert rows[3][-4:] == ("-", "-", "2.0", "3")


def test_a_line_that_fewer_seeds_have_names_them() -> None:
    def line(share: float) -> Line:
        return Line(Score({"code": share}, {1: share}))

    both = {BASE: line(0.2), EXPERTS: line(0.8)}
    rows = table(BASES[0], BASES[0].trainings[0], {0: both, 2: {**both, "linear": line(0.4)}}, {}).rows
    assert [row[0] for row in rows] == [EXPERTS, BASE, "linear (seed 2)"]
    assert rows[2][3] == "50.0"


def test_a_package_that_cannot_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(command: list[str], folder: Path) -> None:
        raise RuntimeError(f"{command[-1]} into {folder.name}")

    monkeypatch.setattr(packages, "_run", refused)
    with pytest.raises(RuntimeError, match=r"^manpages-da into deb$"):
        unpacked(tmp_path, TASKS[:1])


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_every_way_is_named_once_and_scales_hold_the_default(kind: str) -> None:
    keys = [way.key for way in ways("full" if kind == "full" else "lora")]
    assert len({*keys}) == len(keys)
    assert 1.0 in SCALES
