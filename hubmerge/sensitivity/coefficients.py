"""Sensitivities of layers and distances between answers -> the coefficients of Sens-Merging; and which tensors are one layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from hubmerge.layers import layer_stacks

__all__ = ["Alignment", "by_layer", "cross_task", "layers_of", "normalised", "sens_coefficients", "shares_of_layers"]

Alignment = Literal["distance", "similarity"]
Array = npt.NDArray[np.float64]


def layers_of(names: Iterable[str]) -> dict[str, str]:
    """The layer of every tensor: its block where the names count blocks (``model.layers.3``), else its module (``model.norm``).

    Embeddings, the last norm and the head are layers of their own by that.
    """
    listed = tuple(names)
    stacks = layer_stacks(listed)
    found = {}
    for name in listed:
        block = next((f"{s.prefix}{own[0]}" for s in stacks if (own := s.split(name)) is not None), None)
        found[name] = block or name.rpartition(".")[0] or name
    return found


def cross_task(distances: Array, alignment: Alignment) -> Array:
    """kappa, (parents,), sums to 1: for every parent the sum over the others' data of its distance, or of exp(-distance).

    distances: (parents, parents), [t, s] how far parent t's logits lie from those of parent s on the data of s.  All parents alike where
    the sum is 0, and for a single one.
    """
    others = 1 - np.eye(len(distances))
    if alignment == "distance":
        return normalised((distances * others).sum(axis=1))
    nearest = distances[others > 0].min(
        initial=np.inf
    )  # a factor of all sums, without which far models would all have 0
    return normalised((np.exp(np.minimum(nearest - distances, 0)) * others).sum(axis=1))


def normalised(scales: Array) -> Array:
    """The scales over their sum; all alike where it is 0."""
    total = scales.sum()
    found: Array = scales / total if total > 0 else np.full(len(scales), 1 / len(scales))
    return found


def shares_of_layers(sums: Array) -> Array:
    """alpha, of the shape of `sums`, (layers, parents): each parent's sensitivities over their Euclidean norm; 0 where all are 0."""
    norms = np.sqrt((sums**2).sum(axis=0))
    found: Array = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
    return found


def sens_coefficients(sums: Array, scales: Array, temperature: float) -> Array:
    """T * softmax over the T parents of alpha * kappa / temperature, (layers, parents): 1 on average in every layer.

    sums: (layers, parents), sensitivities, 0 or more; scales: (parents,), kappa before it is normalised, 0 or more.
    """
    exponents = shares_of_layers(sums) * normalised(scales) / temperature
    exponents -= exponents.max(axis=1, keepdims=True)
    powers = np.exp(exponents)
    found: Array = sums.shape[1] * powers / powers.sum(axis=1, keepdims=True)
    return found


def by_layer(layer_of: Mapping[str, str], parents: Iterable[Mapping[str, float]]) -> tuple[tuple[str, ...], Array]:
    """The layers in their order, and the sums of the tensors' sensitivities in each, (layers, parents); of a buffer there is none."""
    layers = tuple(dict.fromkeys(layer_of.values()))
    place = {layer: i for i, layer in enumerate(layers)}
    columns = []
    for own in parents:
        column = np.zeros(len(layers))
        for name, layer in layer_of.items():
            column[place[layer]] += own.get(name, 0.0)
        columns.append(column)
    return layers, np.stack(columns, axis=1)
