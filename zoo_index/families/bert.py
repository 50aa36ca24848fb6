"""BERT: LayerNorm inside the residual path, so the residual stream can be reordered and nothing more; and what has its body."""

from __future__ import annotations

from zoo_index.families.family import Family

__all__ = ["FAMILIES", "with_body_of_bert"]

_GROUPS = """
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
"""

_BODY = """
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
"""


def with_body_of_bert(name: str, model_types: tuple[str, ...], bodies: tuple[str, ...], heads: str) -> Family:
    """A family whose base model is BERT's under the prefix `name`; heads: the rows of its heads."""
    prefix = f"{name}."
    return Family(
        name=name,
        model_types=model_types,
        loops={"l": "num_hidden_layers"},
        prefix=prefix,
        bodies=bodies,
        output="res",
        defaults={"tie_word_embeddings": True, "hidden_act": "'gelu'", "type_vocab_size": 2},
        aliases=((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),
        groups=_GROUPS,
        tensors=_BODY.replace("bert.", prefix) + heads,
    )


FAMILIES = (
    with_body_of_bert(
        "bert",
        ("bert",),
        ("BertModel",),
        """
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
    ),
)
