"""GPT-2: LayerNorm, learned positions, one fused projection of shape (in, out) for queries, keys and values."""

from __future__ import annotations

from zoo_index.families.family import Family

__all__ = ["FAMILIES"]

_GPT2 = Family(
    name="gpt2",
    model_types=("gpt2",),
    loops={"l": "n_layer"},
    prefix="transformer.",
    bodies=("GPT2Model",),
    output="res",
    defaults={"n_inner": "4 * n_embd", "activation_function": "'gelu_new'", "tie_word_embeddings": True},
    groups="""
        res       permutation         n_embd            norm layer
        head{l}   permutation         n_head
        qk{l}     invertible          n_embd // n_head  in head{l}
        value{l}  invertible          n_embd // n_head  in head{l}
        ff{l}     permutation+scales  n_inner           if activation_function == 'relu'
        ff{l}     permutation         n_inner
        token     tokens              vocab_size
        position  positions           n_positions
        label     labels              num_labels
    """,
    tensors="""
        transformer.wte.weight                      token res
        transformer.wpe.weight                      position res
        transformer.h.{l}.ln_1                      layer norm: res
        transformer.h.{l}.attn.c_attn.weight+bias   <res [(head{l} qk{l})|(head{l} <qk{l})|(head{l} value{l})]
        transformer.h.{l}.attn.c_proj.weight+bias   <(head{l} value{l}) res
        ?transformer.h.{l}.attn.bias                . . . .
        ?transformer.h.{l}.attn.masked_bias         -
        transformer.h.{l}.ln_2                      layer norm: res
        transformer.h.{l}.mlp.c_fc.weight+bias      <res ff{l}
        transformer.h.{l}.mlp.c_proj.weight+bias    <ff{l} res
        transformer.ln_f                            layer norm: res
        ?lm_head.weight                             token <res
        ?score.weight                               label <res
        ?classifier.weight+bias                     label <res
        ?qa_outputs.weight+bias                     label <res
        ?multiple_choice_head.summary.weight+bias   1 <res
        tied  lm_head.weight  transformer.wte.weight  if tie_word_embeddings and predicts_tokens
    """,
)

FAMILIES = (_GPT2,)
