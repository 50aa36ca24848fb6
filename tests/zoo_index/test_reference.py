"""How a model is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo_index import ModelRef, PinnedRef, ReferenceFormatError

hub_parts = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9_])?", fullmatch=True)
hub_names = st.one_of(hub_parts, st.tuples(hub_parts, hub_parts).map("/".join))
revisions = st.one_of(st.none(), st.from_regex(r"[A-Za-z0-9._-]{1,10}", fullmatch=True))
folders = st.tuples(st.sampled_from(["./", "../", "/", "~/"]), hub_parts).map("".join)
hub_refs = st.builds(ModelRef.of, hub_names, revisions)
references = st.one_of(hub_refs, folders.map(ModelRef.of))


@given(references, st.one_of(st.none(), references))
def test_a_reference_printed_and_parsed_is_the_same(base: ModelRef, adapter: ModelRef | None) -> None:
    whole = ModelRef(base.name, base.revision, adapter)
    assert ModelRef.parse(str(whole)) == whole


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_refused_by_our_own_error(text: str) -> None:
    try:
        reference = ModelRef.parse(text)
    except ReferenceFormatError:
        return
    assert ModelRef.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "name", "revision", "adapter"),
    [
        ("org/name", "org/name", None, None),
        ("gpt2", "gpt2", None, None),
        ("org/name@v1.0", "org/name", "v1.0", None),
        ("./folder", "./folder", None, None),
        ("/data/model@2", "/data/model@2", None, None),
        ("org/base+org/lora", "org/base", None, "org/lora"),
        (" org/base@main + ./lora ", "org/base", "main", "./lora"),
    ],
)
def test_names_revisions_and_adapters_are_told_apart(
    text: str, name: str, revision: str | None, adapter: str | None
) -> None:
    reference = ModelRef.parse(text)
    assert (reference.name, reference.revision) == (name, revision)
    assert (str(reference.adapter) if reference.adapter else None) == adapter
    assert str(reference.model) == (f"{name}@{revision}" if revision else name)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "'' is not a model reference · org/name, org/name@revision, ./folder or base+adapter"),
        ("org/name+", "'org/name+' is not a model reference · org/name, org/name@revision, ./folder or base+adapter"),
        ("or g/name", "'or g/name' is neither org/name nor a folder · start a folder with ./, ../, ~ or /"),
        ("org/name@", "'org/name@' has a bad revision · write org/name@revision, once"),
    ],
)
def test_what_is_no_reference_is_refused_with_what_to_write(text: str, error: str) -> None:
    with pytest.raises(ReferenceFormatError) as refused:
        ModelRef.parse(text)
    assert str(refused.value) == error


def test_two_adapters_are_refused() -> None:
    with pytest.raises(ReferenceFormatError, match="names more than one adapter"):
        ModelRef.parse("a/b+c/d+e/f")


def test_a_folder_cannot_have_a_revision() -> None:
    with pytest.raises(ReferenceFormatError, match=r"folder '\./m' cannot have a revision"):
        ModelRef.of("./m", "v1")


def test_a_plus_in_a_folder_given_as_a_path_is_part_of_its_name() -> None:
    assert ModelRef.of("./a+b") == ModelRef("./a+b")


def test_a_local_reference_expands_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert ModelRef.of("~/models/a").path == Path("/home/someone/models/a")


def test_a_pinned_reference_prints_its_commit_in_place_of_its_revision() -> None:
    assert str(PinnedRef(ModelRef.of("org/name", "v1"), "abc123")) == "org/name@abc123"
    assert str(PinnedRef(ModelRef.of("./folder"))) == "./folder"


def test_a_home_that_nobody_has_stays_a_name() -> None:
    assert ModelRef.parse("~nobody-here/model").path == Path("~nobody-here/model")
    assert ModelRef.parse("~/model").path == Path.home() / "model"
