"""config.json of stacked layers: their number and the lists that say something of each."""

from __future__ import annotations

from typing import Any

import pytest

from hubmerge.errors import PlanError
from hubmerge.layer_config import ChosenLayer, stacked_config
from hubmerge.layers import LayerStack, count_keys

STACK = LayerStack("model.layers.", 4)


def stacked(config: dict[str, Any], layers: list[int], stack: LayerStack = STACK, **other: Any) -> dict[str, Any]:
    """The config with these layers; an even number of `other` fields makes a second model that lends every second layer."""
    lender = {**config, **other}
    chosen = [
        ChosenLayer("./b" if other and j % 2 else "./a", lender if j % 2 else config, n) for j, n in enumerate(layers)
    ]
    return stacked_config(config, stack, chosen, "./a/config.json")


@pytest.mark.parametrize("key", ["num_hidden_layers", "n_layer", "n_layers", "num_layers"])
def test_the_number_of_layers_is_written_under_the_key_that_the_family_uses(key: str) -> None:
    assert stacked({key: 4, "n_head": 4}, [0, 1]) == {key: 2, "n_head": 4}


def test_a_text_model_inside_another_counts_its_layers_in_its_own_config() -> None:
    config = {
        "text_config": {"num_hidden_layers": 4, "layer_types": ["a", "b", "c", "d"]},
        "vision_config": {"depth": 4},
    }
    stack = LayerStack("language_model.model.layers.", 4)
    assert stacked(config, [3, 0], stack) == {
        "text_config": {"num_hidden_layers": 2, "layer_types": ["d", "a"]},
        "vision_config": {"depth": 4},
    }
    assert stacked(config, [0], LayerStack("vision_tower.encoder.layers.", 4))["vision_config"] == {"depth": 1}


@pytest.mark.parametrize(
    ("prefix", "config", "patched"),
    [
        ("encoder.block.", {"num_layers": 4, "num_decoder_layers": 4}, {"num_layers": 1, "num_decoder_layers": 4}),
        ("decoder.block.", {"num_layers": 4, "num_decoder_layers": 4}, {"num_layers": 4, "num_decoder_layers": 1}),
        ("model.encoder.layers.", {"encoder_layers": 4, "decoder_layers": 4, "num_hidden_layers": 4},
         {"encoder_layers": 1, "decoder_layers": 4, "num_hidden_layers": 1}),
        ("model.decoder.layers.", {"encoder_layers": 4, "decoder_layers": 4, "num_hidden_layers": 4},
         {"encoder_layers": 4, "decoder_layers": 1, "num_hidden_layers": 4}),
        ("bert.encoder.layer.", {"num_hidden_layers": 4}, {"num_hidden_layers": 1}),
    ],
)  # fmt: skip
def test_of_an_encoder_and_a_decoder_each_has_its_own_key(
    prefix: str, config: dict[str, int], patched: dict[str, int]
) -> None:
    assert stacked(config, [0], LayerStack(prefix, 4)) == patched


def test_lists_with_an_entry_per_layer_take_the_entries_of_the_layers_chosen() -> None:
    config = {
        "num_hidden_layers": 4, "layer_types": ["s", "s", "f", "s"], "no_rope_layers": [1, 1, 0, 1], "eos_token_id": [1, 2, 3, 4],
        "mlp_only_layers": [0, 2], "attention_types": [[["global", "local"], 2]], "architectures": ["X"],
    }  # fmt: skip
    assert stacked(config, [2, 3, 2, 0, 1]) == {
        "num_hidden_layers": 5, "layer_types": ["f", "s", "f", "s", "s"], "no_rope_layers": [0, 1, 0, 1, 1],
        "eos_token_id": [1, 2, 3, 4], "mlp_only_layers": [0, 2, 3],
        "attention_types": [[["global", "local", "global", "global", "local"], 1]], "architectures": ["X"],
    }  # fmt: skip


def test_each_layer_brings_the_entries_of_its_own_model() -> None:
    config = {"num_hidden_layers": 4, "layer_types": ["a0", "a1", "a2", "a3"]}
    assert stacked(config, [0, 0, 1, 1], layer_types=["b0", "b1", "b2", "b3"])["layer_types"] == [
        "a0",
        "b0",
        "a1",
        "b1",
    ]


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(PlanError) as refused:
        stacked({"hidden_size": 4}, [0, 1])
    assert str(refused.value) == (
        "the config does not say that there are 4 layers model.layers., so 2 cannot be written · ./a/config.json · "
        "write num_hidden_layers into it if that is what the model's code reads"
    )
    assert stacked({"hidden_size": 4}, [1, 2, 3, 0]) == {"hidden_size": 4}, "as many as before need no key"
    with pytest.raises(PlanError) as refused:
        stacked({"num_hidden_layers": 4, "layer_types": ["a", "b", "c", "d"]}, [0, 1], layer_types=None)
    assert str(refused.value) == (
        "layer_types says something of each layer, but nothing of layer 1 of ./b · ./a/config.json · "
        "write layer_types into that model's config.json too"
    )


@pytest.mark.parametrize(
    ("config", "layers", "key"),
    [
        ({"sliding_window_pattern": 2}, [0, 2], "sliding_window_pattern 2"),
        ({"full_attention_interval": 2}, [0, 1, 0], None),
        ({"full_attention_interval": 2}, [0, 3, 0, 0], "full_attention_interval 2"),
        ({"decoder_sparse_step": 1}, [3, 1], None),
        ({"first_k_dense_replace": 1}, [0, 3, 2], None),
        ({"first_k_dense_replace": 1}, [1, 2], "first_k_dense_replace 1"),
        ({"max_window_layers": 2, "use_sliding_window": False}, [3, 3], None),
        ({"max_window_layers": 2, "use_sliding_window": True}, [3, 3], "max_window_layers 2"),
        ({"sliding_window_pattern": 2, "layer_types": ["s", "f", "s", "f"]}, [0, 2], None),
    ],
)
def test_a_layer_whose_kind_is_a_matter_of_its_number_keeps_its_kind_or_is_refused(
    config: dict[str, Any], layers: list[int], key: str | None
) -> None:
    raw = {"num_hidden_layers": 4, **config}
    if key is None:
        assert stacked(raw, layers)["num_hidden_layers"] == len(layers)
        return
    with pytest.raises(PlanError, match=f"^{key} gives a layer its kind by its number, and layer"):
        stacked(raw, layers)


def test_a_number_that_only_looks_like_a_count_is_left_alone() -> None:
    config = {"num_hidden_layers": 4, "num_attention_heads": 4, "max_window_layers": 4, "pad_token_id": 4}
    assert stacked(config, [0]) == {**config, "num_hidden_layers": 1}
    assert count_keys({"num_hidden_layers": True}, 1) == ()
