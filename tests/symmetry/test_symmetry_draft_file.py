"""A table as a file: written, read back as data, and never run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hubmerge.symmetry import SymmetryError, load_spec
from hubmerge.symmetry.draft_file import family_file, read_family, write_family
from zoo_index.families import FAMILIES, Family
from zoo_index.families.family import Family as Record

HINT = "a table is a file as `hubmerge symmetry draft` writes it; see zoo_index/families/family.py"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_is_read_as_it_was_written(family: Family, tmp_path: Path) -> None:
    write_family(tmp_path / "table.py", family_file(family, "A table."))
    found = read_family(tmp_path / "table.py")
    assert (found.loops, found.defaults, found.aliases) == (family.loops, family.defaults, family.aliases)
    for one, other in ((found.groups, family.groups), (found.tensors, family.tensors)):
        assert [line.split() for line in one.strip().splitlines()] == [
            line.split() for line in other.strip().splitlines()
        ]


def test_what_a_file_does_beside_its_table_is_not_done(tmp_path: Path) -> None:
    text = family_file(Record("toy", ("toy",), "unit  permutation  width", "a.weight  unit", {}), "A toy.")
    write_family(tmp_path / "table.py", f"{text}\nopen({str(tmp_path / 'done')!r}, 'w')\n")
    assert read_family(tmp_path / "table.py").name == "toy"
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Family(name=open)",
            "the table is not in the notation (ValueError: malformed node or string on line 1: <ast.Name object>)",
        ),
        ("x = (", "the table cannot be read ('(' was never closed (<unknown>, line 1))"),
        ("x = 1", "no Family is in the file"),
        (
            "Family(name='t', model_types=(), loops={}, groups='a  permutation  9 ** 9', tensors='')",
            "the table is not in the notation (ValueError: '9 ** 9' is no expression of a table)",
        ),
        (
            "Family(name='t', model_types=(), loops={}, groups='a  turned  9', tensors='')",
            "the table is not in the notation (ValueError: 'turned' is not a valid Kind)",
        ),
    ],
)
def test_a_file_that_is_no_table_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "table.py"
    path.write_text(text)
    with pytest.raises(SymmetryError) as refused:
        read_family(path)
    assert (re.sub(r" object at \w+", " object", refused.value.message), refused.value.where, refused.value.hint) == (
        message,
        str(path),
        HINT,
    )


def test_a_table_is_not_used_for_another_architecture(tmp_path: Path) -> None:
    with pytest.raises(SymmetryError) as refused:
        load_spec({"model_type": "opt"}, {}, where="./model", family=FAMILIES[0])
    assert str(refused.value) == (
        "the symmetry table bert is for bert, the model is 'opt' · ./model · use the table of the model's architecture"
    )


def test_a_file_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "table.py").write_text("mine")
    with pytest.raises(SymmetryError) as refused:
        write_family(tmp_path / "table.py", "")
    assert (
        str(refused.value) == f"the table cannot be written (File exists) · {tmp_path / 'table.py'} · name a new file"
    )
