"""Models and adapters on the Hub: headers are read first, weights are fetched once, and the numbers are those of folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hub.fixtures import hub, hub_home, start_hub
from hub.server import HubServer
from zoo import contents, random_values, write_adapter, write_model

from hubmerge import PlanError, extract_adapter, intruder_dimensions, kinship

__all__ = ["hub", "hub_home", "start_hub"]

TOY = {"model_type": "toy"}
UP = "layers.0.up"


@pytest.fixture
def folders(tmp_path: Path, hub: HubServer) -> dict[str, str]:
    """A base, two fine-tunes, a model of other shapes and an adapter, here and as ada/... on the Hub."""
    base = {f"{UP}.weight": random_values((6, 4), 0), "norm.weight": random_values((4,), 1)}
    tensors = {"base": base, "wide": {f"{UP}.weight": random_values((7, 4), 4)}}
    tensors |= {
        name: {n: v + random_values(v.shape, i) for n, v in base.items()} for i, name in enumerate(("a", "b"), 2)
    }
    found = {name: write_model(tmp_path / name, own, config=TOY) for name, own in tensors.items()}
    factors = {f"{UP}.lora_A.weight": random_values((2, 4), 5), f"{UP}.lora_B.weight": random_values((6, 2), 6)}
    found["lora"] = write_adapter(tmp_path / "lora", factors)
    for name, folder in found.items():
        hub.add(f"ada/{name}", folder)
    hub.log.clear()
    return {name: str(folder) for name, folder in found.items()}


def test_what_is_on_the_hub_has_the_numbers_of_folders(folders: dict[str, str], tmp_path: Path) -> None:
    there = kinship(["ada/a", "ada/b", "ada/lora"], "ada/base")
    here = kinship([folders["a"], folders["b"], folders["lora"]], folders["base"])
    np.testing.assert_array_equal(there.flat.pearson, here.flat.pearson)
    assert there.models == ("ada/a", "ada/b", "ada/lora")
    extract_adapter("ada/base", "ada/a", tmp_path / "there", rank=2)
    extract_adapter(folders["base"], folders["a"], tmp_path / "here", rank=2)
    weights = [contents(tmp_path / name)["adapter_model.safetensors"] for name in ("there", "here")]
    assert weights[0] == weights[1]
    assert '"base_model_name_or_path": "ada/base"' in (tmp_path / "there" / "adapter_config.json").read_text()
    assert (
        intruder_dimensions("ada/base", ["ada/lora"]).total
        == intruder_dimensions(folders["base"], [folders["lora"]]).total
    )


def test_faults_show_before_a_weight_is_fetched(folders: dict[str, str], hub: HubServer) -> None:
    with pytest.raises(PlanError, match=r"^'layers\.0\.up\.weight' is \[7, 4\], in ada/base \[6, 4\] · ada/wide · "):
        kinship(["ada/a", "ada/wide"], "ada/base")
    with pytest.raises(PlanError, match=r"^this is the base itself, which learned nothing · ada/base · leave it out$"):
        kinship(["ada/a", "ada/base"], "ada/base")
    assert hub.log.weight_bytes_sent() == 0


def test_an_adapter_that_was_added_to_its_base_is_found_again(folders: dict[str, str], tmp_path: Path) -> None:
    tuned = f"{folders['base']}+{folders['lora']}"
    found = extract_adapter(folders["base"], tuned, tmp_path / "again", rank=2)
    assert found.energy == pytest.approx(1)
    both = kinship([str(tmp_path / "again"), folders["lora"]])
    assert both.flat.cosine[0, 1] == pytest.approx(1, abs=1e-6)
    assert both.norms[0] == pytest.approx(both.norms[1])
