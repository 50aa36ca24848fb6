"""Merges whose answer is known: a model with itself in another order, with a share of nothing, and fitted to itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from apart_models import CONFIGS, Batch, batches, logits, model, reordered

from hubmerge.heterogeneous import merge_models

PLAIN: dict[str, Any] = {"fit": None, "renormalise": False, "labels": "shared"}


def differing(found: Any, wanted: Any) -> list[str]:
    """The tensors that are not bit for bit the same."""
    own = found.state_dict()
    return [name for name, values in wanted.state_dict().items() if not torch.equal(own[name], values)]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_merged_with_itself_in_another_order_is_itself_by_activations(name: str) -> None:
    base = model(name, 0)
    other, element = reordered(base, 1)
    assert differing(other, base)
    done = merge_models([base, other], batches(name), without=(), **PLAIN)
    assert differing(done.model, base) == []
    outermost = {group for group, part in element.items() if part.order.ndim == 1}
    assert outermost <= set(done.report.groups)
    for group in outermost:
        told = done.report.groups[group]
        assert told.matched == (told.merged,)
        assert told.similarity[0] > 0.85  # a unit that is never above zero is like none


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("resnet basic", {"embedding_size": 6}),
        ("resnet bottleneck", {"downsample_in_first_stage": True}),
        ("bert", {"tie_word_embeddings": False}),
        ("bert classifier", {"hidden_act": "relu"}),
        ("gpt2", {"activation_function": "relu"}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "num_attention_heads": 8}),
        ("llama", {"num_key_value_heads": 4}),
        ("t5", {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 1}),
    ],
)
def test_variants_of_an_architecture_are_brought_back_too(name: str, changes: dict[str, Any]) -> None:
    base = model(name, 0, **changes)
    other, _ = reordered(base, 1)
    done = merge_models([base, other], batches(name, size=24), without=(), **PLAIN)
    assert differing(done.model, base) == []


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_merged_with_itself_in_another_order_is_itself_by_weights(name: str) -> None:
    base = model(name, 0)
    other, _ = reordered(base, 1, inside=False)
    done = merge_models([base, other], [], align="weights", without=(), **PLAIN)
    assert differing(done.model, base) == []


@pytest.mark.parametrize("name", ["resnet basic", "vit", "gpt2", "llama"])
def test_three_orders_of_one_model_are_one(name: str) -> None:
    base = model(name, 0)
    others = [reordered(base, seed)[0] for seed in (1, 2)]
    done = merge_models([base, *others], batches(name), without=(), **PLAIN)
    assert len(differing(done.model, base)) == 0


def test_groups_that_are_left_out_keep_their_order() -> None:
    base = model("vit", 0)
    other, _ = reordered(base, 1, but=("head{l}", "qk{l}", "value{l}", "res"))
    done = merge_models([base, other], batches("vit"), without=("head{l}", "res"), **PLAIN)
    assert differing(done.model, base) == []
    assert set(done.report.groups) == {"ff0", "ff1"}


@pytest.mark.parametrize("name", ["resnet basic", "vit", "llama", "t5"])
def test_with_no_share_of_the_donor_the_base_stays_bit_for_bit(name: str) -> None:
    base, donor = model(name, 0), model(name, 1)
    done = merge_models([base, donor], batches(name), weights=(1.0, 0.0), residual="keep", **PLAIN)
    assert differing(done.model, base) == []


def test_with_no_share_of_a_wider_donor_the_base_stays_bit_for_bit() -> None:
    base = model("resnet basic", 0)
    donor = model("resnet basic", 1, embedding_size=12, hidden_sizes=[12, 18])
    done = merge_models([base, donor], batches("resnet basic"), weights=(1.0, 0.0), **PLAIN)
    assert differing(done.model, base) == []


@pytest.mark.parametrize("fit", ["merged", "parents", "auto"])
@pytest.mark.parametrize("name", ["resnet basic", "vit", "gpt2", "bert", "llama", "t5", "clip"])
def test_layers_fitted_to_the_base_itself_are_the_bases(name: str, fit: Any) -> None:
    base, donor, data = model(name, 0), model(name, 1), batches(name, size=24)
    take_statistics(base, {key: torch.cat([batch[key] for batch in data]) for key in data[0]})
    done = merge_models(
        [base, donor],
        data,
        weights=(1.0, 0.0),
        labels="shared",
        renormalise=False,
        residual="keep",
        fit=fit,
        ridge=1e-3,
    )
    for key, values in base.state_dict().items():
        torch.testing.assert_close(done.model.state_dict()[key], values, rtol=1e-3, atol=1e-4)


def take_statistics(own: Any, batch: Batch) -> None:
    """Set the statistics of every BatchNorm to the mean and the variance of what it is given, in the order of use."""

    def hook(norm: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        norm.running_var.copy_(inputs[0].var((0, 2, 3), correction=0))

    handles = [norm.register_forward_pre_hook(hook) for norm in own.modules() if isinstance(norm, torch.nn.BatchNorm2d)]
    logits(own, batch) if handles else None
    for handle in handles:
        handle.remove()
