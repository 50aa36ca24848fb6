"""Fixtures of the tests of the test Hub."""

from __future__ import annotations

import json

import pytest

from hub.fixtures import api, hub, hub_home, start_hub
from hub.server import HubServer
from hub.small_models import model_files, packed

__all__ = ["api", "family", "hub", "hub_home", "start_hub"]


@pytest.fixture
def family(hub: HubServer) -> HubServer:
    """A base model, two descendants, an adapter and a dataset; downloads and likes in opposite orders."""
    hub.add("ada/base", model_files("license: apache-2.0\nlanguage: en"), downloads=30, likes=1)
    hub.add("ada/tuned", model_files("license: mit\nbase_model: ada/base\ntags: [poems]"), downloads=20, likes=2)
    hub.add(
        "acme/merged", model_files("base_model: [ada/base, ada/tuned]\ndatasets: acme/verses"), downloads=10, likes=3
    )
    adapter = {
        "README.md": "---\nlibrary_name: peft\nbase_model: ada/base\n---\n",
        "adapter_config.json": json.dumps({"base_model_name_or_path": "ada/base", "task_type": "CAUSAL_LM"}),
        "adapter_model.safetensors": packed(values=2, dtype="BF16"),
    }
    hub.add("bob/adapter", adapter, downloads=0, likes=4)
    hub.add("acme/verses", {"a.txt": "a"}, kind="datasets")
    return hub
