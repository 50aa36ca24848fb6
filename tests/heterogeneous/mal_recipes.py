"""A base and donors on disk, and recipes that merge layers of them into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pleas_models import SIDE, resnet, vit


def mal(*donors: str, **changes: Any) -> dict[str, Any]:
    """A recipe of two shares for ./base, on noise; a key of None is left out."""
    given = {
        "merge_method": "mal",
        "base_model": "./base",
        "models": [{"model": name} for name in donors or ("./wide", "./deep")],
        "parameters": {"tau": 0.6, "factors": [0.1, 0.3]},
        **changes,
    }
    return {key: value for key, value in given.items() if value is not None}


def zoo(place: Path) -> None:
    """base: 3 classes; wide: half as wide again, 2 classes; deep: two blocks more; vit; data.npz with labels of the base's classes."""
    resnet(place / "base", 0, ("a", "b", "c"))
    resnet(place / "wide", 1, ("d", "e"), (6, 9))
    resnet(place / "deep", 2, ("d", "e"), depths=[1, 3])
    vit(place / "vit", 3, ("d", "e"))
    data(place)


def data(place: Path, classes: int = 3) -> None:
    values = np.random.default_rng(0).standard_normal((8, 1, SIDE, SIDE)).astype(np.float32)
    np.savez(place / "data.npz", pixel_values=values, digit=np.arange(8) % classes)


DATA = {"data": "./data.npz", "samples": 8}
PROBE = {**DATA, "labels": "digit"}
WHOLE = mal(calibration=DATA, probe=PROBE, parameters={"tau": 0.2, "eps": 0.02, "factors": [0.1, 0.3]})
"""Some layers are accepted of it, and some refused."""
