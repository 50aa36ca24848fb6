"""Folders and the Hub cache into the catalog, again and again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from zoo_builders import llama_config, llama_tensors, packed, source_of, write_adapter, write_files, write_model

from zoo_index import Catalog, CatalogError, LocalFolder, ModelNotFoundError, ModelRef, PinnedRef, SyncReport
from zoo_index.sync import freshness, model_folders, read_entry


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    with Catalog.open(tmp_path / "zoo.duckdb") as opened:
        yield opened  # type: ignore[misc]


def names(references: object) -> list[str]:
    return [Path(reference).name for reference in references]  # type: ignore[attr-defined]


ALL = ["base", "specialist-low", "lora", "quantised", "stranger", "wide"]


def test_a_second_sync_changes_nothing(catalog: Catalog, zoo: Path) -> None:
    first = catalog.sync(zoo)
    assert names(first.added) == ALL
    before = [catalog.entry(reference) for reference in first.added]
    second = catalog.sync(zoo)
    assert (second.added, second.updated, second.removed) == ((), (), ())
    assert second.unchanged == first.added
    assert [catalog.entry(reference) for reference in first.added] == before


def test_a_refused_model_is_recorded_and_reported_each_time(catalog: Catalog, zoo: Path) -> None:
    for _ in range(2):
        report = catalog.sync(zoo)
        assert [(Path(refused.reference).name, refused.reasons[0][:31]) for refused in report.refused] == [
            ("quantised", "the model is quantised (gptq); ")
        ]
    assert catalog.get("quantised").refusals


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write_model(folder, config=llama_config(vocab_size=30)),
        lambda folder: write_files(folder, {"README.md": "---\nlicense: apache-2.0\n---\n"}),
        lambda folder: write_files(folder, {"tokenizer.json": {}}),
        lambda folder: (folder / "README.md").unlink(),
        lambda folder: write_files(folder, {"model.safetensors": packed(b"damaged")}),
    ],
)
def test_a_changed_model_is_updated_and_the_others_are_not(catalog: Catalog, zoo: Path, change: object) -> None:
    catalog.sync(zoo)
    change(zoo / "base")  # type: ignore[operator]
    report = catalog.sync(zoo)
    assert names(report.updated) == ["base"]
    assert len(report.unchanged) == len(ALL) - 1
    assert catalog.entry("base") == read_entry(source_of(zoo / "base"))


def test_weights_trained_on_in_place_are_seen_though_every_size_is_the_same(catalog: Catalog, zoo: Path) -> None:
    catalog.sync(zoo)
    config = llama_config(hidden_size=16, head_dim=8, intermediate_size=32)
    size = (zoo / "stranger" / "model.safetensors").stat().st_size
    write_model(zoo / "stranger", config=config, tensors=llama_tensors(config, seed=1))
    assert (zoo / "stranger" / "model.safetensors").stat().st_size == size
    assert names(catalog.sync(zoo).updated) == ["stranger"]
    assert catalog.why("base", "stranger").same_ancestor == "likely"


def test_a_vanished_model_is_forgotten_and_one_outside_the_folder_is_not(catalog: Catalog, zoo: Path) -> None:
    catalog.sync(zoo)
    shutil.rmtree(zoo / "base")
    shutil.rmtree(zoo / "group")
    report = catalog.sync(zoo / "group")
    assert names(report.removed) == ["specialist-low"]
    assert "base" in names(record.reference for record in catalog.all())
    assert names(catalog.sync(zoo).removed) == ["base"]


def test_a_neighbour_whose_name_begins_alike_is_not_under_the_folder(catalog: Catalog, tmp_path: Path) -> None:
    for name in ("zoo", "zoo-2"):
        write_model(tmp_path / name / "m")
        catalog.sync(tmp_path / name)
    shutil.rmtree(tmp_path / "zoo-2" / "m")
    assert catalog.sync(tmp_path / "zoo").removed == ()
    assert catalog.sync(tmp_path / "zoo-2").removed == (str(tmp_path / "zoo-2" / "m"),)


def test_a_folder_that_is_not_there_is_an_error_before_anything_changes(catalog: Catalog, zoo: Path) -> None:
    with pytest.raises(ModelNotFoundError) as refused:
        catalog.sync([zoo, zoo.parent / "zooo"])
    assert refused.value.message == f"{zoo.parent / 'zooo'} does not exist"
    assert refused.value.hint == f"did you mean {zoo}?"
    assert len(catalog) == 0


def test_a_file_is_no_folder_of_models(catalog: Catalog, zoo: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is a file, not a model folder"):
        catalog.sync(zoo / "base" / "config.json")


def test_a_model_folder_itself_can_be_given(catalog: Catalog, zoo: Path) -> None:
    assert names(catalog.sync(str(zoo / "base")).added) == ["base"]


def test_folders_that_overlap_count_each_model_once(catalog: Catalog, zoo: Path) -> None:
    assert names(catalog.sync([zoo / "base", zoo, zoo / "base"]).added) == ALL[:1] + ALL[1:]


def test_hidden_folders_and_unfinished_merges_are_passed_over(tmp_path: Path) -> None:
    for name in ("a", ".hidden/b", "out.partial", "deep/er/c", "d/checkpoint-5"):
        write_model(tmp_path / name)
    write_adapter(tmp_path / "lora")
    (tmp_path / "empty").mkdir()
    found = [folder.relative_to(tmp_path).as_posix() for folder in model_folders(tmp_path)]
    assert found == ["a", "d/checkpoint-5", "deep/er/c", "lora"]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    write_model(tmp_path / "a")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert [folder.name for folder in model_folders(tmp_path)] == ["a"]


def test_one_damaged_model_never_stops_the_others(catalog: Catalog, tmp_path: Path) -> None:
    zoo = tmp_path / "damaged"
    damage: dict[str, dict[str, object]] = {
        "b-config": {"config.json": b"\xff\xfe\x00"},
        "c-header": {"model.safetensors": (2**63).to_bytes(8, "little")},
        "d-card": {"README.md": b"---\n\xff: [\n---\n"},
        "e-tokenizer": {"tokenizer.json": b"{"},
        "f-manifest": {"hubmerge.json": b"[1]"},
        "g-empty": {"model.safetensors": b""},
        "h-deep": {"config.json": b'{"a":' + b"[" * 500 + b"]" * 500 + b"}"},
        "i-number": {"README.md": "---\na: 0x" + "f" * 9000 + "\n---\n"},
    }
    for name in ("a-good", *damage, "z-good"):
        write_files(write_model(zoo / name), damage.get(name, {}))
    report = catalog.sync(zoo)
    assert names(report.added) == ["a-good", *damage, "z-good"]
    assert names(refused.reference for refused in report.refused) == ["b-config", "c-header", "g-empty", "h-deep"]
    assert catalog.sync(zoo).unchanged == report.added


def test_a_model_that_cannot_be_listed_is_reported_and_stops_nothing(
    catalog: Catalog, zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = os.scandir

    def scandir(folder: Path) -> object:
        if isinstance(folder, Path) and folder.name == "base":
            raise PermissionError(13, "Permission denied", str(folder))
        return listing(folder)

    monkeypatch.setattr("zoo_index.source.os.scandir", scandir)
    report = catalog.sync(zoo)
    assert names(report.added) == ALL[1:]
    assert report.refused[0].reasons == (
        f"the folder cannot be listed (Permission denied) · {zoo}/base · check its permissions",
    )


def test_a_catalog_that_cannot_be_written_stops_the_sync(zoo: Path, tmp_path: Path) -> None:
    Catalog.open(tmp_path / "c.duckdb").close()
    with Catalog.open(tmp_path / "c.duckdb", read_only=True) as catalog, pytest.raises(CatalogError, match="read-only"):
        catalog.sync(zoo)


def test_a_card_that_is_broken_otherwise_is_an_update(catalog: Catalog, zoo: Path) -> None:
    for card, warning in (("---\na: [1\n---\n", "not YAML"), ("---\n- one\n---\n", "not a mapping")):
        write_files(zoo / "base", {"README.md": card})
        catalog.sync(zoo)
        assert warning in catalog.get("base").warnings[0]


def test_the_hub_cache_is_recorded_by_hub_names_and_forgotten_with_its_snapshots(
    catalog: Catalog, zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = tmp_path / "hub" / "models--org--name"
    write_model(repo / "snapshots" / ("a" * 40))
    write_files(repo, {"refs/main": "a" * 40})
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    catalog.sync(zoo)
    assert catalog.sync(cache=True).added == ("org/name",)
    assert catalog.get("org/name").commit == "a" * 40
    assert len(catalog) == 1 + len(ALL)
    assert catalog.sync(cache=True).unchanged == ("org/name",)
    shutil.rmtree(repo)
    assert catalog.sync(cache=True).removed == ("org/name",)
    assert len(catalog) == len(ALL)


def test_a_sync_without_folders_does_nothing(catalog: Catalog) -> None:
    assert catalog.sync() == SyncReport()


def test_an_entry_knows_when_its_files_changed_or_went(catalog: Catalog, zoo: Path) -> None:
    catalog.sync(zoo)
    entry = catalog.entry("base")
    assert freshness(entry) == "current"
    write_files(zoo / "base", {"README.md": "---\nlicense: gpl-3.0\n---\n"})
    assert freshness(entry) == "changed"
    shutil.rmtree(zoo / "base")
    assert freshness(entry) == "gone"


def test_an_entry_of_a_cached_model_is_current(catalog: Catalog, zoo: Path) -> None:
    source = LocalFolder(zoo / "base", PinnedRef(ModelRef.of("org/name"), "a" * 40))
    catalog.upsert(read_entry(source))
    assert freshness(catalog.entry("org/name")) == "current"
