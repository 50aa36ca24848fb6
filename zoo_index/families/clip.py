"""CLIP: a tower for texts and one for images, each alone or both; the space they meet in is an output and stays as it is."""

from __future__ import annotations

from dataclasses import replace

from zoo_index.families.family import Family

__all__ = ["FAMILIES"]

_CLIP = Family(
    name="clip",
    model_types=("clip",),
    loops={"t": "text_config.num_hidden_layers", "v": "vision_config.num_hidden_layers"},
    defaults={
        "projection_dim": 512,
        "text_config.hidden_size": 512,
        "text_config.intermediate_size": 2048,
        "text_config.num_hidden_layers": 12,
        "text_config.num_attention_heads": 8,
        "text_config.vocab_size": 49408,
        "text_config.max_position_embeddings": 77,
        "text_config.projection_dim": 512,
        "vision_config.hidden_size": 768,
        "vision_config.intermediate_size": 3072,
        "vision_config.num_hidden_layers": 12,
        "vision_config.num_attention_heads": 12,
        "vision_config.num_channels": 3,
        "vision_config.image_size": 224,
        "vision_config.patch_size": 32,
        "vision_config.projection_dim": 512,
    },
    groups="""
        text         permutation  text_config.hidden_size                                           norm layer
        thead{t}     permutation  text_config.num_attention_heads
        tqk{t}       invertible   text_config.hidden_size // text_config.num_attention_heads        in thead{t}
        tvalue{t}    invertible   text_config.hidden_size // text_config.num_attention_heads        in thead{t}
        tff{t}       permutation  text_config.intermediate_size
        image        permutation  vision_config.hidden_size                                         norm layer
        vhead{v}     permutation  vision_config.num_attention_heads
        vqk{v}       invertible   vision_config.hidden_size // vision_config.num_attention_heads    in vhead{v}
        vvalue{v}    invertible   vision_config.hidden_size // vision_config.num_attention_heads    in vhead{v}
        vff{v}       permutation  vision_config.intermediate_size
        shared       fixed        projection_dim
        token        tokens       text_config.vocab_size
        position     positions    text_config.max_position_embeddings
        channel      fixed        vision_config.num_channels
        patch        fixed        vision_config.patch_size
        patches      positions    (vision_config.image_size // vision_config.patch_size) * (vision_config.image_size // vision_config.patch_size) + 1
        label        labels       num_labels
    """,
    tensors="""
        ?logit_scale                   -
        ?text_projection.weight        shared <text
        ?visual_projection.weight      shared <image
        ?classifier.weight+bias        label <image

        ? texts
        text_model.embeddings.token_embedding.weight                     token text
        text_model.embeddings.position_embedding.weight                  position text
        ?text_model.embeddings.position_ids                              1 position
        text_model.encoder.layers.{t}.layer_norm1                        layer norm: text
        text_model.encoder.layers.{t}.self_attn.q_proj.weight+bias       (thead{t} tqk{t}) <text
        text_model.encoder.layers.{t}.self_attn.k_proj.weight+bias       (thead{t} <tqk{t}) <text
        text_model.encoder.layers.{t}.self_attn.v_proj.weight+bias       (thead{t} tvalue{t}) <text
        text_model.encoder.layers.{t}.self_attn.out_proj.weight+bias     text <(thead{t} tvalue{t})
        text_model.encoder.layers.{t}.layer_norm2                        layer norm: text
        text_model.encoder.layers.{t}.mlp.fc1.weight+bias                tff{t} <text
        text_model.encoder.layers.{t}.mlp.fc2.weight+bias                text <tff{t}
        text_model.final_layer_norm                                      layer norm: text

        ? images
        vision_model.embeddings.class_embedding                          image
        vision_model.embeddings.patch_embedding.weight                   image channel patch patch
        vision_model.embeddings.position_embedding.weight                patches image
        ?vision_model.embeddings.position_ids                            1 patches
        vision_model.pre_layrnorm                                        layer norm: image
        vision_model.encoder.layers.{v}.layer_norm1                      layer norm: image
        vision_model.encoder.layers.{v}.self_attn.q_proj.weight+bias     (vhead{v} vqk{v}) <image
        vision_model.encoder.layers.{v}.self_attn.k_proj.weight+bias     (vhead{v} <vqk{v}) <image
        vision_model.encoder.layers.{v}.self_attn.v_proj.weight+bias     (vhead{v} vvalue{v}) <image
        vision_model.encoder.layers.{v}.self_attn.out_proj.weight+bias   image <(vhead{v} vvalue{v})
        vision_model.encoder.layers.{v}.layer_norm2                      layer norm: image
        vision_model.encoder.layers.{v}.mlp.fc1.weight+bias              vff{v} <image
        vision_model.encoder.layers.{v}.mlp.fc2.weight+bias              image <vff{v}
        vision_model.post_layernorm                                      layer norm: image
    """,
)

FAMILIES = (
    _CLIP,
    *(
        replace(
            _CLIP,
            name=f"clip-{tower}",
            model_types=(f"clip_{tower}_model",),
            config_key=f"{tower}_config",
            defaults={**_CLIP.defaults, "projection_dim": f"{tower}_config.projection_dim"},
            prefix=f"{tower}_model.",
            bodies=(body,),
            output=output,
        )
        for tower, body, output in (
            ("text", "CLIPTextModel", "text"),
            ("vision", "CLIPVisionModel", "image"),
        )
    ),
)
