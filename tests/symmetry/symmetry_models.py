"""Tiny random transformers models of every architecture that has a symmetry table, with every head that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from hubmerge.symmetry import Monomial, SymmetrySpec, random_element, spec_of, transform

SIZES = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 20,
    "max_position_embeddings": 32,
}  # fmt: skip
DECODER = {**SIZES, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ENCODER = {**SIZES, "num_labels": 3}
GPT2 = {
    "n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 20, "n_positions": 32, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
DISTILBERT = {
    "dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 4, "vocab_size": 20, "max_position_embeddings": 32,
}  # fmt: skip
VIT = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 8,
    "patch_size": 4, "encoder_stride": 4,
}  # fmt: skip
RESNET = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [2, 2], "num_labels": 3}
T5 = {
    "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "vocab_size": 20, "eos_token_id": 1,
    "decoder_start_token_id": 0,
}  # fmt: skip
TEXT = {**SIZES, "max_position_embeddings": 8, "projection_dim": 12, "bos_token_id": 1, "eos_token_id": 2}
PICTURE = {**VIT, "projection_dim": 12}
PICTURE.pop("encoder_stride")

# name of the test -> class, config class, fields
MODELS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", {**DECODER, "attention_bias": True, "mlp_bias": True}),
    "llama body": ("LlamaModel", "LlamaConfig", DECODER),
    "llama classifier": ("LlamaForSequenceClassification", "LlamaConfig", DECODER),
    "llama answers": ("LlamaForQuestionAnswering", "LlamaConfig", DECODER),
    "llama token classifier": ("LlamaForTokenClassification", "LlamaConfig", DECODER),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**DECODER, "head_dim": 8}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {**DECODER, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**DECODER, "head_dim": 8}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {**GPT2, "n_inner": 24}),
    "gpt2 relu": ("GPT2LMHeadModel", "GPT2Config", {**GPT2, "activation_function": "relu"}),
    "gpt2 untied": ("GPT2LMHeadModel", "GPT2Config", {**GPT2, "tie_word_embeddings": False}),
    "gpt2 two heads": ("GPT2DoubleHeadsModel", "GPT2Config", GPT2),
    "gpt2 body": ("GPT2Model", "GPT2Config", GPT2),
    "gpt2 classifier": ("GPT2ForSequenceClassification", "GPT2Config", GPT2),
    "gpt2 token classifier": ("GPT2ForTokenClassification", "GPT2Config", GPT2),
    "gpt2 answers": ("GPT2ForQuestionAnswering", "GPT2Config", GPT2),
    "bert": ("BertForMaskedLM", "BertConfig", ENCODER),
    "bert untied": ("BertForMaskedLM", "BertConfig", {**ENCODER, "tie_word_embeddings": False}),
    "bert body": ("BertModel", "BertConfig", ENCODER),
    "bert pretraining": ("BertForPreTraining", "BertConfig", ENCODER),
    "bert classifier": ("BertForSequenceClassification", "BertConfig", {**ENCODER, "hidden_act": "relu"}),
    "bert token classifier": ("BertForTokenClassification", "BertConfig", ENCODER),
    "bert answers": ("BertForQuestionAnswering", "BertConfig", SIZES),
    "bert choices": ("BertForMultipleChoice", "BertConfig", SIZES),
    "roberta": ("RobertaForMaskedLM", "RobertaConfig", ENCODER),
    "roberta body": ("RobertaModel", "RobertaConfig", ENCODER),
    "roberta classifier": ("RobertaForSequenceClassification", "RobertaConfig", {**ENCODER, "hidden_act": "relu"}),
    "roberta token classifier": ("RobertaForTokenClassification", "RobertaConfig", ENCODER),
    "roberta answers": ("RobertaForQuestionAnswering", "RobertaConfig", SIZES),
    "roberta choices": ("RobertaForMultipleChoice", "RobertaConfig", SIZES),
    "xlm-roberta": ("XLMRobertaForMaskedLM", "XLMRobertaConfig", {**ENCODER, "tie_word_embeddings": False}),
    "distilbert": ("DistilBertForMaskedLM", "DistilBertConfig", DISTILBERT),
    "distilbert untied": ("DistilBertForMaskedLM", "DistilBertConfig", {**DISTILBERT, "tie_word_embeddings": False}),
    "distilbert body": ("DistilBertModel", "DistilBertConfig", DISTILBERT),
    "distilbert classifier": (
        "DistilBertForSequenceClassification", "DistilBertConfig", {**DISTILBERT, "activation": "relu"},
    ),
    "distilbert token classifier": ("DistilBertForTokenClassification", "DistilBertConfig", DISTILBERT),
    "distilbert answers": ("DistilBertForQuestionAnswering", "DistilBertConfig", DISTILBERT),
    "distilbert choices": ("DistilBertForMultipleChoice", "DistilBertConfig", DISTILBERT),
    "vit": ("ViTForImageClassification", "ViTConfig", VIT),
    "vit relu": ("ViTForImageClassification", "ViTConfig", {**VIT, "hidden_act": "relu", "qkv_bias": False}),
    "vit body": ("ViTModel", "ViTConfig", VIT),
    "vit masked patches": ("ViTForMaskedImageModeling", "ViTConfig", VIT),
    "resnet basic": ("ResNetForImageClassification", "ResNetConfig", {**RESNET, "layer_type": "basic"}),
    "resnet bottleneck": ("ResNetForImageClassification", "ResNetConfig", {**RESNET, "layer_type": "bottleneck"}),
    "resnet basic, other stem": (
        "ResNetForImageClassification", "ResNetConfig", {**RESNET, "layer_type": "basic", "embedding_size": 8},
    ),
    "resnet bottleneck, halved first stage": (
        "ResNetForImageClassification",
        "ResNetConfig",
        {**RESNET, "layer_type": "bottleneck", "downsample_in_first_stage": True},
    ),
    "resnet gelu": (
        "ResNetForImageClassification", "ResNetConfig", {**RESNET, "embedding_size": 8, "hidden_act": "gelu"},
    ),
    "resnet basic gelu": (
        "ResNetForImageClassification", "ResNetConfig", {**RESNET, "layer_type": "basic", "hidden_act": "gelu"},
    ),
    "resnet body": ("ResNetModel", "ResNetConfig", RESNET),
    "resnet backbone": ("ResNetBackbone", "ResNetConfig", {**RESNET, "out_indices": [1, 2]}),
    "resnet backbone, one stage": ("ResNetBackbone", "ResNetConfig", {**RESNET, "out_indices": [-2]}),
    "resnet backbone, stem": ("ResNetBackbone", "ResNetConfig", {**RESNET, "embedding_size": 8, "out_indices": [0, 2]}),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5),
    "t5 gated": ("T5ForConditionalGeneration", "T5Config", {**T5, "feed_forward_proj": "gated-gelu", "num_layers": 1}),
    "t5 gelu": ("T5ForConditionalGeneration", "T5Config", {**T5, "feed_forward_proj": "gelu"}),
    "t5 untied": ("T5ForConditionalGeneration", "T5Config", {**T5, "tie_word_embeddings": False, "num_decoder_layers": 1}),
    "t5 body": ("T5Model", "T5Config", T5),
    "t5 encoder": ("T5EncoderModel", "T5Config", T5),
    "t5 classifier": ("T5ForSequenceClassification", "T5Config", T5),
    "t5 token classifier": ("T5ForTokenClassification", "T5Config", T5),
    "t5 answers": ("T5ForQuestionAnswering", "T5Config", T5),
    "clip": ("CLIPModel", "CLIPConfig", {"text_config": TEXT, "vision_config": PICTURE, "projection_dim": 12}),
    "clip classifier": (
        "CLIPForImageClassification", "CLIPConfig",
        {"text_config": TEXT, "vision_config": PICTURE, "projection_dim": 12},
    ),
    "clip texts": ("CLIPTextModelWithProjection", "CLIPTextConfig", TEXT),
    "clip pictures": ("CLIPVisionModelWithProjection", "CLIPVisionConfig", PICTURE),
    "clip texts' body": ("CLIPTextModel", "CLIPTextConfig", TEXT),
    "clip pictures' body": ("CLIPVisionModel", "CLIPVisionConfig", PICTURE),
}  # fmt: skip

ONE_OF_EACH_KIND = (
    "llama", "qwen3", "gpt2", "gpt2 relu", "bert", "bert untied", "bert classifier", "roberta classifier", "distilbert classifier",
    "vit", "resnet basic", "resnet bottleneck, halved first stage", "t5", "t5 gated", "clip",
)  # fmt: skip
"""Models that together have every group of every table."""


@cache
def model(name: str) -> Any:
    """The model of this name, as transformers makes it; not to be changed."""
    import torch
    import transformers

    class_name, config_name, fields = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, class_name)(getattr(transformers, config_name)(**fields)).eval()


def reordered_tensors(spec: SymmetrySpec, tensors: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The tensors of a model with every group that permutes in a random order, with random signs where the group has them."""
    import numpy as np

    element = {
        name: Monomial(part.order, np.sign(part.factor))
        for name, part in random_element(spec, seed).items()
        if isinstance(part, Monomial) and spec.groups[name].kind.permutes
    }
    return transform(spec, tensors, element)


def reordered(model: Any, seed: int) -> Any:
    """A copy that computes the same with its units in another order, where a group allows it with other signs."""
    other = model.__class__(model.config)
    other.to(model.dtype).load_state_dict(reordered_tensors(spec_of(model), model.state_dict(), seed))
    return other


def inputs(name: str) -> dict[str, Any] | None:
    """The inputs that a model's answers are compared for, where the ordinary ones do not fit it."""
    import torch

    if name == "t5 classifier":
        return {"input_ids": torch.tensor([[5, 9, 4, 17, 3, 8, 1]])}
    if name.endswith("choices"):
        texts = torch.tensor([[[5, 9, 4, 17, 3], [5, 9, 4, 11, 6]]])
        return {"input_ids": texts, "attention_mask": torch.ones_like(texts)}
    return None
