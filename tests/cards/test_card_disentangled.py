"""The card of a merge by awd: how alike the models' changes were and are, and the weights that it comes to."""

from __future__ import annotations

import pytest
from card_builders import card_of, image_model, merge_of
from huggingface_hub import ModelCard

from cards import write_card
from cards.disentangled_words import disentangled_words
from cards.prepared_words import prepared_words
from hubmerge.disentangled_record import DisentangledRecord
from hubmerge.prepared_record import PreparedRecord

POOL = {
    "name": "model",
    "norms": (2.0, 3.0),
    "norm": 0.5,
    "shared": (0.1, 0.2),
    "before": ((1.0, 0.25), (0.25, 1.0)),
    "after": ((1.0, -0.01), (-0.01, 1.0)),
    "weights": (0.8, 0.6),
}


def record(**changed):
    given = {"inner": "task_arithmetic", "parents": ("./low", "./high"), "pools": (POOL,)} | changed
    return DisentangledRecord.model_validate(given)


@pytest.fixture
def merge(tmp_path):
    for name in ("low", "high"):
        card_of(image_model(tmp_path / name), "license: mit")
    return image_model(tmp_path / "both")


def test_the_card_has_cosines_before_and_after_and_the_weights(merge):
    parents = [merge.parent / "low", merge.parent / "high"]
    merge_of(merge, parents, method="awd", format_version=6, disentangled=record())
    write_card(merge, overwrite=True)
    text = ModelCard.load(merge / "README.md").text
    assert "one vector for the whole model" in text
    assert "| low | 2 |  | 0.2500, then -0.0100 |" in text
    assert "- It is task arithmetic with these weights: low 0.8, high 0.6." in text


def test_vectors_of_single_tensors_are_told_in_sum_and_a_lone_model_has_none():
    other = {**POOL, "name": "tensor b", "shared": (-0.4, 0.0), "weights": (1.4, 1.0)}
    words = disentangled_words(record(pools=({**POOL, "name": "tensor a"}, other)))
    assert words is not None
    assert words.rows == (("low", "0.4000"), ("high", "0.2000"))
    assert "It is task arithmetic with these weights by tensor: low 0.8 to 1.4, high 0.6 to 1." in words.remarks
    assert disentangled_words(record(parents=("./low",))) is None
    assert disentangled_words(None) is None


def test_coefficients_that_were_found_for_what_was_left_keep_their_table():
    found = prepared_words(
        PreparedRecord(inner="awd", parents=("./low", "./high"), layers={"model": (0.3, 0.4)}, calibration=())
    )
    words = disentangled_words(record(), found)
    assert words is not None
    assert found is not None
    assert words.rows == found.rows
    assert words.matching.startswith("What the models' changes have in common was subtracted")
    assert words.remarks[-1].startswith("It is task arithmetic")
