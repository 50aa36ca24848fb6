"""The catalog's file: made, brought up to date, or refused with one clear error."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from zoo_index import Catalog, CatalogError, migrations

NOW = len(migrations.MIGRATIONS)
MORE = (*migrations.MIGRATIONS, "CREATE TABLE later (x INTEGER)")


def error(path: Path, *, read_only: bool = False) -> str:
    with pytest.raises(CatalogError) as refused:
        Catalog.open(path, read_only=read_only)
    return str(refused.value)


def versions(path: Path) -> list[int]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return [row[0] for row in connection.execute("SELECT version FROM schema_version ORDER BY version").fetchall()]


def test_a_new_file_has_every_step_and_opening_it_again_adds_none(tmp_path: Path) -> None:
    path = tmp_path / "new" / "c.duckdb"
    Catalog.open(path).close()
    Catalog.open(path).close()
    assert versions(path) == list(range(1, NOW + 1))


@pytest.mark.parametrize("read_only", [True, False])
def test_an_older_file_is_brought_up_to_date_however_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    path = tmp_path / "c.duckdb"
    Catalog.open(path).close()
    monkeypatch.setattr(migrations, "MIGRATIONS", MORE)
    with Catalog.open(path, read_only=read_only) as catalog:
        assert len(catalog) == 0
    assert versions(path) == list(range(1, NOW + 2))


def test_a_full_disk_is_told_as_one_and_leaves_no_file_that_is_no_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, **_: object) -> None:
        Path(path).write_bytes(b"begun")
        raise duckdb.IOException(f'IO Error: Could not write file "{path}": No space left on device')

    monkeypatch.setattr(duckdb, "connect", full)
    path = tmp_path / "c.duckdb"
    assert error(path) == f"the disk is full · {path} · free some space, or name another --catalog"
    assert not path.exists()

    path.write_bytes(b"an older catalog")
    assert error(path).startswith("the disk is full")
    assert path.exists()


def test_a_record_of_the_first_schema_is_read_by_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zoo: Path
) -> None:
    path = tmp_path / "c.duckdb"
    with Catalog.open(path) as catalog:
        catalog.sync(zoo / "base")
        record = catalog.get("base")
    with duckdb.connect(str(path)) as connection:  # as the first schema had it: nothing of the Hub
        connection.execute("DROP TABLE renames; DROP TABLE tokenizers; DELETE FROM schema_version WHERE version > 1")
        connection.execute("UPDATE models SET record = json_merge_patch(record, '{\"hub\": null}')")
    assert versions(path) == [1]
    with Catalog.open(path) as catalog:
        assert catalog.get("base") == record
        assert catalog.renames() == {}


def test_a_newer_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.duckdb"
    with monkeypatch.context() as later:
        later.setattr(migrations, "MIGRATIONS", MORE)
        Catalog.open(path).close()
    for read_only in (True, False):
        assert error(path, read_only=read_only) == (
            f"the catalog has schema {NOW + 1}, this version reads up to {NOW} · {path} · "
            "update hubmerge, or name another file with --catalog"
        )


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.duckdb"
    Catalog.open(path).close()
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MORE, "CREATE NONSENSE"))
    assert error(path).startswith(f"the catalog cannot be brought to schema {NOW + 2} (")
    assert versions(path) == list(range(1, NOW + 1))


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * 20_000])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_that_is_no_catalog_is_refused_and_kept(tmp_path: Path, content: bytes, read_only: bool) -> None:
    path = tmp_path / "c.duckdb"
    path.write_bytes(content)
    assert error(path, read_only=read_only) == (
        f"the file is damaged or not a catalog · {path} · delete it, and `hubmerge zoo sync FOLDER` again"
    )
    assert path.read_bytes() == content


@pytest.mark.parametrize("cut", [5000, 13000])
def test_a_damaged_catalog_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "c.duckdb"
    Catalog.open(path).close()
    path.write_bytes(path.read_bytes()[:cut])
    assert error(path).startswith("the file is damaged or not a catalog")


@pytest.mark.parametrize("place", [4096, 12_800])  # a header of the file, a block of its tables
@pytest.mark.parametrize("read_only", [True, False])
def test_a_catalog_with_a_damaged_block_is_damaged_not_in_use(tmp_path: Path, place: int, read_only: bool) -> None:
    path = tmp_path / "c.duckdb"
    Catalog.open(path).close()
    content = bytearray(path.read_bytes())
    content[place : place + 64] = bytes(byte ^ 0x5A for byte in content[place : place + 64])
    path.write_bytes(content)
    assert error(path, read_only=read_only) == (
        f"the file is damaged or not a catalog · {path} · delete it, and `hubmerge zoo sync FOLDER` again"
    )


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sales.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE sales (x INTEGER)")
    assert error(path) == f"a DuckDB file, but not a catalog · {path} · name another file with --catalog"


def test_a_missing_catalog_cannot_be_read_and_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "c.duckdb"
    assert error(path, read_only=True) == f"there is no catalog yet · {path} · `hubmerge zoo sync FOLDER` makes one"
    assert not path.exists()


def test_a_folder_is_no_catalog(tmp_path: Path) -> None:
    assert error(tmp_path) == f"{tmp_path} is a folder, not a catalog · name a file, such as zoo.duckdb"


def test_a_folder_that_cannot_be_made_is_our_own_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "c.duckdb"
    assert error(path) == f"the catalog's folder cannot be made (File exists) · {path} · name another --catalog"
