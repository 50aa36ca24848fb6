"""Unlike models on the Hub: pinned and planned from headers, fetched once, put together as folders are, verified at their commits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub.fixtures import hub, hub_home, start_hub
from hub.server import HubServer
from pleas_models import images, pleas, resnet

import hubmerge
from hubmerge import verify_merge
from hubmerge.plan import pins_of

__all__ = ["hub", "hub_home", "start_hub"]


@pytest.fixture
def models(tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two models as folders here and as repositories there, the first with an image processor and a file of no use."""
    monkeypatch.chdir(tmp_path)
    images(tmp_path)
    folders = {}
    for seed, (name, classes) in enumerate((("low", ("a", "b")), ("high", ("c", "d")))):
        folder = resnet(tmp_path / name, seed, classes)
        (folder / "pytorch_model.bin").write_bytes(b"pickled" * 1000)
        if name == "low":
            (folder / "preprocessor_config.json").write_text("{}")
        hub.add(f"ada/{name}", folder)
        folders[name] = folder
    hub.log.clear()
    return folders


def test_a_plan_reads_headers_and_lists_what_is_to_be_fetched(models: dict[str, Path], hub: HubServer) -> None:
    plan = hubmerge.build_plan(pleas("ada/low", "ada/high"))
    assert hub.log.weight_bytes_sent() == 0
    assert {(file.parent, file.name) for file in plan.downloads} == {
        (0, "model.safetensors"), (0, "preprocessor_config.json"), (1, "model.safetensors"),
    }  # fmt: skip
    assert f"  ada/low @ {hub.repository('ada/low').head.id[:12]}  (base: its order of units, config)" in str(plan)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in models.values()]
    assert (
        f"downloads    {(sum(sizes) + 2) / 1000:.2f} kB: {(sizes[0] + 2) / 1000:.2f} kB of ada/low, {sizes[1] / 1000:.2f} kB of ada/high"
        in str(plan)
    )


def test_a_merge_of_hub_models_has_the_weights_of_a_merge_of_the_same_folders(
    models: dict[str, Path], hub: HubServer, tmp_path: Path
) -> None:
    there = hubmerge.merge(pleas("ada/low", "ada/high"), tmp_path / "there")
    here = hubmerge.merge(pleas("./low", "./high"), tmp_path / "here")
    assert there.files == here.files
    assert [parent.commit for parent in there.parents] == [hub.repository(f"ada/{name}").head.id for name in models]
    assert pins_of(there) == {"ada/low": there.parents[0].commit, "ada/high": there.parents[1].commit}
    hub.commit("ada/low", {"model.safetensors": (models["high"] / "model.safetensors").read_bytes()})  # a later one
    verified = verify_merge(tmp_path / "there", reload=False)
    assert (verified.passed, verified.level) == (True, "exact")
