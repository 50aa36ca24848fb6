"""Whom to follow on which sample: shares by how sure the parents are, with probabilities worked by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hubmerge.heterogeneous.confidence import SHARPNESS, confident_shares, shares_of_rows


class Saying(torch.nn.Module):
    """A model that gives the same logits to everything."""

    def __init__(self, logits: Any, **config: Any) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)
        self.logits = None if logits is None else torch.tensor(logits)

    def forward(self, **_: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits)


SURE, UNSURE = [1000.0, 0.0], [0.0, 0.0]
QUARTER = [math.log(3.0), 0.0]  # probabilities 3/4 and 1/4: an entropy of .811278 bits


def shares(*models: Saying, weights: tuple[float, ...] = (1.0, 1.0), **batch: torch.Tensor) -> torch.Tensor:
    found = confident_shares(models, [batch], weights)
    assert found is not None
    return found[0]


def test_the_sure_one_is_followed_and_of_two_alike_both_by_their_weights() -> None:
    found = shares(Saying([SURE, UNSURE, UNSURE]), Saying([UNSURE, SURE, UNSURE]), weights=(3.0, 1.0))
    sure = 3 / (3 + math.exp(-SHARPNESS))
    assert found[0].tolist() == pytest.approx([sure, 3 / (3 + math.exp(SHARPNESS)), 0.75], rel=1e-9)
    assert found.sum(0).tolist() == pytest.approx([1, 1, 1])


def test_a_share_falls_with_the_entropy_over_that_of_equal_chances() -> None:
    found = shares(Saying([QUARTER]), Saying([UNSURE]))
    assert found[0, 0].item() == pytest.approx(1 / (1 + math.exp(-SHARPNESS * (1 - 0.8112781245))), rel=1e-6)


def test_what_says_nothing_of_sureness_gives_no_shares() -> None:
    assert confident_shares([Saying([SURE]), Saying(None)], [{}], [1, 1]) is None
    assert confident_shares([Saying([SURE]), Saying([[3.0]])], [{}], [1, 1]) is None


def test_a_token_that_does_not_count_has_the_mean_of_those_that_do() -> None:
    models = Saying([[SURE, UNSURE, SURE]]), Saying([[UNSURE, UNSURE, UNSURE]])
    found = shares(*models, attention_mask=torch.tensor([[1, 1, 0]]))[0, 0].tolist()
    assert found == pytest.approx([1, 0.5, 0.75], abs=1e-6)
    assert shares(*models)[0, 0].tolist() == pytest.approx([1, 0.5, 1], abs=1e-6)


def test_an_encoder_and_its_decoder_share_by_samples() -> None:
    models = (
        Saying([[SURE, UNSURE, SURE]], is_encoder_decoder=True),
        Saying([[UNSURE] * 3], is_encoder_decoder=True),
    )
    masks = {"attention_mask": torch.tensor([[1, 0, 0]]), "decoder_attention_mask": torch.tensor([[1, 1, 0]])}
    assert shares(*models, **masks)[0].tolist() == pytest.approx([0.75], abs=1e-6)


def test_rows_of_images_and_texts_have_their_samples_share() -> None:
    own = torch.tensor([0.1, 0.9], dtype=torch.float64)
    assert shares_of_rows(own, torch.zeros(2, 5, 1, 2), "convolution", None).tolist() == [[0.1], [0.1], [0.9], [0.9]]
    mask = torch.tensor([[1, 1], [1, 0]])
    assert shares_of_rows(own, torch.zeros(2, 2, 3), "linear", mask).tolist() == [[0.1], [0.1], [0.9]]
    assert shares_of_rows(own, torch.zeros(2, 3), "linear", mask).tolist() == [[0.1], [0.9]]
    answers = shares_of_rows(own, torch.zeros(4, 2, 3), "linear", None)  # two answers for each sample
    assert answers.flatten().tolist() == [0.1] * 4 + [0.9] * 4


def test_tokens_have_their_own_share_and_what_has_other_places_their_mean() -> None:
    own = torch.tensor([[0.25, 0.75], [0.5, 1.0]])
    mask = torch.tensor([[1, 1], [0, 1]])
    assert shares_of_rows(own, torch.zeros(2, 2, 3), "linear", mask).tolist() == [[0.25], [0.75], [1.0]]
    assert shares_of_rows(own, torch.zeros(2, 3), "linear", mask).tolist() == [[0.5], [0.75]]
    assert shares_of_rows(own, torch.zeros(2, 3, 4), "linear", mask).tolist() == [[0.5]] * 3 + [[0.75]] * 3
