"""Llama, Mistral, Qwen2 and Qwen3: RMSNorm, RoPE, query heads in kv heads, SwiGLU."""

from __future__ import annotations

from zoo_index.families.family import Family

__all__ = ["FAMILIES"]

_LLAMA = Family(
    name="llama",
    model_types=("llama", "mistral", "qwen2", "qwen3"),
    loops={"l": "num_hidden_layers"},
    prefix="model.",
    bodies=("LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model"),
    output="res",
    defaults={
        "num_key_value_heads": "num_attention_heads",
        "head_dim": "hidden_size // num_attention_heads",
        "tie_word_embeddings": False,
    },
    aliases=((r"^transformer\.", "model."),),  # with a head for question answering
    requires="model_type != 'llama' or hidden_size % num_attention_heads == 0",  # also where head_dim is stated
    groups="""
        res       permutation+signs         hidden_size          norm rms
        kv{l}     permutation               num_key_value_heads
        query{l}  permutation               num_attention_heads // num_key_value_heads  in kv{l}
        rope{l}   plane signs               head_dim             in kv{l}  norm rms  if model_type == 'qwen3'
        rope{l}   planes                    head_dim             in kv{l}
        value{l}  invertible                head_dim             in kv{l}
        ff{l}     permutation+signs+scales  intermediate_size
        token     tokens                    vocab_size
        label     labels                    num_labels
    """,
    tensors="""
        model.embed_tokens.weight                       token res
        model.layers.{l}.input_layernorm                rms norm: res
        model.layers.{l}.self_attn.q_proj.weight+bias?  (kv{l} query{l} rope{l}) <res
        model.layers.{l}.self_attn.k_proj.weight+bias?  (kv{l} <rope{l}) <res
        model.layers.{l}.self_attn.v_proj.weight+bias?  (kv{l} value{l}) <res
        model.layers.{l}.self_attn.o_proj.weight+bias?  res <(kv{l} query{l} value{l})
        model.layers.{l}.self_attn.q_norm               rms norm: rope{l}  if model_type == 'qwen3'
        model.layers.{l}.self_attn.k_norm               rms norm: rope{l}  if model_type == 'qwen3'
        ?model.layers.{l}.self_attn.rotary_emb.inv_freq  .
        model.layers.{l}.post_attention_layernorm       rms norm: res
        model.layers.{l}.mlp.gate_proj.weight+bias?     =ff{l} <res
        model.layers.{l}.mlp.up_proj.weight+bias?       ff{l} <res
        model.layers.{l}.mlp.down_proj.weight+bias?     res <ff{l}
        model.norm                                      rms norm: res
        ?lm_head.weight                                 token <res
        ?score.weight+bias?                             label <res
        ?qa_outputs.weight+bias                         2 <res
        tied  lm_head.weight  model.embed_tokens.weight  if tie_word_embeddings and predicts_tokens
    """,
)

FAMILIES = (_LLAMA,)
