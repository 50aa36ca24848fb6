"""All units kept apart: the merge computes what every parent computes, whatever their widths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from apart_models import batches, logits, model

from hubmerge.heterogeneous import MergedModel, merge_models

NARROW: dict[str, Any] = {}
WIDE: dict[str, Any] = {"embedding_size": 12, "hidden_sizes": [12, 20]}
APART: dict[str, Any] = {"widths": "union", "ratio": 1.0, "labels": "disjoint", "fit": None, "renormalise": False}


def assert_both(done: MergedModel, parents: list[Any], name: str) -> None:
    """The merge's logits are the parents' side by side."""
    for batch in batches(name, count=2, seed=11):
        wanted = torch.cat([logits(parent, batch) for parent in parents], 1)
        found = logits(done.model, batch)
        assert found.shape == wanted.shape
        assert float((found - wanted).norm() / wanted.norm()) <= 4e-6


@pytest.mark.parametrize(
    "widths", [(NARROW, NARROW), (NARROW, WIDE), (WIDE, NARROW)], ids=["same", "wider", "narrower"]
)
@pytest.mark.parametrize("name", ["resnet basic", "resnet bottleneck"])
def test_all_units_apart_give_both_parents_answers(name: str, widths: tuple[dict[str, Any], ...]) -> None:
    parents = [model(name, seed, **fields) for seed, fields in enumerate(widths)]
    done = merge_models(parents, batches(name), **APART)
    assert done.model.config.hidden_sizes == [sum(each.config.hidden_sizes[i] for each in parents) for i in (0, 1)]
    assert_both(done, parents, name)
    assert {group.matched for group in done.report.groups.values()} == {(0,)}


def test_all_units_of_three_parents_apart_give_the_answers_of_all() -> None:
    parents = [model("resnet basic", seed, **fields) for seed, fields in enumerate((NARROW, WIDE, NARROW))]
    done = merge_models(parents, batches("resnet basic"), **APART)
    assert done.model.config.hidden_sizes == [8 + 12 + 8, 12 + 20 + 12]
    assert done.model.config.num_labels == 9
    assert_both(done, parents, "resnet basic")


def test_units_of_models_that_are_not_matched_are_kept_apart_too() -> None:
    parents = [model("resnet basic", seed) for seed in (0, 1)]
    done = merge_models(parents, [], align="identity", **APART)
    assert_both(done, parents, "resnet basic")


def test_the_labels_of_the_merge_are_those_of_the_parents_in_order() -> None:
    parents = [model("resnet basic", seed, num_labels=2, id2label={0: "a", 1: f"b{seed}"}) for seed in (0, 1)]
    done = merge_models(parents, batches("resnet basic"), **APART)
    assert done.model.config.id2label == {0: "a (1)", 1: "b0 (1)", 2: "a (2)", 3: "b1 (2)"}
    assert done.model.config.label2id == {"a (1)": 0, "b0 (1)": 1, "a (2)": 2, "b1 (2)": 3}
    assert_both(done, parents, "resnet basic")


def test_the_blocks_that_no_parent_has_are_zero_and_not_in_the_cost_without_them() -> None:
    parents = [model("resnet basic", seed) for seed in (0, 1)]
    done = merge_models(parents, batches("resnet basic"), **APART)
    kernel = done.model.state_dict()["resnet.encoder.stages.1.layers.1.layer.0.convolution.weight"]
    assert kernel.shape == (24, 24, 3, 3)
    assert kernel[:12, 12:].abs().max() == 0
    assert kernel[12:, :12].abs().max() == 0
    assert kernel[:12, :12].abs().min() > 0
    cost, blocks, base = done.report.cost, done.report.blocks, done.report.base_cost
    assert blocks.parameters == 2 * base.parameters  # every number of both parents
    assert cost.multiply_adds > blocks.multiply_adds == 2 * base.multiply_adds


def test_fitting_leaves_what_is_apart_apart() -> None:
    parents = [model("resnet basic", seed) for seed in (0, 1)]
    done = merge_models(parents, batches("resnet basic"), **{**APART, "fit": "merged"})
    kernel = done.model.state_dict()["resnet.encoder.stages.1.layers.1.layer.0.convolution.weight"]
    assert kernel[:12, 12:].abs().max() == 0
    assert kernel[12:, :12].abs().max() == 0


def test_transformers_keep_their_stream_and_what_is_inside_is_apart() -> None:
    parents = [model("vit", seed) for seed in (0, 1)]
    done = merge_models(parents, batches("vit"), **{**APART, "labels": "shared", "residual": "keep"})
    assert done.model.config.intermediate_size == 48
    assert done.model.config.hidden_size == 16
    own, first, second = done.model.state_dict(), *(parent.state_dict() for parent in parents)
    up, down = "vit.layers.0.mlp.fc1.weight", "vit.layers.0.mlp.fc2.weight"
    order = torch.cdist(own[up][24:], second[up]).argmin(1)  # the donor's units come in the order of their likeness
    assert sorted(order.tolist()) == list(range(24))
    assert torch.equal(own[up], torch.cat([first[up], second[up][order]]))  # both read all of the stream
    assert torch.equal(own[down], torch.cat([first[down] / 2, second[down][:, order] / 2], 1))
