"""How wide a merge becomes: the base's config, or one with room for what is kept apart."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from apart_models import model

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.sizing import MergedWidths, Widths, merged_widths
from hubmerge.symmetry import SymmetryError, spec_of


def widths(*models: Any, asked: Widths, **arguments: Any) -> MergedWidths:
    configs = [{**each.config.to_dict(), "architectures": [type(each).__name__], "num_labels": 3} for each in models]
    return merged_widths(configs, [spec_of(each) for each in models], asked, **arguments)


@cache
def narrow() -> Any:
    return model("resnet basic", 0)


@cache
def wide() -> Any:
    return model("resnet basic", 1, embedding_size=12, hidden_sizes=[12, 12])


def test_the_bases_widths_are_the_bases_config() -> None:
    found = widths(narrow(), wide(), asked=Widths())
    assert found.changed == {}
    assert found.config["hidden_sizes"] == [8, 12]
    assert found.sizes["res1"] == 8
    assert found.sizes["mid1.0"] == 12


@pytest.mark.parametrize(
    ("ratio", "sizes"),
    [(None, [12, 12]), (0.0, [12, 12]), (0.5, [16, 18]), (1.0, [20, 24])],  # from the widest to the sum
)
def test_a_ratio_is_the_share_kept_apart(ratio: float | None, sizes: list[int]) -> None:
    found = widths(narrow(), wide(), asked=Widths("union", ratio))
    assert found.config["hidden_sizes"] == sizes
    assert (found.sizes["res1"], found.sizes["mid0.0"], found.sizes["res2"]) == (sizes[0], sizes[0], sizes[1])


def test_a_field_of_blocks_has_one_width_in_all_of_them() -> None:
    own = [model("vit", seed) for seed in (0, 1)]
    found = widths(*own, asked=Widths("union", 0.5))
    assert found.changed == {"intermediate_size": 36}
    assert (found.sizes["ff0"], found.sizes["ff1"], found.sizes["res"]) == (36, 36, 16)


def test_a_budget_is_kept_and_one_below_the_widest_parent_is_refused() -> None:
    found = widths(narrow(), narrow(), asked=Widths("union", budget=1.5))
    assert [8, 12] < found.config["hidden_sizes"] < [12, 18]
    with pytest.raises(SymmetryError, match=r"^the narrowest merge of these parents costs \d\.\d\d times the base"):
        widths(narrow(), wide(), asked=Widths("union", budget=1.01))


@pytest.mark.parametrize("asked", [Widths("base", 0.5), Widths("base", budget=1.5)])
def test_the_bases_widths_take_no_ratio_and_no_budget(asked: Widths) -> None:
    with pytest.raises(PlanError, match=r"^a budget or a ratio needs widths: union"):
        widths(narrow(), wide(), asked=asked)
