"""Symmetry tables of architectures, as pure data: one file a family, read by `hubmerge.symmetry`."""

from __future__ import annotations

from collections.abc import Mapping

from zoo_index.families import bert, clip, distilbert, gpt2, llama, resnet, roberta, t5, vit
from zoo_index.families.family import Family

__all__ = ["FAMILIES", "POSITION_FIELDS", "TURNING_FAMILIES", "Family"]

FAMILIES: tuple[Family, ...] = (
    *bert.FAMILIES,
    *clip.FAMILIES,
    *distilbert.FAMILIES,
    *gpt2.FAMILIES,
    *llama.FAMILIES,
    *resnet.FAMILIES,
    *roberta.FAMILIES,
    *t5.FAMILIES,
    *vit.FAMILIES,
)

TURNING_FAMILIES = ("llama", "gpt2", "vit")
"""Tables of architectures whose residual stream can be turned: every reader is behind a norm of its own."""

POSITION_FIELDS: Mapping[str, tuple[str, ...]] = {
    "gpt2": ("n_positions",),
    "bert": ("max_position_embeddings",),
    "roberta": ("max_position_embeddings",),
    "distilbert": ("max_position_embeddings",),
    "vit": ("image_size",),
}
"""Tables of architectures whose positions can be brought to another model's length, and the fields of the config that count them."""
