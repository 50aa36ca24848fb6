"""How mergekit is asked for the numbers that hubmerge is held to; mergekit itself is not needed."""

from __future__ import annotations

import runpy
from pathlib import Path

HERE = Path(__file__).parent
GENERATE = runpy.run_path(str(HERE.parents[1] / "benchmarks" / "parity" / "generate.py"))


def test_every_recipe_has_its_numbers_and_no_numbers_are_left_over() -> None:
    recipes = {path.stem for path in (HERE / "recipes").iterdir()}
    assert {path.stem for path in (HERE / "expected").iterdir()} == recipes
    assert len(recipes) > 140


def test_mergekit_computes_in_float32_and_writes_what_the_recipe_wants() -> None:
    ask = GENERATE["as_asked"]
    assert ask({"dtype": "float16"}) == {"dtype": "float32", "out_dtype": "float16"}
    assert ask({"dtype": "float16", "out_dtype": "bfloat16"}) == {"dtype": "float32", "out_dtype": "bfloat16"}
    stored = {"models": [{"model": "./llama16-math"}, {"model": "./llama16-code"}]}
    assert ask(stored)["out_dtype"] == "bfloat16"
    assert ask({"models": [*stored["models"], {"model": "./llama-math"}]})["out_dtype"] is None


def test_final_norm_and_head_are_told_the_last_value_of_a_gradient() -> None:
    ends = GENERATE["with_ends"]
    after = ("lm_head", "model.norm", "ln_f", "pooler", "classifier")
    spelled = [*({"filter": part, "value": 1} for part in after), {"value": [0, 1]}]
    assert ends({"parameters": {"t": [0, 1]}}) == {"parameters": {"t": spelled}}
    rows = [{"filter": "mlp", "value": [1, 0]}, {"value": [0, 1]}]
    assert ends({"parameters": {"t": rows}}) == {"parameters": {"t": [rows[0], *spelled]}}
    untouched = {"parameters": {"a": 0.5, "b": [], "c": [{"filter": "mlp", "value": [0, 1]}]}, "layer_range": [0, 4]}
    assert ends(untouched) == untouched
