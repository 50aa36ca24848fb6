"""Models whose residual stream is turned: copies that compute the same in another basis."""

from __future__ import annotations

import copy
from typing import Any

import torch

from hubmerge.heterogeneous.stream_form import Absorbed, stream_of
from hubmerge.symmetry import spec_of
from hubmerge.symmetry.groups import Role


def turned(own: Any, seed: int) -> Any:
    """A float64 copy after a random rotation of its residual stream, with gains of 1; written without the code that finds it."""
    other = copy.deepcopy(own).double()
    spec = spec_of(other)
    stream = stream_of(spec)
    size = spec.groups[stream.group].size
    random = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(size, size, generator=random, dtype=torch.float64))[0]
    if stream.kind == "layer":  # the first axis of a basis that begins with the mean stays
        first = torch.linalg.qr(torch.cat([torch.ones(size, 1), torch.eye(size)[:, :-1]], 1).double())[0]
        inner = torch.eye(size, dtype=torch.float64)
        inner[1:, 1:] = torch.linalg.qr(torch.randn(size - 1, size - 1, generator=random, dtype=torch.float64))[0]
        rotation = first @ inner @ first.T
    state = dict(Absorbed(spec, stream, other.state_dict()))
    for name, tensor in spec.tensors.items():
        for position, axis in enumerate(tensor.axes):
            roles = {f.role for part in axis for f in part if f.group == stream.group}
            if roles & {Role.WRITES, Role.READS}:
                state[name] = (
                    (rotation @ state[name].movedim(position, 0).flatten(1))
                    .reshape(state[name].movedim(position, 0).shape)
                    .movedim(0, position)
                    if state[name].dim() > 1
                    else rotation @ state[name]
                )
    other.load_state_dict(state)
    return other
