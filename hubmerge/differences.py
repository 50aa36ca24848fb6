"""What mergekit does otherwise with a recipe like this, for whoever reads a plan; docs/from_mergekit.md has all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hubmerge.plan_types import Plan

__all__ = ["differences"]

_TEMPLATES = {
    "alpaca": "with Alpaca's preamble (mergekit: without)",
    "exaone": "without indentation (mergekit: with that of its source)",
    "llama3": "without line breaks between turns (mergekit: with)",
    "mistral": "without a space before [INST] (mergekit: with one)",
}
"""The built-in chat templates that read otherwise than mergekit's of the same name."""
_ALWAYS_FLOAT32 = frozenset({"linear", "slerp", "passthrough"})
"""Methods that mergekit, too, computes in float32 whatever the tensors are stored as."""
_HALVES = frozenset({"float16", "bfloat16"})


def differences(plan: Plan) -> tuple[str, ...]:
    """The differences from mergekit 0.1.5 that concern `plan`, each a sentence without a full stop.

    Those that are notes or warnings of the plan (gradients, tied heads, an averaged base) are not said again.
    """
    recipe = plan.recipe
    merged = [step for step in plan.steps if step.action == "merge"]
    found = [text for step in merged for text in _of_method(plan, step.values)]
    if plan.method.name not in _ALWAYS_FLOAT32:
        computed = {_computed_in(plan, [o.tensor.dtype.torch_name for o in step.inputs]) for step in merged}
        found += [
            f"numbers are computed in float32 and rounded once (mergekit: every step in {kind})"
            for kind in sorted(computed & _HALVES)
        ]
    if any(o.low_rank and o.tensor.dtype.torch_name in _HALVES for step in merged for o in step.inputs):
        found.append("adapters are added in float32 (mergekit: rounded to the model's type before it is merged)")
    if recipe.base_model is None and len(plan.parents) > 1:
        found.append("config.json is that of the first model listed (mergekit: of any, another from run to run)")
    if recipe.slices and len(recipe.slices[-1].sources) > len(recipe.slices[0].sources):
        found.append("after the layers all sources of the last slice count (mergekit: as many as the first slice has)")
    if recipe.chat_template in _TEMPLATES:
        found.append(f"chat template {recipe.chat_template}: {_TEMPLATES[recipe.chat_template]}")
    return tuple(dict.fromkeys(found))


def _of_method(plan: Plan, values: Mapping[str, Any]) -> list[str]:
    stage = plan.method.before.name if plan.method.before else ""
    drops = bool(stage) and min(values["density"]) < 1
    found = []
    if (drops and stage in {"magnitude", "breadcrumbs"}) or values.get("select_topk", 1) < 1:
        found.append("entries that tie with a threshold are all kept (mergekit: some, by the order of a sort)")
    if drops and stage in {"random", "della"}:
        found.append("the random entries are others than mergekit's: seed, parent, tensor and entry decide")
    if plan.method.name == "arcee_fusion":
        found.append("quartiles and divergences of rows are exact (mergekit: of a sample, and rounded to float32)")
    return found


def _computed_in(plan: Plan, stored: list[str]) -> str:
    """The type that mergekit computes in: the recipe's `dtype`, else the tensors' own where they are of one."""
    return plan.recipe.dtype or (stored[0] if len(set(stored)) == 1 else "float32")
