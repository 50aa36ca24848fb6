"""A model with its rows in the base's order: embeddings, heads and their biases, without what the base lacks."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.maps import GroupMap, Maps, Selection, encoded_axes
from hubmerge.symmetry.groups import Kind, SymmetrySpec
from hubmerge.symmetry.verify import spec_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Rows", "in_base_vocabulary", "token_groups", "with_other_rows", "with_rows_of"]

Rows = NDArray[np.int64]
"""For every row of the base's embeddings the other model's, -1 for none."""


def token_groups(spec: SymmetrySpec) -> tuple[str, ...]:
    """The groups that are rows of tokens."""
    return tuple(name for name, group in spec.groups.items() if group.kind is Kind.TOKENS)


def in_base_vocabulary(model: Any, rows: Rows) -> Any:
    """A copy whose rows are the base's tokens, zeros where it has none.  Raises `PlanError` for a row that the model does not have."""
    spec = spec_of(model)
    groups = token_groups(spec)
    size = min((spec.groups[name].size for name in groups), default=0)
    if rows.max(initial=-1) >= size:
        raise PlanError(
            f"row {int(rows.max())} is named, and the model has {size}", where="tokens", hint="count rows from 0"
        )
    return with_other_rows(model, {name: Selection.of(rows) for name in groups}, {"vocab_size": len(rows)})


def with_other_rows(model: Any, parts: Mapping[str, GroupMap], fields: Mapping[str, Any]) -> Any:
    """A copy whose entries of some groups are mapped.  parts: by group.  fields: of the config, that say how many there are then."""
    import torch

    spec, config = spec_of(model), type(model.config).from_dict(_with_fields(model.config.to_dict(), fields))
    maps: Maps = {name: (part,) for name, part in parts.items()}
    state = {name: _mapped(spec, name, values, maps) for name, values in model.state_dict().items()}
    with torch.random.fork_rng(devices=[]):
        own = type(model)(config).to(next(iter(model.parameters())).dtype)
    buffers = {name: values for name, values in own.state_dict().items() if not values.is_floating_point()}
    own.load_state_dict({**state, **buffers})
    return own.eval()


def _with_fields(config: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The config with these values, each in the tower's part that states the field (`text_config`), or outside of the parts."""
    towers = {name: part for name, part in config.items() if name.endswith("_config") and isinstance(part, dict)}
    inside = {name: {field: fields[field] for field in fields.keys() & part.keys()} for name, part in towers.items()}
    outside = {field: value for field, value in fields.items() if not any(field in own for own in inside.values())}
    return {**config, **{name: {**part, **inside[name]} for name, part in towers.items()}, **outside}


def _mapped(spec: SymmetrySpec, name: str, values: Tensor, maps: Maps) -> Tensor:
    tensor = spec.tensors.get(dict(spec.tied).get(name, name))
    if tensor is None or not any(factor.group in maps for factor in tensor.factors):
        return values
    return encoded_axes(values, tensor.axes, maps, 0)


def with_rows_of(base: Any, model: Any, rows: Rows, groups: Collection[str]) -> Any:
    """A copy of a model with as many rows as the base that has the base's own where it had none, so that their mean is the base's.

    rows: -1 for those; groups: whose they are.
    """
    import torch

    spec, lacking = spec_of(model), torch.from_numpy(rows < 0)
    state, theirs = {name: values.clone() for name, values in model.state_dict().items()}, base.state_dict()
    for name, tensor in spec.tensors.items():
        for position, axis in enumerate(tensor.axes):
            if any(factor.group in groups for part in axis for factor in part):
                state[name].movedim(position, 0)[lacking] = theirs[name].movedim(position, 0)[lacking]
    own = copy.deepcopy(model)
    own.load_state_dict({**state, **{name: state[stored] for name, stored in spec.tied if name in state}})
    return own.eval()
