"""Recipes with something wrong, made from right ones: each is refused by one error with places and hints, or is planned."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hubmerge
from hubmerge import Plan
from hubmerge.explain import plan_dict
from zoo_index.errors import HubmergeError

RECIPES = [yaml.safe_load(path.read_text()) for path in sorted((Path(__file__).parent / "recipes").iterdir())]
VALUES: list[Any] = [
    None, True, 0, -1, 3, 0.5, -0.5, 1e40, float("nan"), 10**30, "", "x", "0.5", "./llama-math", "./gpt2-base", "union", "ties",
    "é\u0000", "../x", [], {}, [0.1, 0.9], [1, "x"], [None], [[0.5]], [0, 2], ["2", 4.0], {"a": {}}, {"value": 0.3},
    {"filter": "mlp", "value": 0.2}, [{"filter": "mlp", "value": [0, 1]}, {"value": 0.3}],
]  # fmt: skip
KEYS: list[Any] = [
    "models", "slices", "modules", "sources", "model", "layer_range", "parameters", "weight", "density", "t", "base_model",
    "dtype", "tokenizer", "tokenizer_source", "tokens", "chat_template", "source", "kind", "token", "pad_to_multiple_of",
    "sparsify", "combine", "output", "seed", "filter", "value", "lambda", "normalize", 1, None,
]  # fmt: skip
Place = tuple[Any, ...]


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """Where something stands in a recipe, the recipe itself first."""
    yield here
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in rows:
        yield from places(item, (*here, key))


def at(value: Any, place: Place) -> Any:
    for key in place:
        value = value[key]
    return value


def changed(recipe: Any, chance: random.Random) -> Any:
    """The recipe with one to three things taken out, put in, doubled, renamed, or exchanged for a part of any recipe."""
    recipe = copy.deepcopy(recipe)
    for _ in range(chance.choice((1, 1, 2, 3))):
        found = [place for place in places(recipe) if place]
        if not found:
            break
        *path, key = chance.choice(found)
        parent, kind = at(recipe, tuple(path)), chance.randrange(6)
        if kind == 0:
            del parent[key]
        elif kind == 1:
            other = chance.choice(RECIPES)
            parent[key] = copy.deepcopy(at(other, chance.choice(list(places(other)))))
        elif kind == 2 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        elif kind == 3 and isinstance(parent, dict):
            parent[chance.choice(KEYS)] = parent.pop(key)
        elif kind == 4 and isinstance(parent, dict):
            parent[chance.choice(KEYS)] = copy.deepcopy(chance.choice(VALUES))
        else:
            parent[key] = copy.deepcopy(chance.choice(VALUES))
    return recipe


def plan_or_faults(recipe: Any) -> tuple[Plan | None, tuple[HubmergeError, ...]]:
    try:
        return hubmerge.build_plan(recipe), ()
    except HubmergeError as error:
        return None, tuple(error.faults)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_changed_recipe_is_refused_in_words_or_planned(parity_place: Path, seed: int) -> None:
    chance = random.Random(seed)
    recipe = changed(chance.choice(RECIPES), chance)
    plan, faults = plan_or_faults(recipe)
    assert all(fault.message and (fault.where or fault.hint) for fault in faults)
    if plan is not None:
        assert str(plan)
        assert json.dumps(plan_dict(plan))
        assert hubmerge.build_plan(plan.recipe.to_dict()).hash == plan.hash
