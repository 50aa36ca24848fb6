"""Donors on the Hub that a catalog found: taken at the commit that it knows, recorded, and verified at it when the catalog is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub.fixtures import hub, hub_home, start_hub
from hub.server import HubServer
from mal_recipes import mal
from pleas_models import resnet

import hubmerge
from hubmerge import read_manifest, verify_merge
from hubmerge.plan import pins_of
from zoo_index.catalog import Catalog

__all__ = ["hub", "hub_home", "start_hub"]


@pytest.fixture
def known(tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A base here, a donor there that the catalog knows and that changed since; the commit that the catalog knows."""
    monkeypatch.chdir(tmp_path)
    resnet(tmp_path / "base", 0, ("a", "b"))
    hub.add("ada/donor", resnet(tmp_path / "donor", 1, ("c", "d")))
    with Catalog.open("zoo.duckdb") as catalog:
        catalog.sync(repos="ada/donor")
    commit = str(hub.repository("ada/donor").head.id)
    later = resnet(tmp_path / "later", 2, ("c", "d"))
    hub.commit("ada/donor", {"model.safetensors": (later / "model.safetensors").read_bytes()})
    hub.log.clear()
    return commit


def test_a_donor_of_a_catalog_is_taken_at_the_commit_that_it_knows(known: str, hub: HubServer, tmp_path: Path) -> None:
    raw = mal(zoo="zoo.duckdb")
    del raw["models"]
    plan = hubmerge.build_plan(raw)
    assert hub.log.weight_bytes_sent() == 0
    assert f"  ada/donor @ {known[:12]}  (from the catalog)" in str(plan)
    hubmerge.merge(raw, "out")
    hubmerge.merge(mal("./donor"), "here")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        tmp_path / "here" / "model.safetensors"
    ).read_bytes()
    manifest = read_manifest(tmp_path / "out")
    assert manifest.recipe["models"] == [{"model": "ada/donor"}]
    assert manifest.layers is not None
    assert manifest.layers.catalog is not None
    assert (manifest.layers.catalog.taken, manifest.layers.catalog.passed) == (("ada/donor",), 0)
    assert pins_of(manifest) == {"ada/donor": known}
    Path("zoo.duckdb").unlink()
    assert verify_merge(tmp_path / "out", reload=False).level == "exact"
