"""What a person types for a model, and the short name that everyone may read."""

from __future__ import annotations

import pytest

from cards.names import as_folder, reference_from, short_name, short_names
from zoo_index import ModelRef, ReferenceFormatError


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("models/low", "lora", "a+b", "x/y/z"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("typed", ["models/low", "models/low/", "lora", "x/y/z", "./lora"])
def test_an_existing_folder_is_a_folder_however_it_is_spelt(here, typed):
    reference = reference_from(typed)
    assert reference.is_local
    assert reference.path.resolve() == (here / typed).resolve()


@pytest.mark.parametrize(
    ("typed", "reference"),
    [
        ("./gone", "./gone"),
        ("org/name@v1", "org/name@v1"),
        ("org/name+lora", "org/name+./lora"),
        ("models/low+org/lora@main", "./models/low+org/lora@main"),
    ],
)
def test_anything_else_is_a_reference(here, typed, reference):
    assert str(reference_from(typed)) == reference


def test_a_folder_with_a_plus_in_its_name_is_one_folder(here):
    assert reference_from("a+b") == ModelRef("./a+b")


def test_a_path_is_always_a_folder(here):
    assert reference_from(here / "lora").is_local
    assert as_folder("lora") == "./lora"


@pytest.mark.parametrize("typed", ["", "org/name+a+b", "+lora", "not a name"])
def test_what_names_nothing_is_refused(here, typed):
    with pytest.raises(ReferenceFormatError):
        reference_from(typed)


def test_short_names_hold_no_path_and_are_told_apart(here):
    references = [ModelRef("./models/low"), ModelRef("org/low"), ModelRef("/other/low"), ModelRef(".")]
    assert short_names(references) == ["low", "org/low", "low (2)", here.name]
    assert short_name(ModelRef("org/base", None, ModelRef("./lora"))) == "org/base+lora"
