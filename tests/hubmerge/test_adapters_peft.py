"""Base and adapter merged by passthrough are what PEFT's merge_and_unload gives, on tiny random models of each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from zoo import read_model, recipe

from hubmerge import PlanError, build_plan, merge

if TYPE_CHECKING:
    import torch


def llama(**changes: Any) -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "vocab_size": 20}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**{**sizes, **heads, **changes}))


def gpt2() -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=20, n_positions=16))


def bert_classifier(**changes: Any) -> torch.nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return BertForSequenceClassification(BertConfig(**sizes, vocab_size=20, num_labels=3, **changes))


def resnet() -> torch.nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(
        ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], num_labels=3, layer_type="basic")
    )


def train(model: torch.nn.Module, base: Path, adapter: Path, **config: Any) -> dict[str, np.ndarray]:
    """Save `model` as `base` and a random adapter of it as `adapter`; the tensors after PEFT's own merge."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    model.save_pretrained(base)
    with_adapter = get_peft_model(model, LoraConfig(**{"init_lora_weights": False, "lora_alpha": 6, "r": 4, **config}))
    with torch.no_grad():
        for parameter in with_adapter.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    with_adapter.save_pretrained(adapter)
    merged = with_adapter.merge_and_unload()
    return {name: tensor.numpy() for name, tensor in merged.state_dict().items()}


def check(tmp_path: Path, model: torch.nn.Module, touched: int, **config: Any) -> None:
    """Our merge of base and adapter equals PEFT's, and changes `touched` tensors of the base."""
    expected = train(model, tmp_path / "base", tmp_path / "lora", **config)
    merge(recipe("passthrough", [f"{tmp_path}/base+{tmp_path}/lora"]), tmp_path / "out")
    base, merged = read_model(tmp_path / "base"), read_model(tmp_path / "out")
    assert set(merged) == set(base) <= set(expected)
    for name, values in merged.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    changed = [name for name in base if not np.array_equal(base[name], merged[name])]
    assert len(changed) == touched, changed


def test_attention_and_mlp_of_a_llama(tmp_path: Path) -> None:
    check(tmp_path, llama(), 9, target_modules=["q_proj", "v_proj", "down_proj"])


def test_ranks_and_alphas_by_pattern(tmp_path: Path) -> None:
    patterns = {"rank_pattern": {"layers.1.self_attn.q_proj": 2, "v_proj": 8}, "alpha_pattern": {"q_proj": 3}}
    check(tmp_path, llama(), 6, target_modules=["q_proj", "v_proj"], **patterns)


def test_rank_stabilised_scale(tmp_path: Path) -> None:
    check(tmp_path, llama(), 3, target_modules=["o_proj"], use_rslora=True)


def test_embeddings_and_head(tmp_path: Path) -> None:
    check(tmp_path, llama(), 2, target_modules=["embed_tokens", "lm_head"])


def test_biases_trained_beside_the_factors(tmp_path: Path) -> None:
    check(tmp_path, llama(attention_bias=True), 6, target_modules=["q_proj"], bias="lora_only")


def test_layers_of_gpt2_that_store_their_weight_the_other_way_around(tmp_path: Path) -> None:
    check(tmp_path, gpt2(), 6, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)


def test_layers_of_gpt2_without_the_flag_that_peft_sets_itself(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="fan_in_fan_out is set to False but the target module is `Conv1D`"):
        check(tmp_path, gpt2(), 2, target_modules=["c_attn"])


def test_convolutions_of_a_resnet(tmp_path: Path) -> None:
    check(tmp_path, resnet(), 6, target_modules=["convolution"])


def test_a_head_saved_as_a_whole(tmp_path: Path) -> None:
    check(tmp_path, bert_classifier(), 6, target_modules=["query", "value"], modules_to_save=["classifier"])


def test_biases_of_the_factors(tmp_path: Path) -> None:
    check(tmp_path, llama(attention_bias=True), 6, target_modules=["q_proj"], lora_bias=True)


def test_biases_of_the_factors_added_to_biases_that_were_trained(tmp_path: Path) -> None:
    own = {"lora_bias": True, "bias": "lora_only", "use_rslora": True}
    check(tmp_path, llama(attention_bias=True), 6, target_modules=["q_proj"], **own)


def test_every_bias_of_a_model(tmp_path: Path) -> None:
    # 6 query weights and biases, and the biases of k, v, o
    check(tmp_path, llama(attention_bias=True), 15, target_modules=["q_proj"], bias="all")


