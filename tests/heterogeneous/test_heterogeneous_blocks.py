"""Which tensors are a layer that can be merged alone, and which layers are built alike."""

from __future__ import annotations

from apart_models import model

from hubmerge.heterogeneous.blocks import blocks_of, structure_of
from hubmerge.symmetry import spec_of


def test_a_layer_is_a_block_of_its_stage_as_the_table_counts_them() -> None:
    found = blocks_of(spec_of(model("resnet basic", 0)))
    assert [(block.name, block.stage, block.index, block.place) for block in found] == [
        ("resnet.encoder.stages.0.layers.0", "resnet.encoder.stages.0.layers", 0, 0),
        ("resnet.encoder.stages.1.layers.0", "resnet.encoder.stages.1.layers", 0, 1),
        ("resnet.encoder.stages.1.layers.1", "resnet.encoder.stages.1.layers", 1, 2),
    ]
    assert found[2].tensors["layer.1.convolution.weight"] == (
        "resnet.encoder.stages.1.layers.1.layer.1.convolution.weight"
    )


def test_names_of_modules_do_not_matter_to_the_stage() -> None:
    spec = spec_of(model("vit", 0))
    first, second = blocks_of(spec)
    assert (first.name, first.stage) == ("vit.layers.0", "vit.encoder.layer")
    assert "mlp.fc1.weight" in first.tensors
    assert second.index == 1


def test_encoder_and_decoder_are_two_stages() -> None:
    stages = [(block.stage.rsplit(".", 2)[-2], block.index) for block in blocks_of(spec_of(model("t5", 0)))]
    assert stages == [("encoder", 0), ("encoder", 1), ("decoder", 0), ("decoder", 1)]


def test_embeddings_and_heads_are_in_no_layer() -> None:
    spec = spec_of(model("bert classifier", 0))
    inside = {name for block in blocks_of(spec) for name in block.tensors.values()}
    outside = [name for name in spec.tensors if name not in inside]
    assert {name.split(".")[1] if name.startswith("bert.") else name.split(".")[0] for name in outside} == {
        "embeddings", "pooler", "classifier",
    }  # fmt: skip


def test_layers_are_alike_in_structure_whatever_their_sizes_and_unlike_with_a_shortcut_more() -> None:
    narrow, wide = (spec_of(model("resnet basic", 0, hidden_sizes=sizes)) for sizes in ([8, 12], [8, 20]))
    first, shortcut, plain = (structure_of(narrow, block) for block in blocks_of(narrow))
    assert structure_of(wide, blocks_of(wide)[2]) == plain
    assert structure_of(wide, blocks_of(wide)[1]) == shortcut
    assert shortcut != plain
    assert first == plain  # the stem is of the first stage's width
