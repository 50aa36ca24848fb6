"""BERT: LayerNorm inside the residual path, so the residual stream can be reordered and nothing more."""

from __future__ import annotations

from zoo_index.families.family import Family

__all__ = ["FAMILIES"]

_BERT = Family(
    name="bert",
    model_types=("bert",),
    loops={"l": "num_hidden_layers"},
    prefix="bert.",
    bodies=("BertModel",),
    output="res",
    defaults={"tie_word_embeddings": True, "hidden_act": "'gelu'", "type_vocab_size": 2},
    aliases=((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),
    groups="""
        res       permutation         hidden_size                         norm post
        head{l}   permutation         num_attention_heads
        qk{l}     invertible          hidden_size // num_attention_heads  in head{l}
        value{l}  invertible          hidden_size // num_attention_heads  in head{l}
        ff{l}     permutation+scales  intermediate_size                   if hidden_act == 'relu'
        ff{l}     permutation         intermediate_size
        pool      permutation+signs   hidden_size
        mlm       permutation         hidden_size                         norm layer
        token     tokens              vocab_size
        position  positions           max_position_embeddings
        type      fixed               type_vocab_size
        label     labels              num_labels
        same  mlm  res  if tie_word_embeddings
    """,
    tensors="""
        bert.embeddings.word_embeddings.weight                          token res
        bert.embeddings.position_embeddings.weight                      position res
        bert.embeddings.token_type_embeddings.weight                    type res
        ?bert.embeddings.position_ids                                   . position
        bert.embeddings.LayerNorm                                       layer norm: res
        bert.encoder.layer.{l}.attention.self.query.weight+bias         (head{l} qk{l}) <res
        bert.encoder.layer.{l}.attention.self.key.weight+bias           (head{l} <qk{l}) <res
        bert.encoder.layer.{l}.attention.self.value.weight+bias         (head{l} value{l}) <res
        bert.encoder.layer.{l}.attention.output.dense.weight+bias       res <(head{l} value{l})
        bert.encoder.layer.{l}.attention.output.LayerNorm               layer norm: res
        bert.encoder.layer.{l}.intermediate.dense.weight+bias           ff{l} <res
        bert.encoder.layer.{l}.output.dense.weight+bias                 res <ff{l}
        bert.encoder.layer.{l}.output.LayerNorm                         layer norm: res
        ?bert.pooler.dense.weight+bias                                  pool <res
        ?classifier.weight+bias            label <res   if 'TokenClassification' in architecture
        ?classifier.weight+bias            label <pool  if 'TokenClassification' not in architecture and architecture
        ?qa_outputs.weight+bias            label <res
        ?cls.seq_relationship.weight+bias  2 <pool
        ?cls.predictions.decoder.weight    token <mlm
        ?cls.predictions.decoder.bias      token
        tied  cls.predictions.decoder.weight  bert.embeddings.word_embeddings.weight  if tie_word_embeddings and predicts_tokens

        ? masked words
        cls.predictions.transform.dense.weight+bias  mlm <res
        cls.predictions.transform.LayerNorm          layer norm: mlm
        cls.predictions.bias                         token
    """,
)

FAMILIES = (_BERT,)
