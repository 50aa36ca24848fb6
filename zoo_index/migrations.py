"""The catalog's file: opened, brought to the current schema step by step, or refused with one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo_index.errors import CatalogError

__all__ = ["MIGRATIONS", "connect"]

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE models (
        reference VARCHAR PRIMARY KEY,  -- as ModelRecord.reference
        name VARCHAR NOT NULL,          -- the same without its revision
        location VARCHAR NOT NULL,      -- the folder that was read, or hub:NAME
        state VARCHAR NOT NULL,         -- digest of what was read, to see what changed
        kind VARCHAR NOT NULL,
        model_type VARCHAR,
        licence VARCHAR,
        core_signature VARCHAR,
        search_text VARCHAR NOT NULL,   -- in small letters
        record VARCHAR NOT NULL,        -- ModelRecord as JSON
        core VARCHAR,                   -- Sketch.core
        sketch BLOB                     -- Sketch.values as float32
    );
    CREATE TABLE documents (reference VARCHAR NOT NULL, file VARCHAR NOT NULL, content VARCHAR NOT NULL);
    CREATE TABLE edges (
        child VARCHAR NOT NULL, parent VARCHAR NOT NULL, relation VARCHAR NOT NULL,
        source VARCHAR NOT NULL, confidence VARCHAR NOT NULL, parent_commit VARCHAR
    );
    """,
    """
    CREATE TABLE renames (old VARCHAR PRIMARY KEY, new VARCHAR NOT NULL);  -- old in small letters
    CREATE TABLE tokenizers (content VARCHAR PRIMARY KEY, signature VARCHAR);  -- content: ids of the files' bytes
    """,
)
"""SQL from each version of the schema to the next; only ever appended to."""


def connect(path: Path, *, read_only: bool) -> Any:
    """A DuckDB connection to the catalog at `path`, at the current schema.

    Writing creates the file and its folder.  Raises `CatalogError` when there is no file to read, when it is no
    catalog, is damaged, is locked by another process, or was written by a newer version.
    """
    if path.is_dir():
        raise CatalogError(f"{path} is a folder, not a catalog", hint="name a file, such as zoo.duckdb")
    if read_only and not path.exists():
        raise CatalogError("there is no catalog yet", where=str(path), hint="`hubmerge zoo sync FOLDER` makes one")
    connection = _open(path, read_only=read_only)
    try:
        version = _version(connection, path)
        if version < len(MIGRATIONS) and not read_only:
            _migrate(connection, version, path)
    except BaseException:
        connection.close()
        raise
    if version < len(MIGRATIONS) and read_only:
        connection.close()
        connect(path, read_only=False).close()
        return connect(path, read_only=True)
    return connection


def _open(path: Path, *, read_only: bool) -> Any:
    import duckdb

    is_new = not path.exists()
    try:
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        return duckdb.connect(str(path), read_only=read_only)
    except OSError as error:
        raise CatalogError(
            f"the catalog's folder cannot be made ({error.strerror})", where=str(path), hint="name another --catalog"
        ) from error
    except duckdb.Error as error:
        text = str(error)
        if "Could not set lock" in text or "different configuration" in text:
            raise CatalogError(
                "the catalog is in use", where=str(path), hint="wait for the process that has it open, or close it here"
            ) from error
        if "No space left" in text:
            if is_new:
                path.unlink(missing_ok=True)
            hint = "free some space, or name another --catalog"
            raise CatalogError("the disk is full", where=str(path), hint=hint) from error
        if "Cannot open file" in text:
            raise CatalogError(
                "the catalog cannot be opened", where=str(path), hint="check the file's and folder's permissions"
            ) from error
        raise _damaged(path) from error


def _damaged(path: Path) -> CatalogError:
    return CatalogError(
        "the file is damaged or not a catalog", where=str(path), hint="delete it, and `hubmerge zoo sync FOLDER` again"
    )


def _version(connection: Any, path: Path) -> int:
    import duckdb

    try:
        tables = {name for (name,) in connection.execute("SELECT table_name FROM information_schema.tables").fetchall()}
        if not tables:
            return 0
        if "schema_version" not in tables:
            raise CatalogError(
                "a DuckDB file, but not a catalog", where=str(path), hint="name another file with --catalog"
            )
        rows = connection.execute("SELECT max(version) FROM schema_version").fetchall()
    except duckdb.Error as error:
        raise _damaged(path) from error
    version = int(rows[0][0] or 0)
    if version > len(MIGRATIONS):
        raise CatalogError(
            f"the catalog has schema {version}, this version reads up to {len(MIGRATIONS)}",
            where=str(path),
            hint="update hubmerge, or name another file with --catalog",
        )
    return version


def _migrate(connection: Any, version: int, path: Path) -> None:
    import duckdb

    try:
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
        for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            connection.execute(statements)
            connection.execute("INSERT INTO schema_version VALUES (?)", [number])
        connection.execute("COMMIT")
    except duckdb.Error as error:
        raise CatalogError(
            f"the catalog cannot be brought to schema {len(MIGRATIONS)} ({error})",
            where=str(path),
            hint="delete it and sync again",
        ) from error
