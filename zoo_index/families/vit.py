"""ViT: LayerNorm before attention and MLP, a class token, learned positions of patches."""

from __future__ import annotations

from zoo_index.families.family import Family

__all__ = ["FAMILIES"]

_VIT = Family(
    name="vit",
    model_types=("vit",),
    loops={"l": "num_hidden_layers"},
    prefix="vit.",
    bodies=("ViTModel",),
    output="res",
    defaults={
        "hidden_act": "'gelu'",
        "num_channels": 3,
        "encoder_stride": 16,
        "pooler_output_size": "hidden_size",
    },
    aliases=(  # what transformers 5 calls the modules in memory
        (r"\blayers\.(\d+)\.attention\.q_proj\.", r"encoder.layer.\1.attention.attention.query."),
        (r"\blayers\.(\d+)\.attention\.k_proj\.", r"encoder.layer.\1.attention.attention.key."),
        (r"\blayers\.(\d+)\.attention\.v_proj\.", r"encoder.layer.\1.attention.attention.value."),
        (r"\blayers\.(\d+)\.attention\.o_proj\.", r"encoder.layer.\1.attention.output.dense."),
        (r"\blayers\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
        (r"\blayers\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
        (r"\blayers\.(\d+)\.layernorm_", r"encoder.layer.\1.layernorm_"),
    ),
    groups="""
        res       permutation         hidden_size                         norm layer
        head{l}   permutation         num_attention_heads
        qk{l}     invertible          hidden_size // num_attention_heads  in head{l}
        value{l}  invertible          hidden_size // num_attention_heads  in head{l}
        ff{l}     permutation+scales  intermediate_size                   if hidden_act == 'relu'
        ff{l}     permutation         intermediate_size
        pool      fixed               pooler_output_size
        channel   fixed               num_channels
        patch     fixed               patch_size
        position  positions           (image_size // patch_size) * (image_size // patch_size) + 1
        pixel     fixed               encoder_stride * encoder_stride * num_channels
        label     labels              num_labels
    """,
    tensors="""
        vit.embeddings.cls_token                                         1 1 res
        ?vit.embeddings.mask_token                                       1 1 res
        vit.embeddings.position_embeddings                               1 position res
        vit.embeddings.patch_embeddings.projection.weight+bias           res channel patch patch
        vit.encoder.layer.{l}.layernorm_before                           layer norm: res
        vit.encoder.layer.{l}.attention.attention.query.weight+bias?     (head{l} qk{l}) <res
        vit.encoder.layer.{l}.attention.attention.key.weight+bias?       (head{l} <qk{l}) <res
        vit.encoder.layer.{l}.attention.attention.value.weight+bias?     (head{l} value{l}) <res
        vit.encoder.layer.{l}.attention.output.dense.weight+bias         res <(head{l} value{l})
        vit.encoder.layer.{l}.layernorm_after                            layer norm: res
        vit.encoder.layer.{l}.intermediate.dense.weight+bias             ff{l} <res
        vit.encoder.layer.{l}.output.dense.weight+bias                   res <ff{l}
        vit.layernorm                                                    layer norm: res
        ?vit.pooler.dense.weight+bias                                    pool <res
        ?classifier.weight+bias                                          label <res
        ?decoder.0.weight+bias                                           pixel <res 1 1
    """,
)

FAMILIES = (_VIT,)
