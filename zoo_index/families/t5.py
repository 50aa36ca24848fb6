"""T5: RMSNorm, no RoPE; one table of relative positions serves all layers of a stack, and so ties their heads together.

Older files hold copies of the shared embedding under the names of the stacks, and a table in the first cross attention that
nothing reads.
"""

from __future__ import annotations

from zoo_index.families.family import Family

__all__ = ["FAMILIES"]

_T5 = Family(
    name="t5",
    model_types=("t5",),
    loops={"e": "num_layers", "d": "num_decoder_layers"},
    prefix="transformer.",
    bodies=("T5Model", "T5EncoderModel"),
    output="res",
    defaults={
        "num_decoder_layers": "num_layers",
        "feed_forward_proj": "'relu'",
        "relative_attention_num_buckets": 32,
        "tie_word_embeddings": True,
    },
    aliases=((r"^(shared|encoder|decoder)\.", r"transformer.\1."),),  # only classifiers have the prefix
    groups="""
        res        permutation+signs         d_model    norm rms
        head       permutation               num_heads
        qk{e}      invertible                d_kv       in head
        value{e}   invertible                d_kv       in head
        ff{e}      permutation+scales        d_ff       if feed_forward_proj == 'relu'
        ff{e}      permutation+signs+scales  d_ff       if 'gated' in feed_forward_proj
        ff{e}      permutation               d_ff
        dhead      permutation               num_heads
        dqk{d}     invertible                d_kv       in dhead
        dvalue{d}  invertible                d_kv       in dhead
        xhead{d}   permutation               num_heads
        xqk{d}     invertible                d_kv       in xhead{d}
        xvalue{d}  invertible                d_kv       in xhead{d}
        dff{d}     permutation+scales        d_ff       if feed_forward_proj == 'relu'
        dff{d}     permutation+signs+scales  d_ff       if 'gated' in feed_forward_proj
        dff{d}     permutation               d_ff
        pool       permutation+signs         d_model
        distance   fixed                     relative_attention_num_buckets
        token      tokens                    vocab_size
        label      labels                    num_labels
    """,
    tensors="""
        transformer.shared.weight                                         token res
        ?transformer.encoder.embed_tokens.weight                          token res
        ?transformer.decoder.embed_tokens.weight                          token res
        transformer.encoder.block.{e}.layer.0.layer_norm                  rms norm: res
        transformer.encoder.block.{e}.layer.0.SelfAttention.q.weight      (head qk{e}) <res
        transformer.encoder.block.{e}.layer.0.SelfAttention.k.weight      (head <qk{e}) <res
        transformer.encoder.block.{e}.layer.0.SelfAttention.v.weight      (head value{e}) <res
        transformer.encoder.block.{e}.layer.0.SelfAttention.o.weight      res <(head value{e})
        transformer.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight  distance head
        transformer.encoder.block.{e}.layer.1.layer_norm                  rms norm: res
        transformer.encoder.block.{e}.layer.1.DenseReluDense.wi.weight    ff{e} <res   if 'gated' not in feed_forward_proj
        transformer.encoder.block.{e}.layer.1.DenseReluDense.wi_0.weight  =ff{e} <res  if 'gated' in feed_forward_proj
        transformer.encoder.block.{e}.layer.1.DenseReluDense.wi_1.weight  ff{e} <res   if 'gated' in feed_forward_proj
        transformer.encoder.block.{e}.layer.1.DenseReluDense.wo.weight    res <ff{e}
        transformer.encoder.final_layer_norm                              rms norm: res
        ?lm_head.weight                                                   token <res
        ?classifier.weight+bias                                           label <res
        ?qa_outputs.weight+bias                                           label <res
        ?transformer.decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight  . .
        tied  lm_head.weight  transformer.shared.weight  if tie_word_embeddings and predicts_tokens

        ? decoder
        transformer.decoder.block.{d}.layer.0.layer_norm                  rms norm: res
        transformer.decoder.block.{d}.layer.0.SelfAttention.q.weight      (dhead dqk{d}) <res
        transformer.decoder.block.{d}.layer.0.SelfAttention.k.weight      (dhead <dqk{d}) <res
        transformer.decoder.block.{d}.layer.0.SelfAttention.v.weight      (dhead dvalue{d}) <res
        transformer.decoder.block.{d}.layer.0.SelfAttention.o.weight      res <(dhead dvalue{d})
        transformer.decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight  distance dhead
        transformer.decoder.block.{d}.layer.1.layer_norm                  rms norm: res
        transformer.decoder.block.{d}.layer.1.EncDecAttention.q.weight    (xhead{d} xqk{d}) <res
        transformer.decoder.block.{d}.layer.1.EncDecAttention.k.weight    (xhead{d} <xqk{d}) <res
        transformer.decoder.block.{d}.layer.1.EncDecAttention.v.weight    (xhead{d} xvalue{d}) <res
        transformer.decoder.block.{d}.layer.1.EncDecAttention.o.weight    res <(xhead{d} xvalue{d})
        transformer.decoder.block.{d}.layer.2.layer_norm                  rms norm: res
        transformer.decoder.block.{d}.layer.2.DenseReluDense.wi.weight    dff{d} <res   if 'gated' not in feed_forward_proj
        transformer.decoder.block.{d}.layer.2.DenseReluDense.wi_0.weight  =dff{d} <res  if 'gated' in feed_forward_proj
        transformer.decoder.block.{d}.layer.2.DenseReluDense.wi_1.weight  dff{d} <res   if 'gated' in feed_forward_proj
        transformer.decoder.block.{d}.layer.2.DenseReluDense.wo.weight    res <dff{d}
        transformer.decoder.final_layer_norm                              rms norm: res

        ? class of a text
        classification_head.dense.weight+bias     pool <res
        classification_head.out_proj.weight+bias  label <pool
    """,
)

FAMILIES = (_T5,)
