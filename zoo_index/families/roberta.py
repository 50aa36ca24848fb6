"""RoBERTa and XLM-RoBERTa: BERT's body, other heads."""

from __future__ import annotations

from zoo_index.families.bert import with_body_of_bert

__all__ = ["FAMILIES"]

FAMILIES = (
    with_body_of_bert(
        "roberta",
        ("roberta", "xlm-roberta"),
        ("RobertaModel", "XLMRobertaModel"),
        """
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
    ),
)
