"""The catalog: what goes in comes out, by any name that means one model."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zoo_builders import record_of, source_of, write_model

from zoo_index import Catalog, CatalogError, Level, ModelNotFoundError, ModelRecord
from zoo_index.catalog import Entry, default_catalog_path
from zoo_index.fingerprint import Sketch
from zoo_index.sync import read_entry


@pytest.fixture
def catalog(zoo: Path, tmp_path: Path) -> Catalog:
    with Catalog.open(tmp_path / "zoo.duckdb") as opened:
        opened.sync(zoo)
        yield opened  # type: ignore[misc]


def entry(reference: str, **fields: object) -> Entry:
    record = ModelRecord(reference=reference, kind="model", signature="s", core_signature="c").model_copy(update=fields)
    return Entry(record, f"/somewhere/{reference}", "state", {}, None)


def test_an_entry_comes_back_as_it_was_put_in(tmp_path: Path, zoo: Path) -> None:
    with Catalog.open(tmp_path / "c.duckdb") as catalog:
        for folder in ("base", "lora", "quantised"):
            entry = read_entry(source_of(zoo / folder))
            catalog.upsert(entry)
            found = catalog.entry(str(zoo / folder))
            assert found.record == record_of(zoo / folder)
            assert found == entry


def test_putting_an_entry_in_twice_keeps_the_second(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "c.duckdb") as catalog:
        catalog.upsert(entry("org/a", licence="mit"))
        catalog.upsert(entry("org/a", licence="apache-2.0"))
        assert len(catalog) == 1
        assert catalog.get("org/a").licence == "apache-2.0"


def test_a_removed_model_is_gone(catalog: Catalog, zoo: Path) -> None:
    catalog.remove(str(zoo / "base"))
    assert str(zoo / "base") not in [record.reference for record in catalog.all()]
    with pytest.raises(ModelNotFoundError):
        catalog.get(str(zoo / "base"))


def test_what_was_written_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "c.duckdb") as catalog:
        catalog.upsert(entry("org/a"))
    with Catalog.open(tmp_path / "c.duckdb", read_only=True) as catalog:
        assert catalog.get("org/a").reference == "org/a"


@pytest.mark.parametrize(
    "name", ["specialist-low", "group/specialist-low", "zoo/group/specialist-low", "group/specialist-low/"]
)
def test_any_last_part_of_a_path_finds_the_model(catalog: Catalog, zoo: Path, name: str) -> None:
    assert catalog.get(name).reference == str(zoo / "group" / "specialist-low")


def test_a_path_from_here_finds_the_model(catalog: Catalog, zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(zoo / "group")
    assert catalog.get("./specialist-low").reference == str(zoo / "group" / "specialist-low")
    assert catalog.get("../base").reference == str(zoo / "base")
    with pytest.raises(ModelNotFoundError):
        catalog.get("./base")


def test_a_hub_model_is_found_with_and_without_organisation_and_revision(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "c.duckdb") as catalog:
        catalog.upsert(entry("org/name"))
        catalog.upsert(entry("org/other@v1"))
        assert [catalog.get(name).reference for name in ("org/name", "name", "org/other", "other", "other@v1")] == [
            "org/name",
            "org/name",
            "org/other@v1",
            "org/other@v1",
            "org/other@v1",
        ]


def test_an_exact_name_is_never_ambiguous(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "c.duckdb") as catalog:
        for reference in ("name", "org/name", "org/name@v1"):
            catalog.upsert(entry(reference))
        assert [catalog.get(reference).reference for reference in ("name", "org/name")] == ["name", "org/name"]


def test_an_ambiguous_name_lists_what_it_can_mean(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "c.duckdb") as catalog:
        for reference in ("/zoo/a/low", "/zoo/b/low"):
            catalog.upsert(entry(reference))
        with pytest.raises(CatalogError) as refused:
            catalog.get("low")
        assert (
            str(refused.value)
            == f"'low' can mean /zoo/a/low, /zoo/b/low · {tmp_path}/c.duckdb · write more of its path"
        )
        assert (catalog.label("/zoo/a/low"), catalog.get("a/low").reference) == ("a/low", "/zoo/a/low")


def test_a_part_of_a_name_finds_nothing_and_offers_the_nearest(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError) as refused:
        catalog.get("specialist-lo")
    assert str(refused.value) == (
        f"'specialist-lo' is not in the catalog · {tmp_path}/zoo.duckdb · did you mean specialist-low? "
        "`hubmerge zoo find` lists it, `hubmerge zoo sync FOLDER` adds a folder"
    )


def test_an_empty_catalog_says_how_to_fill_it(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "c.duckdb") as catalog, pytest.raises(ModelNotFoundError) as refused:
        catalog.get("anything")
    assert refused.value.hint == "the catalog is empty: `hubmerge zoo sync FOLDER` fills it"


references = st.lists(
    st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts)),
    unique=True,
    max_size=6,
)


@given(references)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_label_of_a_model_means_that_model(tmp_path: Path, names: list[str]) -> None:
    with Catalog.open(":memory:") as catalog:
        for name in names:
            catalog.upsert(entry(name))
        for name in names:
            assert catalog.get(catalog.label(name)).reference == name


@given(st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=30)
def test_no_text_is_sql(text: str, other: str) -> None:
    with Catalog.open(":memory:") as catalog:
        catalog.upsert(entry("org/a", licence="mit"))
        catalog.find(text, model_type=other, licence=text)
        with contextlib.suppress(ModelNotFoundError, CatalogError):
            catalog.get(text)
        assert len(catalog) == 1


def names(found: object) -> list[str]:
    return [record.reference.rsplit("/", 1)[-1] for record in found]  # type: ignore[attr-defined]


def test_models_are_found_by_words_type_kind_and_licence(catalog: Catalog) -> None:
    assert names(catalog.find()) == ["base", "specialist-low", "lora", "quantised", "stranger", "wide"]
    assert names(catalog.find("LLAMA low")) == ["specialist-low"]
    assert names(catalog.find("tiny")) == ["base"]
    assert names(catalog.find(kind="adapter")) == ["lora"]
    assert names(catalog.find(licence="MIT")) == ["base"]
    assert names(catalog.find(model_type="Llama", text="str")) == ["stranger"]
    assert names(catalog.find("no such thing")) == []


def test_a_page_knows_how_many_there_are(catalog: Catalog) -> None:
    found = catalog.find(limit=2)
    assert (len(found), found.total) == (2, 6)
    assert len(catalog.all()) == 6


def test_a_percent_sign_is_a_character_like_others(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "c.duckdb") as catalog:
        catalog.upsert(entry("/zoo/100%_a"))
        assert (len(catalog.find("0%_")), len(catalog.find("%a")), len(catalog.find("1__"))) == (1, 0, 0)


def test_compatible_models_come_best_first(catalog: Catalog) -> None:
    found = catalog.compatible("base")
    assert [(match.record.reference.rsplit("/", 1)[-1], match.level, match.same_ancestor) for match in found] == [
        ("specialist-low", Level.identical, "likely"),
        ("lora", Level.adapter, None),
        ("stranger", Level.alignment, "unlikely"),
        ("wide", Level.size, None),
    ]
    assert [reason.field for reason in found[2].compatibility.reasons] == ["ancestor", "alignment"]


def test_nothing_is_compatible_with_a_refused_model(catalog: Catalog) -> None:
    assert len(catalog.compatible("quantised")) == 0


def test_why_is_the_same_match_that_compatible_gives(catalog: Catalog) -> None:
    for match in catalog.compatible("base"):
        assert catalog.why("base", match.record.reference) == match


def test_a_model_without_a_sketch_has_no_likeness(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "c.duckdb") as catalog:
        catalog.upsert(entry("org/a"))
        catalog.upsert(Entry(entry("org/b").record, "/b", "s", {}, Sketch("c", (1.0,) + (0.0,) * 63)))
        assert catalog.why("org/a", "org/b").likeness is None
        assert catalog.why("org/b", "org/b").likeness == 1.0


def test_answers_become_pandas_tables(catalog: Catalog) -> None:
    frame = catalog.find("tiny").to_pandas()
    assert list(frame.columns) == ["reference", "kind", "model_type", "parameters", "licence", "refusals"]
    assert frame["licence"].tolist() == ["mit"]
    assert catalog.compatible("base").to_pandas()["level"].tolist() == [
        "identical-shape",
        "adapter-on-same-base",
        "by-alignment",
        "different-size",
    ]


def test_a_strangers_words_are_escaped_in_html(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", card="---\nlicense: <script>alert(1)</script>\n---\n")
    with Catalog.open(tmp_path / "c.duckdb") as catalog:
        catalog.upsert(read_entry(source_of(folder)))
        html = catalog.find()._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_a_page_in_html_says_how_much_it_leaves_out(catalog: Catalog) -> None:
    assert catalog.find(limit=2)._repr_html_().endswith("<p>2 of 6</p>")
    assert "<p>" not in catalog.all()._repr_html_()


def test_the_default_file_lies_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HUBMERGE_CACHE", str(tmp_path / "own"))
    assert default_catalog_path() == tmp_path / "own" / "zoo.duckdb"
    monkeypatch.delenv("HUBMERGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_catalog_path() == tmp_path / "xdg" / "hubmerge" / "zoo.duckdb"
    with Catalog.open() as catalog:
        assert catalog.path == default_catalog_path()
    assert default_catalog_path().is_file()


def test_a_catalog_that_is_open_here_for_writing_is_in_use(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "c.duckdb"), pytest.raises(CatalogError, match="the catalog is in use"):
        Catalog.open(tmp_path / "c.duckdb", read_only=True)


def test_an_entry_that_cannot_be_written_leaves_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zoo: Path
) -> None:
    entry = read_entry(source_of(zoo / "base"))
    with Catalog.open(tmp_path / "c.duckdb") as catalog:
        catalog.upsert(entry)
        rows = catalog._rows

        def failing(sql: str, values: object = ()) -> object:
            if sql.startswith("INSERT INTO documents"):
                raise CatalogError("disk full")
            return rows(sql, values)  # type: ignore[arg-type]

        with monkeypatch.context() as broken:
            broken.setattr(catalog, "_rows", failing)
            with pytest.raises(CatalogError, match="disk full"):
                catalog.upsert(read_entry(source_of(write_model(zoo / "base"))))
        assert catalog.entry("base") == entry


def test_the_label_of_a_model_that_is_not_recorded_never_means_another(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "c.duckdb") as catalog:
        catalog.upsert(entry("/zoo/a/low"))
        assert catalog.label("/zoo/b/low") == "b/low"


def test_writing_to_a_catalog_opened_for_questions_is_our_own_error(tmp_path: Path) -> None:
    Catalog.open(tmp_path / "c.duckdb").close()
    with Catalog.open(tmp_path / "c.duckdb", read_only=True) as catalog, pytest.raises(CatalogError, match="read-only"):
        catalog.upsert(entry("org/a"))


def test_a_record_of_another_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    import duckdb

    with Catalog.open(tmp_path / "c.duckdb") as catalog:
        catalog.upsert(entry("org/a"))
    with duckdb.connect(str(tmp_path / "c.duckdb")) as connection:
        connection.execute("""UPDATE models SET record = '{"shoe": 44}'""")
    with Catalog.open(tmp_path / "c.duckdb") as catalog, pytest.raises(CatalogError) as refused:
        catalog.all()
    assert str(refused.value) == (
        f"a record was written by another version · {tmp_path}/c.duckdb · delete the file and sync again"
    )


def test_a_catalog_that_another_process_writes_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "c.duckdb"
    hold = f"from zoo_index import Catalog; c = Catalog.open({str(path)!r}); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        for read_only in (True, False):
            with pytest.raises(CatalogError) as refused:
                Catalog.open(path, read_only=read_only)
            assert str(refused.value) == (
                f"the catalog is in use · {path} · wait for the process that has it open, or close it here"
            )
        other.communicate("\n")
    Catalog.open(path).close()
