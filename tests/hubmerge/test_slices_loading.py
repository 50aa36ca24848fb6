"""Frankenmerges in transformers: what a sliced recipe writes loads, runs, and is what its layers are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from hubmerge import AutoMergedModel, PlanError, build_plan, merge

SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 20}
TOKENS = torch.arange(7).reshape(1, 7)


def llama(layers: int) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=layers, num_key_value_heads=1))


def gpt2(layers: int) -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_head=2, n_layer=layers, vocab_size=20, n_positions=32))


def bert(layers: int) -> PreTrainedModel:
    return BertForSequenceClassification(BertConfig(**SIZES, num_hidden_layers=layers, num_labels=3))


def t5(layers: int) -> PreTrainedModel:
    return T5ForConditionalGeneration(
        T5Config(vocab_size=20, d_model=16, d_kv=8, d_ff=24, num_layers=layers, num_decoder_layers=layers, num_heads=2)
    )


@pytest.fixture
def folders(tmp_path: Path) -> Any:
    def save(build: Any, *layers: int) -> list[str]:
        names = []
        for seed, count in enumerate(layers):
            torch.manual_seed(seed)
            build(count).save_pretrained(tmp_path / f"m{seed}")
            names.append(str(tmp_path / f"m{seed}"))
        return names

    return save


def stack(*rows: tuple[str, int, int], **rest: Any) -> dict[str, Any]:
    slices = [{"sources": [{"model": model, "layer_range": [first, after]}]} for model, first, after in rows]
    return {"merge_method": "passthrough", "slices": slices, **rest}


def layers_of(model: PreTrainedModel) -> Any:
    inner = getattr(model, model.base_model_prefix)
    return inner.h if hasattr(inner, "h") else inner.encoder.layer if hasattr(inner, "encoder") else inner.layers


@pytest.mark.parametrize("build", [llama, gpt2, bert])
def test_a_frankenmerge_computes_what_its_layers_compute_one_after_the_other(
    tmp_path: Path, folders: Any, build: Any
) -> None:
    a, b = folders(build, 3, 2)
    raw = stack((a, 0, 2), (b, 1, 2), (a, 1, 3))
    merge(raw, tmp_path / "out", jobs=1)
    merged = AutoMergedModel.from_pretrained(tmp_path / "out")
    assert len(layers_of(merged)) == 5
    # the same by hand, in transformers alone
    first, second = (type(merged).from_pretrained(name).eval() for name in (a, b))
    ours, one, two = layers_of(merged), layers_of(first), layers_of(second)
    for mine, theirs in zip(ours, (one[0], one[1], two[1], one[1], one[2]), strict=True):
        for (name, value), (_, other) in zip(mine.named_parameters(), theirs.named_parameters(), strict=True):
            assert torch.equal(value, other), name
    with torch.no_grad():
        logits = merged(TOKENS).logits
    assert torch.isfinite(logits).all()
    lazily = AutoMergedModel.from_pretrained(raw)
    with torch.no_grad():
        assert torch.equal(lazily(TOKENS).logits, logits)
    if build is llama:
        assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.num_hidden_layers == 5


def test_encoder_and_decoder_of_t5_are_stacked_by_themselves(tmp_path: Path, folders: Any) -> None:
    a, b = folders(t5, 3, 3)
    modules = {
        "encoder": {"slices": stack((a, 0, 3), (b, 1, 3))["slices"]},
        "decoder": {"slices": stack((b, 0, 2))["slices"]},
        "shared": {"models": [{"model": a}]},
    }
    raw = {"merge_method": "passthrough", "modules": modules}
    merge(raw, tmp_path / "out", jobs=1)
    merged = AutoMergedModel.from_pretrained(tmp_path / "out")
    assert (len(merged.encoder.block), len(merged.decoder.block)) == (5, 2)
    assert torch.isfinite(merged(input_ids=TOKENS, decoder_input_ids=TOKENS).logits).all()
    modules["encoder"] = {"slices": stack((a, 1, 3))["slices"]}
    with pytest.raises(PlanError) as refused:
        build_plan(raw)
    assert str(refused.value) == (
        f"layer 0 of the output is layer 1 of {a}, which lacks 'layer.0.SelfAttention.relative_attention_bias.weight' · "
        f"slices · take a layer with the tensors that layer 0 of {a} has"
    )
