"""DistilBERT: BERT without token types and pooler, under names and config fields of its own."""

from __future__ import annotations

from zoo_index.families.family import Family

__all__ = ["FAMILIES"]

_DISTILBERT = Family(
    name="distilbert",
    model_types=("distilbert",),
    loops={"l": "n_layers"},
    prefix="distilbert.",
    bodies=("DistilBertModel",),
    output="res",
    defaults={"tie_word_embeddings": True, "activation": "'gelu'"},
    groups="""
        res       permutation         dim             norm post
        head{l}   permutation         n_heads
        qk{l}     invertible          dim // n_heads  in head{l}
        value{l}  invertible          dim // n_heads  in head{l}
        ff{l}     permutation+scales  hidden_dim      if activation == 'relu'
        ff{l}     permutation         hidden_dim
        pool      permutation+scales  dim
        mlm       permutation         dim             norm layer
        token     tokens              vocab_size
        position  positions           max_position_embeddings
        label     labels              num_labels
        same  mlm  res  if tie_word_embeddings
    """,
    tensors="""
        distilbert.embeddings.word_embeddings.weight                    token res
        distilbert.embeddings.position_embeddings.weight                position res
        ?distilbert.embeddings.position_ids                             . position
        distilbert.embeddings.LayerNorm                                 layer norm: res
        distilbert.transformer.layer.{l}.attention.q_lin.weight+bias    (head{l} qk{l}) <res
        distilbert.transformer.layer.{l}.attention.k_lin.weight+bias    (head{l} <qk{l}) <res
        distilbert.transformer.layer.{l}.attention.v_lin.weight+bias    (head{l} value{l}) <res
        distilbert.transformer.layer.{l}.attention.out_lin.weight+bias  res <(head{l} value{l})
        distilbert.transformer.layer.{l}.sa_layer_norm                  layer norm: res
        distilbert.transformer.layer.{l}.ffn.lin1.weight+bias           ff{l} <res
        distilbert.transformer.layer.{l}.ffn.lin2.weight+bias           res <ff{l}
        distilbert.transformer.layer.{l}.output_layer_norm              layer norm: res
        ?pre_classifier.weight+bias   pool <res
        ?classifier.weight+bias       label <res   if 'TokenClassification' in architecture
        ?classifier.weight+bias       label <pool  if 'TokenClassification' not in architecture and architecture
        ?qa_outputs.weight+bias       label <res
        ?vocab_projector.weight       token <mlm
        tied  vocab_projector.weight  distilbert.embeddings.word_embeddings.weight  if tie_word_embeddings and predicts_tokens

        ? masked words
        vocab_transform.weight+bias   mlm <res
        vocab_layer_norm              layer norm: mlm
        vocab_projector.bias          token
    """,
)

FAMILIES = (_DISTILBERT,)
