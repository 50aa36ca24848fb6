"""Adapters of every kind and shape, merged: PEFT loads the result, and its forward is that of the base with the dense sum."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_models import llama, saved_adapter

from hubmerge.lora import merge_adapters

WEIGHTS = [0.5, 0.25]


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 20, "n_positions": 16}
    return GPT2LMHeadModel(GPT2Config(**sizes, tie_word_embeddings=False))


def bert() -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return BertForSequenceClassification(BertConfig(**sizes, vocab_size=20, num_labels=3))


def resnet() -> Any:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(
        ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=3, layer_type="basic")
    )


def biased() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 20}
    return LlamaForCausalLM(
        LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, attention_bias=True, mlp_bias=True)
    )


def tied() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 20}
    return LlamaForCausalLM(
        LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True)
    )


Kind = tuple[Callable[[], Any], dict[str, Any], dict[str, Any]]
KINDS: dict[str, Kind] = {
    "ranks and alphas": (llama, {"r": 2, "lora_alpha": 8}, {"r": 5, "lora_alpha": 3}),
    "rank-stabilised beside not": (llama, {"use_rslora": True}, {}),
    "patterns": (
        llama,
        {"rank_pattern": {"layers.1.self_attn.q_proj": 2}, "alpha_pattern": {"down_proj": 1}},
        {"rank_pattern": {"q_proj": 6}, "use_rslora": True},
    ),
    "other modules": (llama, {"target_modules": ["q_proj", "gate_proj"]}, {"target_modules": ["q_proj", "o_proj"]}),
    "other layers": (llama, {"layers_to_transform": [0]}, {}),
    "all linear": (llama, {"target_modules": "all-linear"}, {"target_modules": r".*\.1\.mlp\.\w+_proj"}),
    "embeddings and head": (llama, {"target_modules": ["embed_tokens", "lm_head"]}, {"target_modules": ["embed_tokens"]}),
    "tied embeddings": (tied, {"target_modules": ["embed_tokens"]}, {"target_modules": ["q_proj", "embed_tokens"]}),
    "weights of the other order": (
        gpt2,
        {"target_modules": ["c_attn", "wte"], "fan_in_fan_out": True},
        {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True, "r": 3},
    ),
    "convolutions": (resnet, {"target_modules": ["convolution"]}, {"target_modules": ["convolution"], "r": 2}),
    "saved modules": (
        bert,
        {"target_modules": ["query"], "modules_to_save": ["classifier"]},
        {"target_modules": ["value"], "modules_to_save": ["classifier", "pooler"]},
    ),
    "a saved module beside none": (bert, {"target_modules": ["query"], "modules_to_save": ["classifier"]}, {"target_modules": ["query"]}),
    "biases of adapted layers": (biased, {"bias": "lora_only"}, {"bias": "lora_only", "target_modules": ["q_proj", "k_proj"]}),
    "all biases": (biased, {"bias": "all"}, {}),
    "biases of factors": (biased, {"lora_bias": True}, {"r": 2}),
    "biases of both": (biased, {"lora_bias": True, "bias": "all"}, {"lora_bias": True, "use_rslora": True}),
}  # fmt: skip


def loaded(place: Path) -> Any:
    import transformers
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(place)
    return getattr(transformers, config.architectures[0]).from_pretrained(place)


def inputs(model: Any) -> dict[str, torch.Tensor]:
    if model.config.model_type == "resnet":
        return {"pixel_values": torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)}
    return {"input_ids": torch.arange(12)[None]}


QUICK = {"patterns", "embeddings and head", "weights of the other order", "saved modules", "biases of both"}
"""Kinds that have most of what can go wrong in them; the others are tested with the real models."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.real) for kind in KINDS]
)
@pytest.mark.filterwarnings("ignore")
def test_what_peft_loads_computes_what_the_base_and_the_dense_sum_do(kind: str, tmp_path: Path) -> None:
    from peft import PeftModel

    make, *both = KINDS[kind]
    torch.manual_seed(0)
    make().save_pretrained(tmp_path / "base")
    folders = []
    for seed, own in enumerate(both):
        folders.append(saved_adapter(tmp_path / "base", tmp_path / f"{seed}", seed, loaded(tmp_path / "base"), **own))
    merge_adapters(
        "task_arithmetic", folders, out=tmp_path / "out", base=tmp_path / "base", parameters={"weight": WEIGHTS}
    )
    base = loaded(tmp_path / "base").eval()
    before = {name: values.clone() for name, values in base.state_dict().items()}
    dense = [
        PeftModel.from_pretrained(loaded(tmp_path / "base"), folder).merge_and_unload().state_dict()
        for folder in folders
    ]
    with torch.no_grad():
        for name, values in {id(values): (name, values) for name, values in base.named_parameters()}.values():
            deltas = [own[name] - before[name] for own in dense]
            values.add_(WEIGHTS[0] * deltas[0] + WEIGHTS[1] * deltas[1])
        expected = base(**inputs(base)).logits
        merged = PeftModel.from_pretrained(loaded(tmp_path / "base"), tmp_path / "out").eval()
        if kind == "tied embeddings":  # unmerged, PEFT adapts the embedding and leaves the head
            merged = merged.merge_and_unload()
        found = merged(**inputs(base)).logits
        assert not torch.allclose(loaded(tmp_path / "base").eval()(**inputs(base)).logits, expected, atol=1e-3)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
