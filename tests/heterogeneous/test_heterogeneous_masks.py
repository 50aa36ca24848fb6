"""Tokens that do not count: padding changes nothing of a merge, whatever its side and whatever is in it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from apart_models import Batch, batches, model

from hubmerge.heterogeneous import merge_models
from hubmerge.heterogeneous.layers import channels_last, layers_of
from hubmerge.symmetry import spec_of


def padded(data: list[Batch], *, tokens: int, key: str = "input_ids", mask: str = "attention_mask") -> list[Batch]:
    """The same texts, longer by tokens that the mask leaves out and that are not alike."""
    random = torch.Generator().manual_seed(3)
    found = []
    for batch in data:
        size, length = batch[key].shape
        more = torch.randint(3, 20, (size, tokens), generator=random)
        ones, zeros = torch.ones(size, length, dtype=torch.long), torch.zeros(size, tokens, dtype=torch.long)
        found.append({**batch, key: torch.cat([batch[key], more], 1), mask: torch.cat([ones, zeros], 1)})
    return found


def merged(name: str, data: list[Batch], **arguments: Any) -> dict[str, torch.Tensor]:
    parents = [model(name, seed) for seed in (0, 1)]
    state: dict[str, torch.Tensor] = merge_models(
        parents, data, ridge=1e-3, labels="shared", **arguments
    ).model.state_dict()
    return state


@pytest.mark.parametrize("fit", [None, "merged", "parents"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_padded_texts_give_the_merge_of_the_same_texts_unpadded(name: str, fit: Any) -> None:
    data = batches(name)
    plain, longer = merged(name, data, fit=fit), merged(name, padded(data, tokens=4), fit=fit)
    for key, values in plain.items():
        torch.testing.assert_close(longer[key], values, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("tokens", [2, 3])  # with 2 the decoder's texts are as long as the encoder's
def test_an_encoder_and_its_decoder_each_have_their_own_mask(tokens: int) -> None:
    data = batches("t5")
    longer = padded(padded(data, tokens=1), tokens=tokens + 1, key="decoder_input_ids", mask="decoder_attention_mask")
    plain, found = (merged("t5", each, fit="merged") for each in (data, longer))
    for key, values in plain.items():
        torch.testing.assert_close(found[key], values, rtol=1e-3, atol=1e-3)


def test_the_layers_of_a_decoder_name_its_mask_and_what_it_reads_of_the_encoder_the_encoders() -> None:
    own = model("t5", 0)
    masks = {layer.name: layer.mask for layer in layers_of(own, spec_of(own))}
    assert masks["encoder.block.0.layer.0.SelfAttention.q"] == "attention_mask"
    assert masks["decoder.block.0.layer.0.SelfAttention.k"] == "decoder_attention_mask"
    assert masks["decoder.block.0.layer.1.EncDecAttention.q"] == "decoder_attention_mask"
    assert masks["decoder.block.0.layer.1.EncDecAttention.k"] == "attention_mask"
    assert masks["decoder.block.0.layer.1.EncDecAttention.v"] == "attention_mask"
    assert masks["decoder.block.0.layer.1.EncDecAttention.o"] == "decoder_attention_mask"
    assert masks["lm_head"] == "decoder_attention_mask"


def test_the_mask_of_texts_says_nothing_of_images() -> None:
    own = model("clip", 0)
    masks = {layer.name: layer.mask for layer in layers_of(own, spec_of(own))}
    assert masks["text_model.encoder.layers.0.mlp.fc1"] == "attention_mask"
    assert masks["vision_model.encoder.layers.0.mlp.fc1"] is None


def test_rows_are_the_tokens_that_count_and_all_places_of_an_image() -> None:
    texts = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[1, 0, 1], [0, 1, 0]])
    assert channels_last(texts, "linear", mask).tolist() == [[0, 1], [4, 5], [8, 9]]
    assert channels_last(texts, "linear").shape == (6, 2)
    assert channels_last(texts, "linear", mask.reshape(2, 1, 3)).tolist() == [
        [0, 1],
        [4, 5],
        [8, 9],
    ]  # a multiple choice
    assert channels_last(texts[:, 0], "linear", mask).tolist() == [[0, 1], [6, 7]]
    images = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert channels_last(images, "convolution", mask).tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
