"""The benchmark of ordinary methods after an alignment: its recipes are read, and say what their lines are called."""

from __future__ import annotations

from pathlib import Path

from benchmarks.heterogeneous.aligned import ALIGNMENTS, METHODS, OTHER_WIDTHS, recipe_of
from hubmerge.alignment_checks import aligned_models, alignment_method
from hubmerge.recipe import Recipe


def test_every_method_is_merged_as_it_is_and_after_all_alignments_of_the_other_model() -> None:
    folders = [Path("/models/base"), Path("/models/other")]
    recipes = {
        (method, alignment): Recipe.parse(recipe_of(method, alignment, folders, Path("/models/data.npz")))
        for method in METHODS
        for alignment in {*ALIGNMENTS, *OTHER_WIDTHS}
    }
    assert {key: recipe.merge_method for key, recipe in recipes.items()} == {key: key[0] for key in recipes}
    for (_, alignment), recipe in recipes.items():
        aligned = [str(model) for model in aligned_models(recipe)]
        assert aligned == ([] if alignment == "none" else ["/models/other"])
        folds = {"fold": "activations", "weights_fold": "weights"}
        assert alignment == "none" or alignment_method(recipe) == folds.get(alignment, alignment)
        assert (recipe.align is not None and recipe.align.widths == "fold") == (alignment in folds)
