from __future__ import annotations

import json
import socket
import time

import numpy as np
import pytest
from card_builders import card_of, merge_of
from hub.fixtures import hub, hub_home, start_hub
from safetensors.numpy import save_file

from cards import write_card

__all__ = ["hub", "hub_home", "start_hub"]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Nothing in this package may open a connection but to the test Hub, on this machine."""
    connect = socket.socket.connect

    def local_only(self, address):
        if address[0] != "127.0.0.1":
            raise AssertionError(f"a connection to {address} was attempted")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture
def naps(monkeypatch):
    """The seconds that the client and hubmerge would have waited between tries; nobody waits."""
    waited = []

    class Clock:
        sleep = staticmethod(waited.append)

        def __getattr__(self, name):
            return getattr(time, name)

    monkeypatch.setattr("zoo_index.hub_calls.sleep", waited.append)
    monkeypatch.setattr("huggingface_hub.utils._http.time", Clock())
    return waited


@pytest.fixture
def ada(hub, monkeypatch):
    """The test Hub, with ada (who may write) logged in."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return hub


@pytest.fixture
def small_merge(tmp_path):
    """A merge of one folder, with a card; its weights are 16 numbers that nobody loads."""
    parent = card_of(tmp_path / "models" / "parent", "license: mit")
    out = tmp_path / "out"
    out.mkdir()
    for folder in (parent, out):
        (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
        save_file({"weight": np.arange(16, dtype=np.float32)}, folder / "model.safetensors", metadata={"format": "pt"})
    merge_of(out, [parent])
    write_card(out)
    return out
