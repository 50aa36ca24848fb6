"""Where a model's files are: folders and the local Hub cache."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo_builders import source_of, write_model

from zoo_index import CheckpointError, LocalFolder, ModelNotFoundError, ModelRef, cached_models, open_source

MAIN, OLD, LOOSE = "a" * 40, "b" * 40, "c" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hub cache as huggingface_hub lays it out: refs, and snapshots of links to blobs."""
    root = tmp_path / "hub"
    repo = root / "models--org--name"
    write_model(repo / "snapshots" / MAIN)
    blob = repo / "blobs" / "0123"
    blob.parent.mkdir()
    (repo / "snapshots" / MAIN / "config.json").rename(blob)
    (repo / "snapshots" / MAIN / "config.json").symlink_to(blob)
    write_model(repo / "snapshots" / OLD)
    write_model(repo / "snapshots" / LOOSE)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(MAIN)
    (repo / "refs" / "v1").write_text(OLD)
    (root / "models--not a name").mkdir()
    (root / "models--not a name" / "snapshots" / MAIN).mkdir(parents=True)
    (root / "datasets--org--data").mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(root))
    monkeypatch.chdir(tmp_path)
    return root


def test_files_are_listed_with_sizes_and_hidden_folders_left_out(tmp_path: Path) -> None:
    for name in ("b.txt", "a/inner.txt", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("12345")
    assert dict(source_of(tmp_path).files()) == {"a/inner.txt": 5, "b.txt": 5}


def test_links_to_files_count_as_files_and_names_are_sorted_folder_by_folder(tmp_path: Path) -> None:
    for name in ("a.txt", "a/z", "a/b/y", "a/.note", "a/.git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("12345")
    (tmp_path / "linked").symlink_to(tmp_path / "a" / "z")
    for name, target in (("folder", "a"), ("nowhere", "none"), ("itself", "itself")):
        (tmp_path / name).symlink_to(target)
    assert list(source_of(tmp_path).files().items()) == [
        ("a/.note", 5), ("a/b/y", 5), ("a/z", 5), ("a.txt", 5), ("linked", 5)
    ]  # fmt: skip


def test_a_folder_is_listed_once_however_often_it_is_asked_for_its_files(tmp_path: Path) -> None:
    """A plan asks dozens of times, and a folder of thousands of logs beside the model made it wait for seconds."""
    (tmp_path / "first").write_text("1")
    opened = source_of(tmp_path)
    assert opened.files() is opened.files()
    (tmp_path / "second").write_text("12")
    assert dict(opened.files()) == {"first": 1}
    assert dict(source_of(tmp_path).files()) == {"first": 1, "second": 2}


def test_a_range_of_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    source = source_of(tmp_path)
    assert (source.read("f"), source.read("f", 2, 5), source.read("f", 8)) == (b"0123456789", b"234", b"89")
    assert (source.read("f", 5, 3), source.read("f", 20, 30)) == (b"", b"")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "", "..\\secret", "a\0b"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="points outside the model's folder"):
        source_of(tmp_path).read(name)


def test_a_file_that_cannot_be_read_is_our_own_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as refused:
        source_of(tmp_path).read("none.json")
    assert str(refused.value) == (
        f"none.json cannot be read (No such file or directory) · {tmp_path} · check the file and its permissions"
    )


def test_a_missing_folder_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "specialist").mkdir()
    with pytest.raises(ModelNotFoundError) as refused:
        open_source(ModelRef.of(str(tmp_path / "specialst")))
    assert refused.value.hint == f"did you mean {tmp_path / 'specialist'}?"


def test_every_snapshot_is_named_as_one_would_ask_for_it(cache: Path) -> None:
    assert [str(source.pinned.reference) for source in cached_models(cache)] == [
        "org/name",
        "org/name@v1",
        f"org/name@{LOOSE}",
    ]
    assert [source.pinned.commit for source in cached_models(cache)] == [MAIN, OLD, LOOSE]


def test_what_cached_models_names_open_source_finds(cache: Path) -> None:
    for source in cached_models(cache):
        opened = open_source(source.pinned.reference)
        assert isinstance(opened, LocalFolder)
        assert opened.folder == source.folder
        assert opened.pinned.commit == source.pinned.commit


def test_a_cache_that_does_not_exist_holds_no_models(tmp_path: Path) -> None:
    assert list(cached_models(tmp_path / "none")) == []


def test_a_model_is_found_in_the_cache_by_branch_and_by_commit(cache: Path) -> None:
    for revision, commit in ((None, MAIN), ("v1", OLD), (LOOSE, LOOSE)):
        assert open_source(ModelRef.of("org/name", revision)).pinned.commit == commit


def test_a_folder_and_a_cached_model_of_one_name_are_ambiguous_until_a_revision_is_named(cache: Path) -> None:
    write_model(cache.parent / "org" / "name")
    with pytest.raises(ModelNotFoundError) as refused:
        open_source(ModelRef.of("org/name"))
    assert str(refused.value) == (
        "org/name is both a folder here and a model in the Hub cache · org/name · "
        "write ./org/name for the folder, or org/name@main for the Hub's"
    )
    assert open_source(ModelRef.of("org/name@main")).pinned.commit == MAIN
    assert open_source(ModelRef.of("./org/name")).pinned.commit is None


@pytest.mark.parametrize("revision", ["../snapshots", "../../models--org--name", "no-such-branch"])
def test_a_revision_never_leads_out_of_the_cache(cache: Path, revision: str) -> None:
    with pytest.raises(ModelNotFoundError, match="is not in the local Hub cache"):
        open_source(ModelRef("org/name", revision))


def test_an_empty_ref_is_no_snapshot(cache: Path) -> None:
    (cache / "models--org--name" / "refs" / "main").write_text("")
    with pytest.raises(ModelNotFoundError, match="is not in the local Hub cache"):
        open_source(ModelRef.of("org/name"))
