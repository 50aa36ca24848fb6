"""ResNet, basic and bottleneck: one group for each stage, one between every two convolutions of a block.

BatchNorm stands between a convolution and what reads it, so a scale goes into its weight and bias: the convolution itself and
the running statistics only go along.  Positive scales pass through ReLU, pooling and the sum with the shortcut.
"""

from __future__ import annotations

from zoo_index.families.family import Family

__all__ = ["FAMILIES"]

_SHORTCUT = "b == 0 and (s > 0 or downsample_in_first_stage or embedding_size != hidden_sizes[0])"

_GROUPS = """
        res0        permutation+scales  embedding_size    norm batch  if hidden_act == 'relu'
        res0        permutation         embedding_size    norm batch
        res{s+1}    permutation+scales  hidden_sizes[s]   norm batch  if hidden_act == 'relu'
        res{s+1}    permutation         hidden_sizes[s]   norm batch
        one{s}.{b}  permutation+scales  WIDTH  norm batch  if hidden_act == 'relu'
        one{s}.{b}  permutation         WIDTH  norm batch
        two{s}.{b}  permutation+scales  WIDTH  norm batch  if hidden_act == 'relu'
        two{s}.{b}  permutation         WIDTH  norm batch
        channel     fixed               num_channels
        label       labels              num_labels
        same  res0  res1  if not (downsample_in_first_stage or embedding_size != hidden_sizes[0])
    """

_TENSORS = f"""
        resnet.embedder.embedder.convolution.weight    =res0 channel 7 7
        resnet.embedder.embedder.normalization         batch norm: res0
        BLOCK
        resnet.encoder.stages.{{s}}.layers.{{b}}.shortcut.convolution.weight  =res{{s+1}} <res{{s}} 1 1  if {_SHORTCUT}
        resnet.encoder.stages.{{s}}.layers.{{b}}.shortcut.normalization       batch norm: res{{s+1}}  if {_SHORTCUT}
        ?classifier.1.weight+bias                      label <res{{len(depths)}}
    """

# The first block of a stage reads the stage before it: res{s}; the others read their own: res{s+1}.
_BASIC = """resnet.encoder.stages.{s}.layers.{b}.layer.0.convolution.weight  =one{s}.{b} <res{s+(b>0)} 3 3
        resnet.encoder.stages.{s}.layers.{b}.layer.0.normalization       batch norm: one{s}.{b}
        resnet.encoder.stages.{s}.layers.{b}.layer.1.convolution.weight  =res{s+1} <one{s}.{b} 3 3
        resnet.encoder.stages.{s}.layers.{b}.layer.1.normalization       batch norm: res{s+1}"""

_BOTTLENECK = """resnet.encoder.stages.{s}.layers.{b}.layer.0.convolution.weight  =one{s}.{b} <res{s+(b>0)} 1 1
        resnet.encoder.stages.{s}.layers.{b}.layer.0.normalization       batch norm: one{s}.{b}
        resnet.encoder.stages.{s}.layers.{b}.layer.1.convolution.weight  =two{s}.{b} <one{s}.{b} 3 3
        resnet.encoder.stages.{s}.layers.{b}.layer.1.normalization       batch norm: two{s}.{b}
        resnet.encoder.stages.{s}.layers.{b}.layer.2.convolution.weight  =res{s+1} <two{s}.{b} 1 1
        resnet.encoder.stages.{s}.layers.{b}.layer.2.normalization       batch norm: res{s+1}"""

FAMILIES = tuple(
    Family(
        name=f"resnet-{kind}",
        model_types=("resnet",),
        when=f"layer_type == '{kind}'",
        loops={"s": "len(depths)", "b": "depths[s]"},
        prefix="resnet.",
        bodies=("ResNetModel",),
        output="res{len(depths)}",
        defaults={
            "layer_type": "'bottleneck'",
            "hidden_act": "'relu'",
            "num_channels": 3,
            "downsample_in_first_stage": False,
        },
        groups=_GROUPS.replace("WIDTH", width),
        tensors=_TENSORS.replace("BLOCK", block),
    )
    for kind, width, block in (
        ("basic", "hidden_sizes[s]", _BASIC),
        ("bottleneck", "hidden_sizes[s] // 4", _BOTTLENECK),
    )
)
