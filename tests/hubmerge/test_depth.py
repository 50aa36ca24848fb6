"""How deep a tensor lies, from its name alone."""

from __future__ import annotations

import pytest

from hubmerge.depth import LayerDepths


def llama(layers: int) -> list[str]:
    names = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(layers)]
    return ["model.embed_tokens.weight", *names, "model.norm.weight", "lm_head.weight"]


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("model.embed_tokens.weight", 0.0),
        ("model.layers.0.mlp.up_proj.weight", 0.0),
        ("model.layers.1.mlp.up_proj.weight", 0.25),
        ("model.layers.4.mlp.up_proj.weight", 1.0),
        ("model.norm.weight", 1.0),
        ("lm_head.weight", 1.0),
    ],
)
def test_layers_count_from_0_to_1_and_the_head_counts_as_last(name: str, depth: float) -> None:
    assert LayerDepths(llama(5))(name) == depth


def test_one_layer_alone_is_the_last_one() -> None:
    assert LayerDepths(llama(1))("model.layers.0.mlp.up_proj.weight") == 1.0


def test_without_layers_everything_but_embeddings_is_deep() -> None:
    depths = LayerDepths(["wte.weight", "head.weight"])
    assert (depths.stacks, depths("wte.weight"), depths("head.weight")) == ((), 0.0, 1.0)


def test_experts_are_no_layers_however_many_there_are() -> None:
    names = [f"model.layers.{layer}.mlp.experts.{e}.w1.weight" for layer in range(3) for e in range(64)]
    depths = LayerDepths(names)
    assert [stack.count for stack in depths.stacks] == [3]
    assert depths("model.layers.1.mlp.experts.63.w1.weight") == 0.5


def test_two_towers_of_one_height_are_counted_side_by_side() -> None:
    depths = LayerDepths([f"{side}.layers.{i}.w" for side in ("encoder", "decoder") for i in range(3)])
    assert [depths(f"encoder.layers.{i}.w") for i in range(3)] == [depths(f"decoder.layers.{i}.w") for i in range(3)]


def test_two_towers_of_other_heights_count_each_by_itself() -> None:
    depths = LayerDepths([f"vision.layers.{i}.w" for i in range(2)] + [f"text.layers.{i}.w" for i in range(3)])
    assert [depths(f"vision.layers.{i}.w") for i in range(2)] == [0.0, 1.0]
    assert [depths(f"text.layers.{i}.w") for i in range(3)] == [0.0, 0.5, 1.0]


def test_a_count_with_holes_is_no_count_of_layers() -> None:
    assert LayerDepths(["head.0.weight", "head.2.weight"]).stacks == ()


def test_a_head_with_numbered_parts_is_no_stack_of_layers() -> None:
    layers = [f"model.layers.{i}.{part}" for i in range(3) for part in ("q.w", "k.w", "v.w", "o.w", "mlp.w")]
    depths = LayerDepths([*layers, "head.0.weight", "head.1.weight"])
    assert [stack.prefix for stack in depths.stacks] == ["model.layers."]
    assert depths("head.0.weight") == 1.0


@pytest.mark.parametrize(
    "name", ["shared.weight", "model.encoder.conv1.weight", "vision_model.pre_layrnorm.weight", "h.wpe.weight"]
)
def test_what_leads_to_the_layers_comes_first_whatever_it_is_called(name: str) -> None:
    assert LayerDepths([name, "a.layers.0.w", "a.layers.1.w"])(name) == 0.0


def test_a_head_called_an_embedding_comes_last() -> None:
    assert LayerDepths(["gpt_neox.embed_in.weight", "embed_out.weight"])("embed_out.weight") == 1.0


def test_stages_of_a_convolutional_network_are_its_layers() -> None:
    names = [f"resnet.encoder.stages.{s}.layers.{i}.layer.0.weight" for s in range(3) for i in range(2)]
    depths = LayerDepths([*names, "resnet.embedder.embedder.convolution.weight", "classifier.1.weight"])
    assert [depths(name) for name in names] == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    assert depths("resnet.embedder.embedder.convolution.weight") == 0.0
    assert depths("classifier.1.weight") == 1.0
