"""Settings of the tests of zoo_index."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hub.fixtures import api, hub, hub_home, start_hub
from zoo_builders import llama_config, llama_tensors, write_adapter, write_model
from zoo_running import Ended, Run

__all__ = ["api", "hub", "hub_home", "run", "start_hub", "zoo"]


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A folder of models: a base and its child, a stranger of the same shape, a wider one, an adapter, a refused one."""
    import numpy as np

    folder = tmp_path / "zoo"
    config = llama_config(hidden_size=16, head_dim=8, intermediate_size=32)
    base = llama_tensors(config, seed=1)
    random = np.random.default_rng(9)
    child = {n: (v + 0.05 * random.standard_normal(v.shape)).astype("float32") for n, v in base.items()}
    write_model(folder / "base", config=config, tensors=base, card="---\nlicense: mit\ntags: [tiny]\n---\n")
    write_model(
        folder / "group" / "specialist-low", config=config, tensors=child, card="---\nbase_model: zoo/base\n---\n"
    )
    write_model(folder / "stranger", config=config, seed=5)
    write_model(folder / "wide", config=llama_config(hidden_size=32, head_dim=16, intermediate_size=32))
    write_adapter(folder / "lora", base="zoo/base")
    write_model(folder / "quantised", config={**config, "quantization_config": {"quant_method": "gptq"}})
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`hubmerge zoo ARGUMENTS` in a folder of its own, with a cache of its own."""
    from hubmerge.cli.app import main

    monkeypatch.setenv("HUBMERGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["hubmerge", "zoo", *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        return Ended(int(str(code or 0)), *capsys.readouterr())

    return call
