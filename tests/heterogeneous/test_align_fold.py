"""Units without a partner join the most similar one, or are copied: by hand, and a narrower model whole inside a wider one."""

from __future__ import annotations

import numpy as np
import torch
from apart_models import batches, logits, model

from hubmerge.heterogeneous import merge_models
from hubmerge.heterogeneous.fold import folded
from hubmerge.heterogeneous.matching import GroupMatches

WORTH = np.array([[0.9, 0.1, 0.2, 0.6], [0.2, 0.8, 0.1, 0.1], [0.1, 0.2, 0.7, 0.4]])


def match(partner: list[int], worth: np.ndarray, signs: np.ndarray | None = None) -> GroupMatches:
    found = np.array(partner)
    alike = np.where(found >= 0, worth[np.arange(len(found)), np.maximum(found, 0)], 0)
    return GroupMatches(found, alike, np.ones(len(found)), {}, worth, signs)


def test_a_unit_too_many_joins_the_one_that_it_is_most_like() -> None:
    found = folded(match([0, 1, 2], WORTH), 0.5)
    assert found.encode.tolist() == [[0.5, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert found.decode.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_a_unit_too_many_that_is_like_none_is_left_out() -> None:
    found = folded(match([0, 1, 2], WORTH), 0.65)
    assert found.encode.tolist() == np.eye(3, 4).tolist()
    assert found.decode[3].tolist() == [0, 0, 0]


def test_a_unit_of_a_wider_base_takes_a_copy_and_both_copies_are_read_by_half() -> None:
    found = folded(match([0, 1, 2, -1], WORTH.T), 0.5)
    assert found.encode.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert found.decode.tolist() == [[0.5, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0]]


def test_a_pair_that_was_refused_is_no_pair_and_joins_others() -> None:
    worth = np.array([[0.9, 0.8, 0.0], [0.7, 0.4, 0.0], [0.0, 0.0, 0.1]])
    found = folded(match([0, -1, -1], worth), 0.6)  # the base's 1 and the other's 1 are alike by .4 only, 2 and 2 by .1
    assert found.encode.tolist() == [[0.5, 0.5, 0], [1, 0, 0], [0, 0, 0]]
    assert found.decode.tolist() == [[0.5, 0.5, 0], [1, 0, 0], [0, 0, 0]]


def test_opposite_units_join_with_their_sign() -> None:
    worth, signs = np.array([[0.9, 0.8]]), np.array([[1.0, -1.0]])
    found = folded(match([0], worth, signs), 0.0)
    assert found.encode.tolist() == [[0.5, -0.5]]
    assert found.decode.tolist() == [[1], [-1]]


def test_a_narrower_model_computes_in_a_wider_one_what_it_computed() -> None:
    base = model("resnet basic", 0, embedding_size=12, hidden_sizes=[12, 18])
    donor, data = model("resnet basic", 1), batches("resnet basic")
    arguments = {"labels": "shared", "weights": (0.0, 1.0), "fit": None, "renormalise": False, "min_similarity": -1.0}
    done = merge_models([base, donor], data, widths="fold", **arguments)
    assert done.model.config.hidden_sizes == [12, 18]
    torch.testing.assert_close(logits(done.model, data[0]), logits(donor, data[0]), rtol=1e-4, atol=1e-4)
    plain = merge_models([base, donor], data, widths="base", **arguments)
    for own, idle in ((done, 0), (plain, 4)):  # without copies a third of the stem's units have nothing to compute
        weight = own.model.resnet.embedder.embedder.convolution.weight
        assert int((weight == 0).flatten(1).all(1).sum()) == idle


def test_a_narrower_mlp_in_a_wider_one_too() -> None:
    base, donor, data = model("vit", 0, intermediate_size=32), model("vit", 1), batches("vit")
    done = merge_models(
        [base, donor], data, labels="shared", weights=(0.0, 1.0), fit=None, widths="fold", min_similarity=-1.0
    )
    assert done.model.config.intermediate_size == 32
    torch.testing.assert_close(logits(done.model, data[0]), logits(donor, data[0]), rtol=1e-4, atol=1e-4)
    told = done.report.groups["ff0"]
    assert (told.sizes, told.merged, told.matched) == ((32, 24), 32, (24,))
    assert told.largest_support == (1, 1)


def test_of_a_wider_donor_all_units_have_a_part() -> None:
    parents = [model("vit", 0), model("vit", 1, intermediate_size=40)]
    done = merge_models(parents, batches("vit"), labels="shared", fit=None, widths="fold", min_similarity=-1.0)
    told = done.report.groups["ff0"]
    assert (told.merged, told.matched) == (24, (40,))
    assert told.support[0] == 1
    assert told.largest_support[1] >= 2
    left = merge_models(parents, batches("vit"), labels="shared", fit=None, min_similarity=-1.0).report.groups["ff0"]
    assert left.matched == (24,)


def test_heads_are_not_folded() -> None:
    parents = [model("vit", 0), model("vit", 1)]
    done = merge_models(parents, batches("vit"), labels="shared", fit=None, widths="fold", min_similarity=0.9)
    plain = merge_models(parents, batches("vit"), labels="shared", fit=None, min_similarity=0.9)
    for name in ("vit.layers.0.attention.o_proj.weight", "vit.layers.0.attention.q_proj.weight"):
        assert torch.equal(done.model.state_dict()[name], plain.model.state_dict()[name])
