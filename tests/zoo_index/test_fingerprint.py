"""Signatures and the sketch of weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo_builders import bfloat16, llama_config, llama_tensors, source_of, write_files, write_model

from zoo_index.checkpoint import read_tensor_table
from zoo_index.fingerprint import (
    MAX_SAMPLED_BYTES,
    Sketch,
    ancestry,
    core_signature,
    is_vocabulary_tensor,
    likeness,
    read_sketch,
    tokenizer_signature,
)
from zoo_index.hub import LocalFolder


class Counting(LocalFolder):
    """A folder that counts the bytes that are read from it."""

    def __init__(self, folder: Path) -> None:
        source = source_of(folder)
        super().__init__(source.folder, source.pinned)
        self.bytes_read = 0

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        data = super().read(name, start, end)
        self.bytes_read += len(data)
        return data


def sketch_of(folder: Path, tensors: Mapping[str, np.ndarray]) -> Sketch | None:
    source = source_of(write_model(folder, tensors=tensors))
    return read_sketch(source, read_tensor_table(source))


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "lm_head.weight",
        "transformer.wte.weight",
        "gpt_neox.embed_out.weight",
        "shared.weight",
        "cls.predictions.bias",
        "classifier.1.bias",
        "score.weight",
        "bert.embeddings.word_embeddings.weight",
    ],
)
def test_embeddings_and_heads_are_known_by_name(name: str) -> None:
    assert is_vocabulary_tensor(name)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.mlp.shared_expert.up_proj.weight",
        "transformer.wpe.weight",
        "model.norm.weight",
        "lm_head_norm.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "resnet.embedder.embedder.convolution.weight",
    ],
)
def test_the_body_is_not_taken_for_vocabulary(name: str) -> None:
    assert not is_vocabulary_tensor(name)


def test_models_that_differ_in_vocabulary_alone_have_one_core_signature(tmp_path: Path) -> None:
    tables = [
        read_tensor_table(source_of(write_model(tmp_path / str(size), config=llama_config(vocab_size=size))))
        for size in (12, 20)
    ]
    assert tables[0].signature() != tables[1].signature()
    assert core_signature(tables[0]) == core_signature(tables[1])


def test_a_child_is_like_its_base_and_a_stranger_is_not(tmp_path: Path) -> None:
    config = llama_config(hidden_size=16, head_dim=8, intermediate_size=32)
    base, stranger = llama_tensors(config, seed=1), llama_tensors(config, seed=2)
    random = np.random.default_rng(3)
    child = {n: (v + 0.05 * random.standard_normal(v.shape)).astype("float32") for n, v in base.items()}
    sketches = [sketch_of(tmp_path / str(i), weights) for i, weights in enumerate((base, child, stranger))]
    near, far = likeness(sketches[0], sketches[1]), likeness(sketches[0], sketches[2])
    assert near is not None
    assert far is not None
    # noise of 5 % turns a vector by arctan(0.05): cosine 0.9988
    assert near == pytest.approx(0.9988, abs=0.002)
    assert abs(far) < 0.15
    assert (ancestry(near), ancestry(far)) == ("likely", "unlikely")


def test_the_same_weights_in_other_types_are_alike(tmp_path: Path) -> None:
    weights = llama_tensors(llama_config())
    kinds = [
        weights,
        {n: v.astype("float16") for n, v in weights.items()},
        {n: bfloat16(v) for n, v in weights.items()},
    ]
    sketches = [sketch_of(tmp_path / str(i), kind) for i, kind in enumerate(kinds)]
    assert likeness(sketches[0], sketches[1]) == pytest.approx(1, abs=1e-5)
    assert likeness(sketches[0], sketches[2]) == pytest.approx(1, abs=1e-4)


def test_opposite_weights_have_cosine_minus_one(tmp_path: Path) -> None:
    weights = llama_tensors(llama_config())
    minus = {n: -v for n, v in weights.items()}
    assert likeness(sketch_of(tmp_path / "a", weights), sketch_of(tmp_path / "b", minus)) == pytest.approx(-1)


def test_other_shapes_cannot_be_compared(tmp_path: Path) -> None:
    a = sketch_of(tmp_path / "a", llama_tensors(llama_config()))
    b = sketch_of(tmp_path / "b", llama_tensors(llama_config(num_hidden_layers=1)))
    assert likeness(a, b) is None
    assert likeness(a, None) is None


def test_zeros_and_numbers_that_are_not_finite_say_nothing(tmp_path: Path) -> None:
    weights = llama_tensors(llama_config())
    zeros = {n: np.zeros_like(v) for n, v in weights.items()}
    broken = {n: np.full_like(v, np.nan) for n, v in weights.items()}
    a = sketch_of(tmp_path / "a", weights)
    assert likeness(a, sketch_of(tmp_path / "z", zeros)) is None
    assert likeness(a, sketch_of(tmp_path / "n", broken)) is None


def test_a_model_without_matrices_has_no_sketch(tmp_path: Path) -> None:
    assert sketch_of(tmp_path, {"norm.weight": np.ones(500, "float32")}) is None


def test_matrices_of_integers_have_no_sketch(tmp_path: Path) -> None:
    assert sketch_of(tmp_path, {"w": np.ones((20, 20), "int64")}) is None


def test_a_sketch_reads_four_thousand_bytes_of_a_large_model(tmp_path: Path) -> None:
    config = llama_config(hidden_size=64, head_dim=32, intermediate_size=256, num_hidden_layers=12)
    source = Counting(write_model(tmp_path, config=config))
    table = read_tensor_table(source)
    source.bytes_read = 0
    sketch = read_sketch(source, table)
    assert sketch is not None
    assert len(sketch.values) == 1024
    assert source.bytes_read == MAX_SAMPLED_BYTES == 4096


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=128, max_size=128),
    st.lists(st.floats(-1, 1, width=32), min_size=128, max_size=128),
)
@settings(max_examples=50)
def test_likeness_is_symmetric_and_bounded(a: list[float], b: list[float]) -> None:
    def scaled(values: list[float]) -> Sketch:
        rows = np.asarray(values).reshape(2, 64)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return Sketch(
            "core", tuple(np.divide(rows, lengths, where=lengths > 0, out=np.zeros_like(rows)).ravel().tolist())
        )

    left, right = scaled(a), scaled(b)
    cosine = likeness(left, right)
    assert cosine == likeness(right, left)
    assert cosine is None or -1 <= cosine <= 1
    itself = likeness(left, left)
    assert itself is None or itself == pytest.approx(1)


BPE = {
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
    "added_tokens": [{"id": 3, "content": "<s>", "special": True}],
}


def signature(folder: Path, **files: object) -> str | None:
    folder.mkdir()
    write_files(folder, {name.replace("__", "."): content for name, content in files.items()})
    return tokenizer_signature(source_of(folder))


def test_tokenizer_files_of_other_bytes_but_the_same_meaning_have_one_signature(tmp_path: Path) -> None:
    old = {**BPE, "model": {**BPE["model"], "merges": ["a b"], "vocab": {"ab": 2, "b": 1, "a": 0}}, "version": "1.0"}
    indented = json.dumps(old, indent=4)
    assert signature(tmp_path / "a", tokenizer__json=BPE) == signature(tmp_path / "b", tokenizer__json=indented)


def test_the_slow_files_of_a_tokenizer_have_the_signature_of_the_fast_one(tmp_path: Path) -> None:
    slow = signature(
        tmp_path / "slow", vocab__json={"a": 0, "b": 1, "ab": 2, "<s>": 3}, merges__txt="#version: 0.2\na b\n"
    )
    assert slow == signature(tmp_path / "fast", tokenizer__json=BPE)


@pytest.mark.parametrize(
    "change",
    [
        {"model": {**BPE["model"], "vocab": {"a": 1, "b": 0, "ab": 2}}},
        {"model": {**BPE["model"], "merges": []}},
        {"added_tokens": [{"id": 4, "content": "<s>"}]},
    ],
)
def test_another_id_merge_or_added_token_is_another_signature(tmp_path: Path, change: dict[str, object]) -> None:
    assert signature(tmp_path / "a", tokenizer__json=BPE) != signature(
        tmp_path / "b", tokenizer__json={**BPE, **change}
    )


def test_a_unigram_vocabulary_counts_its_scores(tmp_path: Path) -> None:
    one, two = ({"model": {"type": "Unigram", "vocab": [["a", score], ["b", -2.0]]}} for score in (-1.0, -1.5))
    assert signature(tmp_path / "a", tokenizer__json=one) != signature(tmp_path / "b", tokenizer__json=two)


def test_a_list_of_words_is_numbered_by_lines(tmp_path: Path) -> None:
    words = {"model": {"type": "WordPiece", "vocab": {"[PAD]": 0, "the": 1}}}
    assert signature(tmp_path / "a", vocab__txt="[PAD]\nthe\n") == signature(tmp_path / "b", tokenizer__json=words)


@pytest.mark.parametrize("content", ["{broken", "[]", "{}", '{"model": {"vocab": [[]]}}', '{"model": 3}', "[" * 99_999])
def test_a_tokenizer_that_cannot_be_read_has_no_signature(tmp_path: Path, content: str) -> None:
    assert signature(tmp_path / "a", tokenizer__json=content) is None


def test_a_model_without_a_tokenizer_has_no_signature(tmp_path: Path) -> None:
    assert signature(tmp_path / "a") is None