def test_dora_on_attention_and_mlp(tmp_path: Path) -> None:
    check(tmp_path, llama(), 9, target_modules=["q_proj", "v_proj", "down_proj"], use_dora=True)


def test_dora_on_layers_that_store_their_weight_the_other_way_around(tmp_path: Path) -> None:
    check(tmp_path, gpt2(), 6, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, use_dora=True)


def test_dora_on_embeddings_and_head(tmp_path: Path) -> None:
    check(tmp_path, llama(), 2, target_modules=["embed_tokens", "lm_head"], use_dora=True, use_rslora=True)


def test_dora_on_convolutions(tmp_path: Path) -> None:
    check(tmp_path, resnet(), 6, target_modules=["convolution"], use_dora=True)


def test_tied_embeddings_change_with_their_head(tmp_path: Path) -> None:
    check(tmp_path, llama(tie_word_embeddings=True), 1, target_modules=["embed_tokens"])


def test_an_adapter_of_a_classifier_on_a_base_saved_without_its_head(tmp_path: Path) -> None:
    expected = train(bert_classifier(), tmp_path / "whole", tmp_path / "lora", target_modules=["query", "value"])
    from transformers import BertForSequenceClassification

    BertForSequenceClassification.from_pretrained(tmp_path / "whole").bert.save_pretrained(tmp_path / "base")
    merge(recipe("passthrough", [f"{tmp_path}/base+{tmp_path}/lora"]), tmp_path / "out")
    merged = read_model(tmp_path / "out")
    assert len(merged) > 30
    for name, values in merged.items():
        np.testing.assert_allclose(values, expected[f"bert.{name}"], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_trained_head_without_a_place_in_the_base_is_refused(tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification

    train(
        bert_classifier(),
        tmp_path / "whole",
        tmp_path / "lora",
        target_modules=["query"],
        modules_to_save=["classifier"],
    )
    BertForSequenceClassification.from_pretrained(tmp_path / "whole").bert.save_pretrained(tmp_path / "base")
    with pytest.raises(PlanError) as refused:
        build_plan(recipe("passthrough", [f"{tmp_path}/base+{tmp_path}/lora"]))
    assert refused.value.faults[0].message in {
        f"the adapter changes 'classifier.{kind}', for which the base has no tensor" for kind in ("weight", "bias")
    }


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (lambda: {"init_lora_weights": "pissa_niter_4"}, "the adapter was initialised by pissa_niter_4"),
        (lambda: {"trainable_token_indices": [1, 2]}, "the adapter trains the embeddings of single tokens"),
    ],
)
def test_what_peft_saves_beyond_low_rank_terms_is_refused(
    tmp_path: Path, config: Callable[[], dict[str, Any]], what: str
) -> None:
    train(llama(attention_bias=True), tmp_path / "base", tmp_path / "lora", target_modules=["q_proj"], **config())
    with pytest.raises(PlanError) as refused:
        build_plan(recipe("passthrough", [f"{tmp_path}/base+{tmp_path}/lora"]))
    assert what in refused.value.faults[0].message


def test_adapters_of_another_kind_are_refused(tmp_path: Path) -> None:
    from peft import IA3Config, get_peft_model

    model = llama()
    model.save_pretrained(tmp_path / "base")
    get_peft_model(
        model, IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    ).save_pretrained(tmp_path / "lora")
    with pytest.raises(PlanError, match="adapter type IA3 is not a low-rank term to add"):
        build_plan(recipe("passthrough", [f"{tmp_path}/base+{tmp_path}/lora"]))


def test_two_adapters_of_one_base_merge_like_the_two_models_they_stand_for(tmp_path: Path) -> None:
    one = train(llama(), tmp_path / "base", tmp_path / "one", target_modules=["q_proj"])
    from transformers import LlamaForCausalLM

    again = LlamaForCausalLM.from_pretrained(tmp_path / "base")
    two = train(again, tmp_path / "same", tmp_path / "two", target_modules=["q_proj", "v_proj"], r=2)
    base = tmp_path / "base"
    merge(recipe("task_arithmetic", [f"{base}+{tmp_path}/one", f"{base}+{tmp_path}/two"], base=base), tmp_path / "out")
    stored = read_model(base)
    for name, values in read_model(tmp_path / "out").items():
        expected = stored[name] + (one[name] - stored[name]) + (two[name] - stored[name])
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=2e-6, err_msg=name)
