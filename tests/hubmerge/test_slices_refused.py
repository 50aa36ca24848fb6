"""Slices that are refused, and what is told of those that are merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad.models import refusal
from slice_models import config, folder, sliced, source, tensors, three_models_in
from zoo import recipe, write_model

from hubmerge import PlanError, build_plan


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    three_models_in(tmp_path)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (sliced("passthrough", [source("a", 2, 6)]),
         "layer_range [2, 6] ends behind the 4 layers of ./a · slices[0].sources[0].layer_range · at most [2, 4]: the end is not included"),
        (sliced("linear", [source("a", 0, 2), source("c", 0, 3)]),
         ("the sources bring different numbers of layers: 2 of ./a, 3 of ./c · recipe: slices[0] · "
         "all layer_range of one slice have the same length")),
        (sliced("passthrough", [source("a", 3, 1)]),
         "layer_range [3, 1] runs backwards · recipe: slices[0].sources[0].layer_range · write [1, 3]"),
        (sliced("passthrough", [source("a", 2, 2)]),
         ("layer_range [2, 2] holds no layer · recipe: slices[0].sources[0].layer_range · "
         "the end is not included: [2, 3] is layer 2; leave the slice out for no layer")),
        (sliced("passthrough", [source("a", -1, 2)]),
         ("layer_range [-1, 2] begins before layer 0 · recipe: slices[0].sources[0].layer_range · "
         "the first layer is 0, the end is not included")),
        (sliced("passthrough", [{"model": "./a", "layer_range": 3}]),
         "layer_range must be two layer numbers like [0, 8], got 3 · recipe: slices[0].sources[0].layer_range · see docs/recipe.md"),
        (sliced("passthrough", [{"model": "./a"}]),
         "layer_range is missing · recipe: slices[0].sources[0].layer_range · write layer_range: [0, 8]"),
        (sliced("passthrough", [source("a", 0, 1), source("b", 0, 1)]),
         "passthrough takes 1 model; the slice has 2 · recipe: slices[0] · given: ./a, ./b"),
        (sliced("linear", [source("a", 0, 1), source("a", 1, 2)]),
         "./a is listed twice · recipe: slices[0] · list each model once, with its weight"),
        (sliced("ties", [source("a", 0, 1), source("b", 0, 1)], base_model="./c"),
         ("base_model ./c is not among the sources · recipe: slices[0] · "
         "add it with the layers to start from: {model: ./c, layer_range: [0, 1]}")),
        (sliced("passthrough", {"sources": [source("a", 0, 1)], "merge_method": "linear"}),
         "unknown key 'merge_method' · recipe: slices[0].merge_method · merge_method stands at the top of the recipe"),
        (sliced("passthrough", [{**source("a", 0, 1), "revision": "v1"}]),
         "unknown key 'revision' · recipe: slices[0].sources[0].revision · write model: org/name@revision"),
        (sliced("linear", [{**source("a", 0, 1), "weight": 1}]),
         "unknown key 'weight' · recipe: slices[0].sources[0].weight · weight goes under parameters:"),
        (sliced("passthrough", [source("a", 0, 1)], models=[{"model": "./a"}]),
         "a recipe has either models, slices or modules; this one has models and slices · recipe: slices · keep one of them"),
        (sliced("passthrough", []),
         "no sources are listed · recipe: slices[0].sources · write one `- {model: org/name, layer_range: [0, 8]}` line for each"),
        ({"merge_method": "linear", "models": [source("a", 0, 1)]},
         ("unknown key 'layer_range' · recipe: models[0].layer_range · "
         "layers are chosen in slices: - sources: [{model: org/name, layer_range: [0, 8]}]")),
        ({"merge_method": "linear", "sources": [source("a", 0, 1)], "models": [{"model": "./a"}]},
         "unknown key 'sources' · recipe: sources · sources stand in an entry of slices"),
        (sliced("linear", [source("a", 0, 1)], parameters={"dtype": "float16"}),
         "dtype is no parameter · recipe: parameters.dtype · dtype stands at the top of the recipe"),
        (sliced("slerp", [source("a", 0, 2, t=0.5), source("c", 0, 2)], base_model="./a"),
         "parameter t is missing · recipe: parameters · move it from the models to the top-level parameters"),
        (sliced("linear", [source("a", 0, 3, weight=[1, -1]), source("c", 1, 4, weight=[1, 1])]),
         ("weights [-1.0, 1.0] sum to zero, so they cannot be normalised: 4 tensors (first 'model.layers.2.mlp.up.weight') · "
         "parameters.weight")),
    ],
)  # fmt: skip
def test_slices_that_cannot_be_merged_are_refused_with_the_fault_named(raw: dict[str, Any], fault: str) -> None:
    (told,) = refusal(raw)
    assert told.startswith(fault)


def test_what_the_configs_layers_look_like_is_what_every_layer_has_to_be() -> None:
    wide = {name: np.zeros((5, 5) if values.ndim == 2 else 5, "float32") for name, values in folder("b").items()}
    write_model(Path("b"), wide, config=config(3, hidden_size=5))
    write_model(Path("a"), folder("a"), config=config(4, hidden_size=4))
    with pytest.raises(PlanError, match=r"\./a and \./b have different shapes: hidden_size 4 vs 5"):
        build_plan(sliced("passthrough", [source("a", 0, 1)], [source("b", 0, 1)], [source("a", 1, 2)]))
    more = {f"model.layers.{i}.extra.weight": np.zeros(2, "float32") for i in range(4)}
    write_model(Path("c"), {**folder("c"), **more}, config=config(4))
    assert refusal(sliced("passthrough", [source("a", 0, 1)], [source("c", 0, 2)], [source("a", 1, 2)])) == [
        (
            "2 tensors (first 'model.layers.0.extra.weight') of ./c are not in ./a · models · "
            "every parent must have the same tensors; `hubmerge zoo compatible` finds such models"
        )
    ]


def test_a_head_that_the_config_ties_is_not_written_for_nothing() -> None:
    tied = {name: values for name, values in folder("a").items() if name != "lm_head.weight"}
    write_model(Path("a"), tied, config=config(4, tie_word_embeddings=True))
    assert refusal(sliced("passthrough", [source("a", 0, 2)], [source("c", 2, 4)]))[0].startswith(
        "tensor 'lm_head.weight' of ./c is not in ./a: tie_word_embeddings true vs false"
    )
    # the other way round the embeddings of the tied model are its head
    plan = build_plan(sliced("passthrough", [source("c", 0, 2)], [source("a", 2, 4)]))
    (head,) = (step for step in plan.steps if step.output.name == "lm_head.weight")
    assert head.operands[0].tensor.name == "model.embed_tokens.weight"
    assert "./a ties its head to its embeddings: they stand for its lm_head.weight" in plan.warnings
    # stored, and tied all the same
    write_model(Path("a"), tensors(0, 4), config=config(4, tie_word_embeddings=True))
    assert refusal(recipe("linear", ["./a", "./c"])) == [
        (
            "./a ties its head to its embeddings, ./c does not · lm_head.weight · "
            "the merged head would never be used: name the other as base_model"
        )
    ]


def test_other_fields_of_the_configs_that_differ_are_told_though_the_shapes_agree() -> None:
    write_model(Path("b"), folder("b"), config=config(3, num_attention_heads=2, rope_theta=10.0))
    write_model(Path("a"), folder("a"), config=config(4, num_attention_heads=4, rope_theta=20.0))
    told = build_plan(sliced("passthrough", [source("a", 0, 4)], [source("b", 0, 3)])).warnings
    assert (
        told[0]
        == "./a and ./b: rope_theta 20.0 vs 10.0: positions are rotated at other speeds, and a merge fits neither"
    )
    assert (
        "./a and ./b: num_attention_heads 4 vs 2: the tensors have the same shapes but are used in another way" in told
    )


def test_a_residual_weight_is_told_to_be_without_effect() -> None:
    raw = sliced("passthrough", {"sources": [source("a", 0, 4)], "residual_weight": 0.3})
    assert build_plan(raw).warnings == (
        "slices[0].residual_weight is ignored: it has no meaning, in mergekit neither; remove it",
    )
