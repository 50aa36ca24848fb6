"""ResNet, basic and bottleneck: one group for each stage, one between every two convolutions of a block.

BatchNorm stands between a convolution and what reads it, so a scale goes into its weight and bias: the convolution itself and
the running statistics only go along.  Positive scales pass through ReLU, pooling and the sum with the shortcut.  The first
block of stage s reads the stage before it, res{s}; the others read their own, res{s+1}.  A backbone's caller sees the stages that
its ``out_indices`` count, the stem as 0: they stay as they are.
"""

from __future__ import annotations

from zoo_index.families.family import Family

__all__ = ["FAMILIES"]

_RESNET = Family(
    name="resnet",
    model_types=("resnet",),
    loops={"s": "len(depths)", "b": "depths[s]"},
    prefix="resnet.",
    bodies=("ResNetModel",),
    output="res{len(depths)}",
    defaults={
        "layer_type": "'bottleneck'",
        "hidden_act": "'relu'",
        "num_channels": 3,
        "downsample_in_first_stage": False,
        "shows_stages": "architecture == 'ResNetBackbone'",
        "shows_stem": "shows_stages and (0 in out_indices or 0 - 1 - len(depths) in out_indices)",
        "stem_is_apart": "downsample_in_first_stage or embedding_size != hidden_sizes[0]",
    },
    groups="""
        res0        fixed               embedding_size        norm batch  if shows_stem
        res0        permutation+scales  embedding_size        norm batch  if hidden_act == 'relu'
        res0        permutation         embedding_size        norm batch
        res{s+1}    fixed               hidden_sizes[s]       norm batch  if shows_stages and s + 1 in out_indices
        res{s+1}    fixed               hidden_sizes[s]       norm batch  if shows_stages and s - len(depths) in out_indices
        res{s+1}    fixed               hidden_sizes[s]       norm batch  if s == 0 and shows_stem and not stem_is_apart
        res{s+1}    permutation+scales  hidden_sizes[s]       norm batch  if hidden_act == 'relu'
        res{s+1}    permutation         hidden_sizes[s]       norm batch
        mid{s}.{b}  permutation+scales  hidden_sizes[s]       norm batch  if hidden_act == 'relu'
        mid{s}.{b}  permutation         hidden_sizes[s]       norm batch
        one{s}.{b}  permutation+scales  hidden_sizes[s] // 4  norm batch  if hidden_act == 'relu'
        one{s}.{b}  permutation         hidden_sizes[s] // 4  norm batch
        two{s}.{b}  permutation+scales  hidden_sizes[s] // 4  norm batch  if hidden_act == 'relu'
        two{s}.{b}  permutation         hidden_sizes[s] // 4  norm batch
        channel     fixed               num_channels
        label       labels              num_labels
        same  res0  res1  if not stem_is_apart
    """,
    tensors="""
        resnet.embedder.embedder.convolution.weight                          =res0 channel 7 7
        resnet.embedder.embedder.normalization                               batch norm: res0
        resnet.encoder.stages.{s}.layers.{b}.layer.0.convolution.weight      =mid{s}.{b} <res{s+(b>0)} 3 3  if layer_type == 'basic'
        resnet.encoder.stages.{s}.layers.{b}.layer.0.normalization           batch norm: mid{s}.{b}         if layer_type == 'basic'
        resnet.encoder.stages.{s}.layers.{b}.layer.1.convolution.weight      =res{s+1} <mid{s}.{b} 3 3      if layer_type == 'basic'
        resnet.encoder.stages.{s}.layers.{b}.layer.1.normalization           batch norm: res{s+1}           if layer_type == 'basic'
        resnet.encoder.stages.{s}.layers.{b}.layer.0.convolution.weight      =one{s}.{b} <res{s+(b>0)} 1 1  if layer_type == 'bottleneck'
        resnet.encoder.stages.{s}.layers.{b}.layer.0.normalization           batch norm: one{s}.{b}         if layer_type == 'bottleneck'
        resnet.encoder.stages.{s}.layers.{b}.layer.1.convolution.weight      =two{s}.{b} <one{s}.{b} 3 3    if layer_type == 'bottleneck'
        resnet.encoder.stages.{s}.layers.{b}.layer.1.normalization           batch norm: two{s}.{b}         if layer_type == 'bottleneck'
        resnet.encoder.stages.{s}.layers.{b}.layer.2.convolution.weight      =res{s+1} <two{s}.{b} 1 1      if layer_type == 'bottleneck'
        resnet.encoder.stages.{s}.layers.{b}.layer.2.normalization           batch norm: res{s+1}           if layer_type == 'bottleneck'
        resnet.encoder.stages.{s}.layers.{b}.shortcut.convolution.weight     =res{s+1} <res{s} 1 1  if b == 0 and (s > 0 or stem_is_apart)
        resnet.encoder.stages.{s}.layers.{b}.shortcut.normalization          batch norm: res{s+1}   if b == 0 and (s > 0 or stem_is_apart)
        ?classifier.1.weight+bias                                            label <res{len(depths)}
    """,
)

FAMILIES = (_RESNET,)
