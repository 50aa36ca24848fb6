"""Fitting a whole model: disturbed layers compute again what the parent's do, and each layer is fitted to the right thing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from apart_models import batches, logits, model

from hubmerge.heterogeneous import merge_models
from hubmerge.heterogeneous.fit import _targets, fit_layers
from hubmerge.heterogeneous.layer_fit import Fit
from hubmerge.heterogeneous.layers import layers_of
from hubmerge.heterogeneous.norms import renormalise
from hubmerge.symmetry import spec_of


def disturbed(own: Any) -> Any:
    """A copy whose linear layers have other weights, but those of heads, which may be tied."""
    other, random = copy.deepcopy(own), torch.Generator().manual_seed(3)
    modules = dict(other.named_modules())
    with torch.no_grad():
        for layer in layers_of(other, spec_of(other)):
            module = modules[layer.name]
            if layer.name in {"lm_head", "cls.predictions.decoder"}:
                continue
            noise = torch.randn(module.weight.shape, generator=random)
            module.weight.add_(0.5 * module.weight.std() * noise)
            if module.bias is not None:
                module.bias.zero_()
    return other


def away(found: Any, wanted: Any, name: str) -> float:
    batch = batches(name, count=1, seed=21)[0]
    answer = _answer(wanted, batch)
    return float((_answer(found, batch) - answer).norm() / answer.norm())


def _answer(own: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    if "pixel_values" in batch and "input_ids" in batch:
        with torch.no_grad():
            found: torch.Tensor = own(**batch).image_embeds
        return found
    return logits(own, batch)


@pytest.mark.parametrize("fit", ["merged", "parents"])
@pytest.mark.parametrize("name", ["resnet bottleneck", "vit", "bert", "gpt2", "llama", "qwen3", "t5", "clip"])
def test_disturbed_layers_compute_again_what_the_parents_do(name: str, fit: Any) -> None:
    parent, data = model(name, 0), batches(name, size=48)
    renormalise(parent, data)
    other = disturbed(parent)
    before = away(other, parent, name)
    fit_layers(other, [parent], [spec_of(parent)], {}, [1.0], data, Fit(fit, ridge=1e-9))
    after = away(other, parent, name)
    assert before > 0.2
    assert after < 0.02


def targets(name: str, *, stream: bool = True) -> dict[str, Any]:
    own = model(name, 0)
    return _targets(own, [own], [spec_of(own)], batches(name)[0], Fit("merged", stream=stream))


@pytest.mark.parametrize(
    ("name", "adding"),
    [
        ("vit", {"attention.o_proj", "mlp.fc2"}),
        ("gpt2", {"attn.c_proj", "mlp.c_proj"}),
        ("llama", {"self_attn.o_proj", "mlp.down_proj"}),
        ("qwen3", {"self_attn.o_proj", "mlp.down_proj"}),
        ("t5", {"SelfAttention.o", "EncDecAttention.o", "DenseReluDense.wo"}),
        ("bert", set()),
        ("resnet basic", set()),
    ],
)
def test_what_adds_to_a_stream_under_norms_is_fitted_to_the_stream(name: str, adding: set[str]) -> None:
    found = {layer for layer, target in targets(name).items() if target.stream is not None}
    assert {".".join(layer.split(".")[-2:]) for layer in found} == adding
    assert len(found) == len([layer for layer in targets(name) if ".".join(layer.split(".")[-2:]) in adding])
    assert all(target.stream is None for target in targets(name, stream=False).values())


def test_the_last_layer_of_clips_images_is_fitted_by_itself_since_its_norm_sees_one_token() -> None:
    found = {layer for layer, target in targets("clip").items() if target.stream is not None}
    assert "vision_model.encoder.layers.0.mlp.fc2" in found
    assert "vision_model.encoder.layers.1.mlp.fc2" not in found
    assert "text_model.encoder.layers.1.mlp.fc2" in found


def test_convolutions_know_the_norm_behind_them() -> None:
    found = targets("resnet basic")
    assert {layer.replace("convolution", "normalization") for layer in found if "convolution" in layer} == {
        target.norm.name for target in found.values() if target.norm is not None
    }
    assert found["classifier.1"].norm is None


def test_layers_that_are_tied_are_not_fitted() -> None:
    assert "lm_head" in targets("llama")
    for name, head in (
        ("gpt2", "lm_head"),
        ("qwen2", "lm_head"),
        ("t5", "lm_head"),
        ("bert", "cls.predictions.decoder"),
    ):
        assert head not in targets(name)


def test_all_parts_of_the_data_count_whatever_their_order() -> None:
    parents, data = [model("resnet basic", seed) for seed in (0, 1)], batches("resnet basic", count=8, size=6)
    for k, batch in enumerate(data):
        batch["pixel_values"] += float(k // 4)  # two kinds of images
    one = merge_models(parents, data, labels="shared", fit="merged", ridge=1e-3).model.state_dict()
    for order in ([7, 6, 5, 4, 3, 2, 1, 0], [0, 2, 4, 6, 1, 3, 5, 7]):
        other = merge_models(parents, [data[k] for k in order], labels="shared", fit="merged", ridge=1e-3).model
        for name, values in other.state_dict().items():
            torch.testing.assert_close(one[name], values, rtol=2e-3, atol=2e-4)
