"""A parent from nothing: the untrained transformers model, and how it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.heterogeneous.examples import Examples
from benchmarks.heterogeneous.settings import SIDES, Parent, Recipe
from benchmarks.heterogeneous.text_settings import LENGTH, WORDS

if TYPE_CHECKING:
    import torch

__all__ = ["new_model", "shifted", "train"]

_PAPER = -1.0


def new_model(parent: Parent, seed: int) -> Any:
    """The untrained model; its outputs are named after the digits they stand for, or the numbers of packages: "0" to "9".

    ResNet: basic blocks, two for each of three stages of widths w, 2w, 4w.  ViT: three layers, four heads, patches of 2
    pixels, a feed-forward layer of twice the stream's width.  A parent's own depths come
    first.  BERT: two layers, four heads, a stream of 64, without dropout.
    """
    import torch
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        ResNetConfig,
        ResNetForImageClassification,
        ViTConfig,
        ViTForImageClassification,
    )

    names = {index: str(label) for index, label in enumerate(parent.labels)}
    labels: dict[str, Any] = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    common: dict[str, Any] = {"num_channels": 1, **labels}
    width = parent.width
    with torch.random.fork_rng():
        torch.manual_seed(parent.torch_seed(seed))
        if parent.model == "vit":
            vit = ViTConfig(
                hidden_size=width,
                num_hidden_layers=(parent.depths or (3,))[0],
                num_attention_heads=4,
                intermediate_size=2 * width,
                image_size=SIDES[parent.images],
                patch_size=2,
                **common,
            )
            return ViTForImageClassification(vit)
        if parent.model == "bert":
            bert = BertConfig(
                vocab_size=WORDS,
                hidden_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=width,
                max_position_embeddings=LENGTH + 1,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                **labels,
            )
            return BertForSequenceClassification(bert)
        resnet = ResNetConfig(
            embedding_size=width,
            hidden_sizes=[width, 2 * width, 4 * width],
            depths=list(parent.depths or (2, 2, 2)),
            layer_type="basic",
            downsample_in_first_stage=False,
            **common,
        )
        return ResNetForImageClassification(resnet)


def train(model: Any, examples: Examples, labels: tuple[int, ...], recipe: Recipe, seed: int) -> Any:
    """Train `model` in place on those of `examples` that have one of `labels`; returns it in evaluation mode.

    The last batch of an epoch is left out when it is not full.  On one thread the same machine gives the same weights.
    """
    import torch

    shown = examples.only(labels)
    inputs = torch.from_numpy(shown.inputs)
    outputs = torch.tensor([labels.index(int(label)) for label in shown.labels])
    order = torch.Generator().manual_seed(seed)
    steps = len(shown) // recipe.batch
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.rate, total_steps=recipe.epochs * steps)
    model.train()
    for _ in range(recipe.epochs):
        shuffled = torch.randperm(len(shown), generator=order)
        for step in range(steps):
            rows = shuffled[step * recipe.batch : (step + 1) * recipe.batch]
            batch = shifted(inputs[rows], recipe.shift, order)
            loss = model(**{model.main_input_name: batch}, labels=outputs[rows]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def shifted(pixels: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    """Every image moved by up to `most` pixels in each direction, evenly drawn; paper comes in at the borders.

    pixels: shape (n, channels, side, side).
    """
    import torch
    from torch.nn.functional import pad

    if most == 0:
        return pixels
    number, _, height, width = pixels.shape
    padded = pad(pixels, (most,) * 4, value=_PAPER)
    offsets = torch.randint(2 * most + 1, (2, number, 1), generator=generator)
    rows = (torch.arange(height) + offsets[0])[:, :, None]
    columns = (torch.arange(width) + offsets[1])[:, None, :]
    each = torch.arange(number)[:, None, None]
    return padded.permute(0, 2, 3, 1)[each, rows, columns].permute(0, 3, 1, 2).contiguous()
