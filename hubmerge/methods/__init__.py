"""Every merge method, one file per family; a new method is one file and one line here."""

from hubmerge.methods import (
    fusion,
    isotropic,
    linear,
    model_stock,
    nearswap,
    passthrough,
    ram,
    sce,
    sens_merging,
    singular_vectors,
    sphere_means,
    spherical,
    task_vectors,
    ties,
    weight_disentanglement,
    without_labels,
)

__all__ = [
    "fusion",
    "isotropic",
    "linear",
    "model_stock",
    "nearswap",
    "passthrough",
    "ram",
    "sce",
    "sens_merging",
    "singular_vectors",
    "sphere_means",
    "spherical",
    "task_vectors",
    "ties",
    "weight_disentanglement",
    "without_labels",
]
