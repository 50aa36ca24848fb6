"""Which tensors iso_c, iso_cts and tsv_m merge by their singular vectors, and which directions of them are noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import merge_tensors, random_values, recipe, write_model

from hubmerge import PlanError, build_plan, merge_state_dicts
from hubmerge.methods.task_matrices import is_table

METHODS = ("iso_c", "iso_cts", "tsv_m")
DELTAS = (np.array([[1, 0], [0, 1]], "float32"), np.array([[2, 0], [0, 0]], "float32"))
MEAN, FLAT = [[1.5, 0], [0, 0.5]], [[2, 0], [0, 2]]
"""Of the deltas, whose sum diag(3, 1) has the mean singular value 2."""


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "lm_head.weight",
        "transformer.wte.weight",
        "transformer.wpe.weight",
        "bert.embeddings.position_embeddings.weight",
        "text_model.embeddings.token_embedding.weight",
        "gpt_neox.embed_out.weight",
        "positional_embedding",
        "shared.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "swin.layers.0.attention.self.relative_position_bias_table",
        "cls.predictions.decoder.weight",
        "text_projection.weight",
    ],
)
def test_a_table_is_known_by_its_name(name: str) -> None:
    assert is_table(name)


@pytest.mark.parametrize(
    "name",
    [
        "layer.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "transformer.h.0.attn.c_attn.weight",
        "model.layers.0.mlp.shared_expert.up_proj.weight",
        "visual_projection.weight",
        "classifier.weight",
        "bert.encoder.layer.0.attention.output.dense.weight",
        "ensemble.member.weight",
    ],
)
def test_other_matrices_are_no_tables(name: str) -> None:
    assert not is_table(name)


def merged(shapes: dict[str, tuple[int, ...]], **parameters: Any) -> dict[str, np.ndarray]:
    parents = [{name: delta.reshape(shape) for name, shape in shapes.items()} for delta in DELTAS]
    return merge_tensors("iso_c", parents, base={name: np.zeros(shape) for name, shape in shapes.items()}, **parameters)


def test_tables_get_the_mean_of_the_deltas_and_other_matrices_do_not() -> None:
    found = merged({"layer.weight": (2, 2), "embed_tokens.weight": (2, 2), "kernel.weight": (2, 2, 1, 1)})
    np.testing.assert_allclose(found["layer.weight"], FLAT, atol=1e-6)
    np.testing.assert_allclose(found["embed_tokens.weight"], MEAN, atol=1e-6)
    np.testing.assert_allclose(found["kernel.weight"].reshape(2, 2), MEAN, atol=1e-6)


def test_svd_chooses_otherwise_by_name() -> None:
    chosen = [{"filter": "embed", "value": True}, {"filter": "kernel", "value": True}, {"filter": "0", "value": False}]
    names = {
        "0.weight": (2, 2),
        "1.weight": (2, 2),
        "embed_tokens.weight": (2, 2),
        "kernel.weight": (2, 1, 2),
        "b": (4,),
    }
    found = merged(names, svd=chosen)
    np.testing.assert_allclose(found["0.weight"], MEAN, atol=1e-6)
    np.testing.assert_allclose(found["1.weight"], FLAT, atol=1e-6)  # no filter speaks of it: the rule does
    np.testing.assert_allclose(found["embed_tokens.weight"], FLAT, atol=1e-6)
    np.testing.assert_allclose(found["kernel.weight"], np.reshape(FLAT, (2, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(merged({"b": (4,)}, svd=True)["b"], np.ravel(MEAN))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_merges_an_embedding_by_the_mean_of_its_deltas(method: str) -> None:
    parents = [{"wte.weight": random_values((6, 4), seed)} for seed in (1, 2)]
    base = {"wte.weight": random_values((6, 4), 3)}
    found = merge_tensors(method, parents, base=base)["wte.weight"]
    np.testing.assert_allclose(found, (parents[0]["wte.weight"] + parents[1]["wte.weight"]) / 2, atol=1e-5)
    whole = merge_tensors(method, parents, base=base, svd=True)["wte.weight"]
    plain = merge_tensors(method, [{"w": p["wte.weight"]} for p in parents], base={"w": base["wte.weight"]})["w"]
    assert np.array_equal(whole, plain)
    assert not np.allclose(whole, found, atol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_what_float32_rounds_away_beside_a_large_base_is_no_direction(method: str) -> None:
    """Deltas of rank 2 and size 1e-4 on entries of size 1, which are stored to 6e-8: one value for four directions, not for 24."""
    base = random_values((32, 24), 9)
    deltas = [1e-4 * random_values((32, 2), seed) @ random_values((2, 24), seed + 5) for seed in (1, 2)]
    near = merge_tensors(method, [{"w": base + delta} for delta in deltas], base={"w": base})["w"] - base
    alone = merge_tensors(method, [{"w": delta} for delta in deltas], base={"w": np.zeros((32, 24))})["w"]
    np.testing.assert_allclose(near, alone, atol=3e-6)
    assert np.abs(alone).max() > 1e-4


def test_the_plan_says_which_matrices_have_no_singular_vectors(tmp_path: Path) -> None:
    tensors = {"embed_tokens.weight": np.eye(2, dtype="float32"), "layer.weight": np.eye(2, dtype="float32")}
    folders = [write_model(tmp_path / str(i), tensors) for i in range(2)]
    plan = build_plan(recipe("iso_c", folders[1:], base=folders[0]))
    (note,) = plan.notes
    assert note == (
        "tensor 'embed_tokens.weight': no iso_c, but the mean of the deltas, as embeddings, heads over the vocabulary and tables of "
        "positions have; parameter svd chooses otherwise"
    )
    assert [step.values["svd"] for step in plan.steps] == [False, True]
    asked = build_plan(
        recipe("iso_c", folders[1:], base=folders[0], svd=[{"filter": "layer", "value": False}, {"value": True}])
    )
    assert (asked.notes, [step.values["svd"] for step in asked.steps]) == (
        (),
        [True, False],
    )  # nothing that was not asked for


def test_a_table_that_no_singular_vectors_are_wanted_of_is_merged_in_chunks(tmp_path: Path) -> None:
    """A million entries by two models: 110 MB as a whole, of which a chunk is a small part."""
    folders = [
        write_model(
            tmp_path / str(i), {"embed_tokens.weight": random_values((4096, 256), i), "layer.weight": np.eye(2)}
        )
        for i in range(2)
    ]
    asked = recipe("iso_c", folders[1:], base=folders[0], svd="auto")
    assert build_plan(asked, memory=25_000_000, jobs=1).peak_memory < 25_000_000
    with pytest.raises(
        PlanError, match=r"'embed_tokens.weight' needs 113.25 MB of buffers.*a matrix method holds whole tensors"
    ):
        build_plan(recipe("iso_c", folders[1:], base=folders[0], svd=True), memory=25_000_000, jobs=1)


def test_a_word_that_svd_does_not_know_is_refused() -> None:
    tensors = [{"w": DELTAS[0]}]
    with pytest.raises(Exception, match=r"svd must be 'auto', true or false, got 'never' · parameters.svd"):
        merge_state_dicts("tsv_m", tensors, base={"w": np.zeros((2, 2), "float32")}, parameters={"svd": "never"})
