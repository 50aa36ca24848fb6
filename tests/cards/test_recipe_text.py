"""The recipe of a merge as it is published: every model at its commit, wherever it is named."""

from __future__ import annotations

import yaml

from cards.content import recipe_text
from hubmerge.manifest import Manifest, ParentRecord


def test_models_in_slices_and_modules_are_named_with_their_commits() -> None:
    slices = [{"sources": [{"model": "org/a", "layer_range": [0, 2]}, {"model": "org/b+org/l", "layer_range": [1, 3]}],
               "base_model": "org/a"}]  # fmt: skip
    recipe = {
        "merge_method": "slerp",
        "base_model": "org/a",
        "modules": {"text_decoder": {"slices": slices}, "shared": {"models": [{"model": "org/a"}]}},
        "parameters": {"t": [{"filter": "model", "value": 0.5}]},
    }
    manifest = Manifest(
        hubmerge_version="0", plan_hash="", recipe=recipe, method="slerp", method_revision=1, config_donor="org/a",
        dtype="float32", parameters=1, tensors={}, files={},
        parents=(ParentRecord(reference="org/a", role="base", commit="1" * 40),
                 ParentRecord(reference="org/b", role="parent", commit="2" * 40, adapter="org/l", adapter_commit="3" * 40)),
    )  # fmt: skip
    told = yaml.safe_load(recipe_text(manifest))
    a, b = f"org/a@{'1' * 40}", f"org/b@{'2' * 40}+org/l@{'3' * 40}"
    (part,) = told["modules"]["text_decoder"]["slices"]
    assert [source["model"] for source in part["sources"]] == [a, b]
    assert (told["base_model"], part["base_model"], told["modules"]["shared"]["models"]) == (a, a, [{"model": a}])
    assert told["parameters"] == recipe["parameters"], "a filter that is called like a key is none"
