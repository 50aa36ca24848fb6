"""Donors from a catalog: found by a query, those that do not fit passed over with the reason, all of them listed in the recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
from mal_recipes import mal
from pleas_models import resnet

import hubmerge
from hubmerge.errors import PlanError
from hubmerge.heterogeneous.mal_plan_types import MalPlan
from hubmerge.recipe import Recipe
from zoo_index.catalog import Catalog

pytestmark = pytest.mark.usefixtures("in_mal_zoo")


@pytest.fixture
def catalog(mal_zoo: Path, tmp_path: Path) -> str:
    """A catalog of all models there are, and of one that is no donor of the base."""
    resnet(mal_zoo / "more" / "bottleneck", 5, ("d", "e"), layer_type="bottleneck")
    with Catalog.open(tmp_path / "zoo.duckdb") as own:
        own.sync(mal_zoo)
    return str(tmp_path / "zoo.duckdb")


def test_donors_from_a_catalog_are_found_listed_and_part_of_the_recipe(catalog: str, mal_zoo: Path) -> None:
    plan = hubmerge.build_plan(mal("./wide", zoo=catalog))
    assert isinstance(plan, MalPlan)
    found = str(mal_zoo / "deep")
    assert [str(parent.reference) for parent in plan.parents] == ["./wide", found, "./base"]
    assert plan.recipe.to_dict() == Recipe.parse(mal("./wide", found)).to_dict()
    assert plan.catalog is not None
    assert (plan.catalog.taken, plan.catalog.left) == ((found,), 0)
    text = str(plan)
    assert f"  {found}  (from the catalog)  embedding_size 4, hidden_sizes 4 6; 4 layers" in text
    assert (
        f"  passed over: {mal_zoo}/more/bottleneck: none of its layers can go with one of ./base's: "
        "no layer of its stage has the same structure"
    ) in text
    assert plan.hash == hubmerge.build_plan(mal("./wide", found)).hash


def test_a_query_narrows_a_catalog_and_a_limit_cuts_it(catalog: str, mal_zoo: Path) -> None:
    asked = {"catalog": catalog, "text": "WID resnet"}
    raw = mal(zoo=asked)
    del raw["models"]
    plan = hubmerge.build_plan(raw)
    assert [str(parent.reference) for parent in plan.parents] == [str(mal_zoo / "wide"), "./base"]
    raw["zoo"] = {"catalog": catalog, "limit": 1}
    plan = hubmerge.build_plan(raw)
    assert [str(parent.reference) for parent in plan.parents] == [str(mal_zoo / "deep"), "./base"]
    assert plan.notes == ("zoo: the first 1 that fit are taken, 2 more of the catalog were not looked at",)


def test_a_catalog_without_a_donor_is_refused_with_what_it_has(catalog: str, mal_zoo: Path) -> None:
    raw = mal(zoo={"catalog": catalog, "text": "bottleneck"})
    del raw["models"]
    with pytest.raises(PlanError) as refused:
        hubmerge.build_plan(raw)
    assert str(refused.value) == (
        f"{catalog} has no donor for ./base that fits this query · zoo · {mal_zoo}/more/bottleneck: none of its layers can go with one of "
        "./base's: no layer of its stage has the same structure; ask for others, or list donors under models"
    )
    raw["zoo"] = {"catalog": catalog, "licence": "mit"}
    with pytest.raises(PlanError) as refused:
        hubmerge.build_plan(raw)
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("`hubmerge zoo find` shows what the catalog holds")
