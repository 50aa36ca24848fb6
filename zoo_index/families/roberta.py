"""RoBERTa and XLM-RoBERTa: BERT's body, other heads."""

from __future__ import annotations

from zoo_index.families.family import Family

__all__ = ["FAMILIES"]

_ROBERTA = Family(
    name="roberta",
    model_types=("roberta", "xlm-roberta"),
    loops={"l": "num_hidden_layers"},
    prefix="roberta.",
    bodies=("RobertaModel", "XLMRobertaModel"),
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
        roberta.embeddings.word_embeddings.weight                     token res
        roberta.embeddings.position_embeddings.weight                 position res
        roberta.embeddings.token_type_embeddings.weight               type res
        ?roberta.embeddings.position_ids                              . position
        roberta.embeddings.LayerNorm                                  layer norm: res
        roberta.encoder.layer.{l}.attention.self.query.weight+bias    (head{l} qk{l}) <res
        roberta.encoder.layer.{l}.attention.self.key.weight+bias      (head{l} <qk{l}) <res
        roberta.encoder.layer.{l}.attention.self.value.weight+bias    (head{l} value{l}) <res
        roberta.encoder.layer.{l}.attention.output.dense.weight+bias  res <(head{l} value{l})
        roberta.encoder.layer.{l}.attention.output.LayerNorm          layer norm: res
        roberta.encoder.layer.{l}.intermediate.dense.weight+bias      ff{l} <res
        roberta.encoder.layer.{l}.output.dense.weight+bias            res <ff{l}
        roberta.encoder.layer.{l}.output.LayerNorm                    layer norm: res
        ?roberta.pooler.dense.weight+bias                             pool <res
        ?classifier.weight+bias    label <res   if 'TokenClassification' in architecture
        ?classifier.weight+bias    label <pool  if 'MultipleChoice' in architecture
        ?qa_outputs.weight+bias    label <res
        ?lm_head.decoder.weight    token <mlm
        ?lm_head.decoder.bias      token
        tied  lm_head.decoder.weight  roberta.embeddings.word_embeddings.weight  if tie_word_embeddings and predicts_tokens

        ? masked words
        lm_head.dense.weight+bias  mlm <res
        lm_head.layer_norm         layer norm: mlm
        lm_head.bias               token

        ? class of a text
        classifier.dense.weight+bias     pool <res
        classifier.out_proj.weight+bias  label <pool
    """,
)

FAMILIES = (_ROBERTA,)
