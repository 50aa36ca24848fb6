"""Which names of files are weights: those a merge writes, and those that would compete with them in one repository."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

__all__ = ["RECIPE_NAME", "competes", "holds_only_recipe", "is_weights"]

RECIPE_NAME = "recipe.yaml"
"""The pinned recipe in a merge that is published without weights."""

_OWN = ("*.safetensors", "*.safetensors.index.json")
_OTHERS = (
    "pytorch_model*.bin",
    "pytorch_model.bin.index.json",
    "adapter_model.bin",
    "tf_model.h5",
    "flax_model*.msgpack",
)


def is_weights(name: str) -> bool:
    """Whether a file at the top of a merge's folder holds its weights, or is their index."""
    return "/" not in name and any(fnmatch.fnmatchcase(name, pattern) for pattern in _OWN)


def holds_only_recipe(names: Iterable[str]) -> bool:
    """Whether the files of a merge are those of one that was published without weights."""
    names = tuple(names)
    return RECIPE_NAME in names and not any(map(is_weights, names))


def competes(name: str, *, adapter: bool) -> bool:
    """Whether a file that stays in a repository could be loaded instead of the weights published there.

    adapter: an adapter is published; otherwise an adapter_config.json that stays would be put on the model.
    """
    if is_weights(name) or (not adapter and name == "adapter_config.json"):
        return True
    return "/" not in name and any(fnmatch.fnmatchcase(name, pattern) for pattern in _OTHERS)
