"""Fixtures of the tests of the test Hub."""

from __future__ import annotations

from hub.fixtures import api, hub, hub_home, start_hub

__all__ = ["api", "hub", "hub_home", "start_hub"]
