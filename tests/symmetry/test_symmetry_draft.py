"""Drafted tables: those of known architectures find what the written ones say, others are proved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import symmetry_models
import zoo

from hubmerge.errors import PlanError
from hubmerge.symmetry import Kind, SymmetryError, SymmetrySpec, spec_of
from hubmerge.symmetry.draft import draft_table
from hubmerge.symmetry.draft_small import small_config

pytestmark = pytest.mark.usefixtures("one_thread")

OPT = {
    "model_type": "opt", "architectures": ["OPTForCausalLM"], "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48,
    "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 60, "max_position_embeddings": 20,
}  # fmt: skip
NEOX = {
    "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 60, "max_position_embeddings": 20,
}  # fmt: skip
ELECTRA = {
    "model_type": "electra", "architectures": ["ElectraForMaskedLM"], "embedding_size": 16, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 60, "max_position_embeddings": 20,
}  # fmt: skip


def places(spec: SymmetrySpec) -> dict[frozenset[tuple[str, int, int, int]], Kind]:
    """Where every group that may be changed stands, (tensor, axis, segment, factor), and what may be done to it."""
    found: dict[str, set[tuple[str, int, int, int]]] = {}
    for tensor in spec.tensors.values():
        for i, axis in enumerate(tensor.axes):
            for j, segment in enumerate(axis):
                for k, factor in enumerate(segment):
                    if factor.group and spec.groups[factor.group].kind.is_symmetry:
                        found.setdefault(factor.group, set()).add((tensor.name, i, j, k))
    return {frozenset(where): spec.groups[name].kind for name, where in found.items()}


@pytest.mark.real
@pytest.mark.parametrize("name", ["resnet basic, other stem", "vit", "bert classifier", "gpt2", "llama", "t5"])
def test_a_draft_finds_the_groups_of_the_table_axis_by_axis(name: str) -> None:
    model = symmetry_models.model(name)
    drafted = draft_table({**model.config.to_dict(), "architectures": [type(model).__name__]})
    assert (drafted.unknown, drafted.left_out) == ({}, ())
    ours, theirs = places(drafted.spec), places(spec_of(model))
    planes = {where for where, kind in theirs.items() if kind is Kind.PLANES}
    assert ours.keys() == theirs.keys() - planes  # planes of rotary positions are left fixed
    gated = {where for where, kind in theirs.items() if kind is Kind.SIGNED_SCALED}
    assert {where: ours[where] for where in ours.keys() - gated} == {
        w: theirs[w] for w in theirs.keys() - gated - planes
    }
    assert all(ours[where] is Kind.PERMUTATION for where in gated)  # which half of a gate goes along is not found


@pytest.mark.real
def test_the_table_of_opt_is_drafted_with_loops_sizes_and_kinds() -> None:
    drafted = draft_table(OPT)
    assert drafted.family.groups == (
        "res       permutation         hidden_size                         norm layer\n"
        "head{l}   permutation         num_attention_heads\n"
        "qk{l}     invertible          hidden_size // num_attention_heads  in head{l}\n"
        "value{l}  invertible          hidden_size // num_attention_heads  in head{l}\n"
        "fc{l}     permutation+scales  ffn_dim                             if activation_function == 'relu'\n"
        "fc{l}     permutation         ffn_dim\n"
        "token     tokens              vocab_size\n"
        "position  positions           max_position_embeddings + 2"
    )
    assert drafted.family.loops == {"l": "num_hidden_layers"}
    assert "model.decoder.layers.{l}.self_attn.k_proj.weight+bias    (head{l} <qk{l}) <res" in drafted.family.tensors
    assert drafted.family.tensors.endswith(
        "tied  lm_head.weight  model.decoder.embed_tokens.weight  if tie_word_embeddings"
    )
    assert drafted.proof.holds
    assert len(drafted.spec.groups) == 3 * 4 + 3


@pytest.mark.real
@pytest.mark.parametrize(("config", "free"), [(NEOX, 1 + 2 * 3), (ELECTRA, 2 + 4 * 3)])
def test_architectures_without_a_table_get_one_that_the_proof_accepts(config: dict[str, Any], free: int) -> None:
    drafted = draft_table(config)
    assert drafted.proof.holds
    assert sum(group.kind.is_symmetry for group in drafted.spec.groups.values()) == free


@pytest.mark.real
def test_the_command_writes_a_file_that_show_and_align_use(tmp_path: Path) -> None:
    import torch
    from transformers import OPTConfig, OPTForCausalLM

    for seed, name in enumerate(("one", "other")):
        torch.manual_seed(seed)
        OPTForCausalLM(OPTConfig(**OPT)).save_pretrained(tmp_path / name)
    run = zoo.run_hubmerge("symmetry", "draft", "./one", "--out", "opt.py", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (0, "opt.py: 53 tensors, 15 groups\n")
    assert "the proof holds: " in run.stderr
    refused = zoo.run_hubmerge("symmetry", "show", "./one", cwd=tmp_path)
    assert refused.stderr.startswith("error: no symmetry table for architecture 'opt'")
    shown = zoo.run_hubmerge("symmetry", "show", "./one", "--table", "opt.py", "--json", cwd=tmp_path)
    assert json.loads(shown.stdout)["tied"] == [
        {"tensor": "lm_head.weight", "stored_as": "model.decoder.embed_tokens.weight"}
    ]
    done = zoo.run_hubmerge(
        "symmetry", "align", "./one", "./other", "./out", "--table", "opt.py", "--restarts", "0", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    tokens = torch.tensor([[5, 9, 4, 17]])
    with torch.no_grad():
        before, after = (
            OPTForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float64)(tokens).logits
            for name in ("other", "out")
        )
    assert torch.allclose(before, after, atol=1e-6)


def test_small_configs_keep_equal_widths_equal_and_differ_from_one_another() -> None:
    first, second = (small_config(OPT, which) for which in (0, 1))
    fields = ("hidden_size", "word_embed_proj_dim", "ffn_dim", "num_hidden_layers", "num_attention_heads", "vocab_size")
    assert [first[name] for name in fields] == [64, 64, 96, 2, 4, 48]
    assert [second[name] for name in fields] == [288, 288, 480, 3, 12, 56]


def test_a_config_without_a_class_is_refused() -> None:
    with pytest.raises(PlanError, match="the config names no architecture"):
        draft_table({"model_type": "opt"}, where="./model")


@pytest.mark.real
def test_a_model_of_sounds_is_refused() -> None:
    config = {"model_type": "wav2vec2", "architectures": ["Wav2Vec2Model"]}
    with pytest.raises(SymmetryError) as refused:
        draft_table(config, where="./model")
    assert refused.value.message == "Wav2Vec2Model takes neither texts nor pictures"
