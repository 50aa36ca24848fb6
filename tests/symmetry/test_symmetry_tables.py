"""What holds for all symmetry tables as texts, and that the tiny models try every row of them."""

from __future__ import annotations

from functools import cache

import pytest
import symmetry_models
from symmetry_models import MODELS

from hubmerge.symmetry import Kind, Role, SymmetrySpec, spec_of
from hubmerge.symmetry.notation import parse_table
from zoo_index.families import FAMILIES

READ_BY_NOTHING = {
    "model.layers.{l}.self_attn.rotary_emb.inv_freq",
    "transformer.h.{l}.attn.bias",
    "transformer.h.{l}.attn.masked_bias",
    "bert.embeddings.position_ids",
    "roberta.embeddings.position_ids",
    "distilbert.embeddings.position_ids",
    "text_model.embeddings.position_ids",
    "vision_model.embeddings.position_ids",
    "transformer.decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
}
"""Buffers and leftovers of older files, which no model of today has."""


@cache
def _spec(name: str) -> SymmetrySpec:
    return spec_of(symmetry_models.model(name))


def test_every_architecture_with_a_table_is_among_the_models_that_are_proved() -> None:
    proved = {symmetry_models.model(name).config.model_type for name in MODELS}
    assert proved == {kind for family in FAMILIES for kind in family.model_types}
    assert {_spec(name).family for name in MODELS} == {family.name for family in FAMILIES}


def test_every_row_of_every_table_is_tried_by_a_model() -> None:
    rows = {(row.name, row.axes) for family in FAMILIES for row in parse_table(family).tensors}
    tried = {
        (tensor.row, None if tensor.written == "-" else tensor.written)
        for name in MODELS
        for tensor in _spec(name).tensors.values()
    }
    assert {row for row, _ in rows - tried} == READ_BY_NOTHING


def test_every_group_of_every_table_is_in_a_model() -> None:
    rows = {(row.name, row.kind) for family in FAMILIES for row in parse_table(family).groups}
    tried = {(group.row, group.kind) for name in MODELS for group in _spec(name).groups.values()}
    assert rows - tried == set()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_s_symmetries_are_consistent(name: str) -> None:
    spec = _spec(name)
    for tensor in spec.tensors.values():
        for axis in tensor.axes:
            for segment in axis:
                outside: set[str | None] = set()
                for factor in segment:
                    if factor.group is not None:
                        group = spec.groups[factor.group]
                        assert group.size == factor.size
                        # a gain that goes along cannot be mixed, nor lie along a group that only turns planes
                        assert factor.role is not Role.FOLLOWS or not group.kind.is_linear
                        assert group.outer in outside | {None} or group.kind is Kind.PLANE_SIGNS
                        assert group.norm in {None, "rms", "layer", "post", "batch"}
                    outside.add(factor.group)
    for group in spec.groups.values():
        if group.kind.is_symmetry:
            assert spec.members(group.name, Role.WRITES)
            assert spec.members(group.name, Role.READS)


@pytest.mark.parametrize("name", MODELS)
def test_a_tied_tensor_is_changed_alike_under_both_its_names(name: str) -> None:
    spec = _spec(name)
    for first, stored in spec.tied:
        assert first in spec.tensors  # a model in memory has both
        ours, theirs = spec.tensors[first].factors, spec.tensors[stored].factors
        assert [factor.group for factor in ours] == [factor.group for factor in theirs]
        assert all(spec.groups[str(factor.group)].kind.is_orthogonal for factor in ours)
