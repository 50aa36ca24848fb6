"""What cannot be merged is refused before anything is computed, with what to do instead."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from apart_models import TEXT, batches, model

from hubmerge.errors import PlanError
from hubmerge.heterogeneous import Donor, assemble_from_zoo, merge_models, transport_deltas
from hubmerge.heterogeneous.mal_laws import laws
from hubmerge.symmetry import SymmetryError


def refused(models: list[Any], data: Any = (), **arguments: Any) -> str:
    with pytest.raises(PlanError) as caught:
        merge_models(models, data, **{"labels": "shared", **arguments})
    return str(caught.value)


def test_models_of_two_architectures() -> None:
    assert refused([model("vit", 0), model("bert", 0)], batches("vit")) == (
        "model 1 is vit, model 2 is bert · models · merge models of one architecture"
    )


def test_vocabularies_of_two_sizes() -> None:
    assert refused([model("bert", 0), model("bert", 1, vocab_size=25)], batches("bert")) == (
        "group 'token' (tokens) has 20 and 25 entries · models · "
        "rows are aligned by token: in a recipe, save a tokenizer in every folder; in Python, give `tokens`"
    )


def test_tables_of_positions_of_two_lengths_in_a_model_of_texts_and_images() -> None:
    short = model("clip", 1, text_config={**TEXT, "max_position_embeddings": 16})
    assert refused([model("clip", 0), short], batches("clip")).startswith(
        "group 'position' (positions) has 32 and 16 entries"
    )


def test_streams_of_two_widths_that_are_not_matched() -> None:
    wide = model("vit", 1, hidden_size=24)
    assert refused([model("vit", 0), wide], batches("vit")).startswith(
        "group 'res' (permutation) has 16 and 24 entries"
    )
    done = merge_models([model("vit", 0), wide], batches("vit"), labels="shared", without=())  # asked for, they are
    assert done.model.config.hidden_size == 16
    assert torch.isfinite(done.model(**batches("vit")[0]).logits).all()


def test_rotary_heads_of_two_sizes() -> None:
    assert refused([model("qwen3", 0), model("qwen3", 1, head_dim=4)], batches("qwen3")) == (
        "group 'rope0' (plane signs) has 8 and 4 entries · models · "
        "heads are matched as wholes, and their features turn with the position: take models with heads of one size"
    )
    assert refused([model("llama", 0, head_dim=4), model("llama", 1, head_dim=8)], batches("llama")).startswith(
        "group 'rope0' (planes) has 4 and 8 entries"
    )


def test_widths_that_differ_without_activations() -> None:
    parents = [model("vit", 0), model("vit", 1, intermediate_size=32)]
    assert refused(parents, align="identity", fit=None).startswith("group 'ff0' (permutation) has 24 and 32 entries")
    assert refused(parents, align="weights", fit=None).startswith("group 'ff0' (permutation) has 24 and 32 entries")


def test_an_embedding_that_is_the_head_in_one_model_alone() -> None:
    parents = [model("qwen2", 0), model("qwen2", 1, tie_word_embeddings=False)]
    assert refused(parents, batches("qwen2")) == (
        "only model 1 uses model.embed_tokens.weight for its head too · models · "
        "save both models with the same tie_word_embeddings; merge_method: mal takes single layers as they are"
    )


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({}, 'align="activations"'),
        ({"align": "weights"}, 'fit="auto"'),
        ({"align": "weights", "fit": None}, "renormalise=True"),
    ],
)
def test_no_data_where_some_is_needed(arguments: dict[str, Any], what: str) -> None:
    parents = [model("resnet basic", seed) for seed in (0, 1)]
    assert refused(parents, [], **arguments) == (
        f"{what} needs calibration data, and there are no batches · batches · "
        'give batches, or align="weights", fit=None, renormalise=False, which need none'
    )
    merge_models(parents, [], align="weights", fit=None, renormalise=False, labels="shared")


def test_a_model_without_batch_norm_needs_no_data_to_be_normalised() -> None:
    parents = [model("vit", seed) for seed in (0, 1)]
    merge_models(parents, [], align="weights", fit=None, labels="shared")


def test_widths_that_contradict_one_another() -> None:
    parents = [model("resnet basic", seed) for seed in (0, 1)]
    data = batches("resnet basic")
    assert refused(parents, data, ratio=0.5) == "a budget or a ratio needs widths: union · align · write widths: union"
    assert refused(parents, data, widths="union", ratio=1.5) == (
        "ratio must be from 0 to 1, got 1.5 · align · 1 keeps all units apart"
    )
    assert refused(parents, data, widths="union", ratio=0.5, budget=2.0) == (
        "both a ratio and a budget are given · align · leave one of them out"
    )


def test_an_architecture_without_a_table() -> None:
    import transformers

    fields = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    electra = transformers.ElectraModel(transformers.ElectraConfig(**fields))
    with pytest.raises(SymmetryError, match=r"^no symmetry table for architecture 'electra'"):
        merge_models([electra, electra], [])


def test_weights_that_are_no_shares() -> None:
    parents = [model("vit", seed) for seed in (0, 1)]
    assert refused(parents, batches("vit"), weights=(1.0,)) == (
        "there are 2 models and 1 weights · weights · give each its weight"
    )
    for weights, told in (((1.0, -0.5), "1, -0.5"), ((0.0, 0.0), "0, 0"), ((1.0, float("nan")), "1, nan")):
        assert refused(parents, batches("vit"), weights=weights) == (
            f"weights must be 0 or more, and not all 0, got {told} · weights · "
            "a weight is a model's share where several have a unit"
        )


def test_a_group_that_does_not_exist_cannot_be_left_out() -> None:
    assert refused([model("vit", seed) for seed in (0, 1)], batches("vit"), without=("heads",)).startswith(
        "there is no group 'heads' · without · there are res, "
    )


def test_rotary_positions_of_two_speeds() -> None:
    fast = model("llama", 1, rope_parameters={"rope_type": "default", "rope_theta": 500.0})
    assert refused([model("llama", 0), fast], batches("llama")) == (
        "model 1 and model 2 turn positions at other speeds (rope_theta 10000.0 vs 500.0), which no matching of heads brings "
        "together · models · take parents of the same rope parameters"
    )
    with pytest.raises(PlanError, match=r"^the base and donors\[0\] turn positions at other speeds"):
        assemble_from_zoo(model("llama", 0), [fast], batches("llama"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_models_in_half_precision_are_not_run(dtype: str) -> None:
    base, half = model("vit", 0), model("vit", 1).to(getattr(torch, dtype))
    calls = {
        "models[1]": lambda: merge_models([base, half], batches("vit"), labels="shared"),
        "donors[0].base": lambda: transport_deltas(base, [Donor(base, half)], batches("vit")),
        "donors[0]": lambda: assemble_from_zoo(base, [half], batches("vit")),
        "base": lambda: laws(half, [base], batches("vit")),
    }
    for where, call in calls.items():
        with pytest.raises(PlanError) as caught:
            call()
        assert str(caught.value) == (
            f"this model is in {dtype}, and models are run in float32 · {where} · load it with from_pretrained(..., dtype=torch.float32), "
            "or write a recipe, which does"
        )
    assert all(value.dtype == getattr(torch, dtype) for value in half.state_dict().values())
    by_weights = merge_models([base, half], [], align="weights", fit=None, labels="shared")
    assert by_weights.model.dtype == torch.float32  # nothing is run
