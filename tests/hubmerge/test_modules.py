"""Modules: parts of a model by name, each with its own models or slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad.models import refusal
from zoo import random_values, read_model, write_model

from hubmerge import build_plan, merge

T5 = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "num_layers": 3, "num_decoder_layers": 3,
      "tie_word_embeddings": False}  # fmt: skip


def t5(seed: int) -> dict[str, np.ndarray]:
    """Names as T5 has them: two stacks of three blocks, and an embedding that both share."""
    names = ["shared.weight", "lm_head.weight", "encoder.final_layer_norm.weight", "decoder.final_layer_norm.weight"]
    names += [
        f"{side}.block.{i}.layer.{k}.w.weight" for side in ("encoder", "decoder") for i in range(3) for k in range(2)
    ]
    return {name: random_values((4, 4), 100 * seed + i) for i, name in enumerate(names)}


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b")):
        write_model(Path(name), t5(seed), config=T5)


def source(model: str, first: int, after: int) -> dict[str, Any]:
    return {"model": f"./{model}", "layer_range": [first, after]}


BOTH = [{"model": "./a", "parameters": {"weight": 0.5}}, {"model": "./b", "parameters": {"weight": 0.5}}]
FIRST = [{"model": "./a", "parameters": {"weight": 1}}]


def modules(**parts: dict[str, Any]) -> dict[str, Any]:
    return {"merge_method": "linear", "modules": parts}


def test_every_module_has_its_own_slices_and_its_own_number_of_layers() -> None:
    merge(
        modules(
            encoder={"slices": [{"sources": [source("a", 0, 2)]}, {"sources": [source("b", 1, 3)]}]},
            decoder={"slices": [{"sources": [source("b", 2, 3)]}]},
            shared={"models": BOTH},
        ),
        "out",
        jobs=1,
    )
    a, b, out = (read_model(Path(name)) for name in ("a", "b", "out"))
    encoder = [a["encoder.block.0.layer.1.w.weight"], a["encoder.block.1.layer.1.w.weight"]]
    encoder += [b["encoder.block.1.layer.1.w.weight"], b["encoder.block.2.layer.1.w.weight"]]
    for i, values in enumerate(encoder):
        assert np.array_equal(out[f"encoder.block.{i}.layer.1.w.weight"], values)
    assert np.array_equal(out["decoder.block.0.layer.0.w.weight"], b["decoder.block.2.layer.0.w.weight"])
    assert np.array_equal(out["encoder.final_layer_norm.weight"], b["encoder.final_layer_norm.weight"])
    for name in ("shared.weight", "lm_head.weight"):
        np.testing.assert_allclose(out[name], (a[name] + b[name]) / 2, rtol=1e-6)
    assert len(out) == 4 * 2 + 1 * 2 + 4
    config = build_plan(modules(encoder={"models": FIRST}, decoder={"slices": [{"sources": [source("b", 2, 3)]}]},
                                shared={"models": BOTH})).config  # fmt: skip
    assert (config["num_layers"], config["num_decoder_layers"]) == (3, 1)


def test_gradients_run_over_the_layers_of_each_module() -> None:
    plan = build_plan(
        {
            "merge_method": "slerp",
            "base_model": "./a",
            "modules": {
                "encoder": {"models": BOTH, "parameters": {"t": [0, 1]}},
                "decoder": {"models": BOTH, "parameters": {"t": [1, 0]}},
                "shared": {"models": BOTH},
            },
            "parameters": {"t": 0.25},
        }
    )
    t = {step.output.name: step.values["t"] for step in plan.steps}
    assert [t[f"encoder.block.{i}.layer.0.w.weight"] for i in range(3)] == [0, 0.5, 1]
    assert [t[f"decoder.block.{i}.layer.0.w.weight"] for i in range(3)] == [1, 0.5, 0]
    assert t["shared.weight"] == 0.25


def test_the_default_module_is_the_whole_model() -> None:
    plan = build_plan(modules(default={"models": BOTH}))
    assert sorted(step.output.name for step in plan.steps) == sorted(t5(0))
    assert "  module default\n  all of it: ./a, ./b\n" in str(plan)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ({"merge_method": "linear", "slices": [{"sources": [source("a", 0, 1)]}]},
         ("./a has several stacks of layers, and slices name none: decoder.block. (3 layers), encoder.block. (3 layers) · slices[0] · "
          "write modules: with the slices of each, named by a word of these")),
        (modules(encoder={"models": BOTH}, decoder={"models": BOTH}),
         ("2 tensors of ./a are in no module (first 'lm_head.weight') · modules · "
          "add a module for them; shared: takes all that is in no other")),
        (modules(tower={"models": BOTH}, shared={"models": BOTH}),
         ("./a has no part of that name · modules.tower · "
          "its layers are decoder.block., encoder.block.; write a word of these, or shared")),
        (modules(encoder={}, shared={"models": BOTH}),
         ("a module has either slices or models; this one has neither · recipe: modules.encoder · "
          "write slices: or models: under it")),
        (modules(default={"models": BOTH, "slices": [{"sources": [source("a", 0, 1)]}]}),
         "a module has either slices or models; this one has both · recipe: modules.default · keep one of them"),
        ({"merge_method": "linear", "modules": {True: {"models": BOTH}}},
         "a key is text, got True · recipe: modules · YAML reads on, off, yes and no as true and false"),
        (modules(default={"modles": BOTH, "models": BOTH}),
         "unknown key 'modles' · recipe: modules.default.modles · did you mean models?"),
    ],
)  # fmt: skip
def test_modules_that_do_not_fit_the_model_are_refused(raw: dict[str, Any], fault: str) -> None:
    assert refusal(raw) == [fault]


def test_a_tower_goes_by_the_name_that_mergekit_has_for_it() -> None:
    config = {"model_type": "x", "text_config": {"num_hidden_layers": 3}, "vision_config": {"num_hidden_layers": 2}}
    names = [f"model.layers.{i}.w" for i in range(3)] + [f"visual.blocks.{i}.w" for i in range(2)]
    names += ["model.embed_tokens.weight", "visual.patch_embed.weight", "lm_head.weight"]
    for seed, name in enumerate(("a", "b")):
        write_model(Path(name), {n: random_values((2, 2), 10 * seed + i) for i, n in enumerate(names)}, config=config)
    plan = build_plan(
        modules(
            text_decoder={"slices": [{"sources": [source("b", 1, 3)]}]},
            vision_tower={"models": FIRST},
            shared={"models": FIRST},
        )
    )
    parents = {step.output.name: str(plan.parents[step.operands[0].parent].reference) for step in plan.steps}
    assert parents == {
        "model.embed_tokens.weight": "./b", "model.layers.0.w": "./b", "model.layers.1.w": "./b", "visual.blocks.0.w": "./a",
        "visual.blocks.1.w": "./a", "visual.patch_embed.weight": "./a", "lm_head.weight": "./a",
    }  # fmt: skip
    assert plan.config["text_config"]["num_hidden_layers"] == 2


def test_towers_with_as_many_layers_as_each_other_are_told_apart() -> None:
    names = [f"{prefix}.{i}.w" for prefix in ("model.layers", "visual.blocks", "audio.layers") for i in range(2)]
    for seed, name in enumerate("abc"):
        counts = {f"{sense}_config": {"num_hidden_layers": 2} for sense in ("text", "vision", "audio")}
        numbers = {n: random_values((2, 2), 50 * seed + i) for i, n in enumerate(names)}
        write_model(Path(name), numbers, config={"model_type": "x", **counts})
    plan = build_plan(
        modules(
            text_decoder={"models": [{"model": "./a"}]},
            vision_tower={"models": [{"model": "./b"}]},
            audio_tower={"models": [{"model": "./c"}]},
        )
    )
    parents = [str(plan.parents[step.operands[0].parent].reference) for step in plan.steps]
    assert dict(zip((step.output.name for step in plan.steps), parents, strict=True)) == {
        name: "./b" if "visual" in name else "./c" if "audio" in name else "./a" for name in names
    }


@pytest.mark.parametrize("config", [{"text_config": {"num_hidden_layers": 3}}, {"num_hidden_layers": 3}])
def test_towers_and_what_lies_between_them_are_told_apart_as_in_mergekit(config: dict[str, Any]) -> None:
    names = [f"model.language_model.layers.{i}.{part}" for i in range(3) for part in ("a.w", "b.w")]
    names += [f"model.visual.blocks.{i}.{part}" for i in range(2) for part in ("a.w", "b.w")]
    names += ["model.language_model.embed_tokens.weight", "model.visual.patch_embed.weight", "lm_head.weight"]
    names += ["model.visual.merger.fc.weight", "model.visual.merger_list.0.w"]
    for seed, name in enumerate("abc"):
        full = {"model_type": "x", **config, "vision_config": {"depth": 2}}
        write_model(Path(name), {n: random_values((2, 2), 50 * seed + i) for i, n in enumerate(names)}, config=full)
    plan = build_plan(
        modules(
            text_decoder={"models": [{"model": "./a"}]},
            vision_tower={"models": [{"model": "./b"}]},
            multi_modal_projector={"models": [{"model": "./c"}]},
        )
    )
    parents = {step.output.name: str(plan.parents[step.operands[0].parent].reference) for step in plan.steps}
    between = {name for name in names if "merger" in name}
    vision = {name for name in names if "visual" in name} - between
    assert parents == {n: "./c" if n in between else "./b" if n in vision else "./a" for n in names}
