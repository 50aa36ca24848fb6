"""hubmerge: turn a recipe into a merged model.

Importing this package imports neither torch nor numba; names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hubmerge.version import __version__

if TYPE_CHECKING:
    from hubmerge.assemble import merge
    from hubmerge.deltas import extract_adapter, intruder_dimensions, kinship
    from hubmerge.errors import ManifestError, MergeError, PlanError, RecipeError, VerifyError
    from hubmerge.in_memory import merge_state_dicts
    from hubmerge.loading import AutoMergedModel
    from hubmerge.lora import merge_adapters
    from hubmerge.manifest import Manifest, read_manifest
    from hubmerge.materialization import materialize
    from hubmerge.merged_state import MergedState
    from hubmerge.plan import build_plan
    from hubmerge.plan_types import Plan
    from hubmerge.recipe import Recipe, load_recipe
    from hubmerge.verify import verify_merge

__all__ = [
    "AutoMergedModel",
    "Manifest",
    "ManifestError",
    "MergeError",
    "MergedState",
    "Plan",
    "PlanError",
    "Recipe",
    "RecipeError",
    "VerifyError",
    "__version__",
    "build_plan",
    "extract_adapter",
    "intruder_dimensions",
    "kinship",
    "load_recipe",
    "materialize",
    "merge",
    "merge_adapters",
    "merge_state_dicts",
    "read_manifest",
    "verify_merge",
]

_HOMES = {
    "AutoMergedModel": "hubmerge.loading",
    "Manifest": "hubmerge.manifest",
    "ManifestError": "hubmerge.errors",
    "MergeError": "hubmerge.errors",
    "MergedState": "hubmerge.merged_state",
    "Plan": "hubmerge.plan_types",
    "PlanError": "hubmerge.errors",
    "Recipe": "hubmerge.recipe",
    "RecipeError": "hubmerge.errors",
    "VerifyError": "hubmerge.errors",
    "build_plan": "hubmerge.plan",
    "extract_adapter": "hubmerge.deltas",
    "intruder_dimensions": "hubmerge.deltas",
    "kinship": "hubmerge.deltas",
    "load_recipe": "hubmerge.recipe",
    "materialize": "hubmerge.materialization",
    "merge": "hubmerge.assemble",
    "merge_adapters": "hubmerge.lora",
    "merge_state_dicts": "hubmerge.in_memory",
    "read_manifest": "hubmerge.manifest",
    "verify_merge": "hubmerge.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
