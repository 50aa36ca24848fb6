"""Similarities of weights and activations in balance: by hand, and that weights decide where activations say nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from apart_models import batches, model, reordered

from hubmerge.heterogeneous import merge_models
from hubmerge.heterogeneous.activations import Correlation
from hubmerge.heterogeneous.balanced import balanced_matches, blended
from hubmerge.heterogeneous.maps import Selection
from hubmerge.heterogeneous.weight_similarity import weight_similarity
from hubmerge.symmetry import Group, Kind, SymmetrySpec
from hubmerge.symmetry.groups import Axis, Factor, Role, TensorSymmetry


def axis(group: str | None, size: int, role: Role = Role.WRITES) -> Axis:
    return ((Factor(group, role, size),),)


def spec(units: int = 3, kind: Kind = Kind.PERMUTATION) -> SymmetrySpec:
    """Two inputs, f, g, one output; a gain behind f, and the running mean of a norm."""
    tensors = {
        "up": (axis("f", units), axis(None, 2)),
        "gain": (axis("f", units, Role.FOLLOWS),),
        "across": (axis("g", 2), axis("f", units, Role.READS)),
        "norm.running_mean": (axis("f", units),),
    }
    groups = {"f": Group("f", "f", kind, units), "g": Group("g", "g", Kind.PERMUTATION, 2)}
    return SymmetrySpec("toy", groups, {name: TensorSymmetry(name, name, "", axes) for name, axes in tensors.items()})


BASE = {
    "up": torch.tensor([[1.0, 0], [0, 1], [0, 0]]), "gain": torch.tensor([0.0, 0, 1]),
    "across": torch.tensor([[0.0, 2, 0], [1, 0, 0]]), "norm.running_mean": torch.tensor([9.0, 9, 9]),
}  # fmt: skip
OTHER = {
    "up": torch.tensor([[0.0, 1], [0, 0], [3, 0]]), "gain": torch.tensor([0.0, 2, 0]),
    "across": torch.tensor([[0.0, 0, 3], [2, 0, 0]]), "norm.running_mean": torch.tensor([-9.0, 9, 0]),
}  # fmt: skip
SWAPPED = {"g": (Selection.of(np.array([0, 1])), Selection.of(np.array([1, 0])))}


def test_cosines_are_those_of_all_that_a_unit_is_connected_with_under_the_match_of_the_others() -> None:
    # the base's units of f: (1, 0; 0; 0, 1), (0, 1; 0; 2, 0), (0, 0; 1; 0, 0); the other's with g swapped: (0, 1; 0; 2, 0),
    # (0, 0; 2; 0, 0), (3, 0; 0; 0, 3)
    found = weight_similarity([spec()] * 2, [BASE, OTHER], SWAPPED, "f").plain
    np.testing.assert_allclose(found, [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-12)
    # as g stands: the other's units end on (0, 2), (0, 0), (3, 0)
    found = weight_similarity([spec()] * 2, [BASE, OTHER], {}, "f").plain
    np.testing.assert_allclose(found, [[2 / 10**0.5, 0, 3 / 36**0.5], [1 / 5, 0, 6 / 90**0.5], [0, 1, 0]], atol=1e-12)


def test_a_weight_to_a_unit_that_the_base_has_none_for_is_unlike() -> None:
    halved = {"g": (Selection.of(np.array([0, 1])), Selection.of(np.array([1, -1])))}
    found = weight_similarity([spec()] * 2, [BASE, OTHER], halved, "f").plain
    assert found[0, 2] == pytest.approx(
        3 / (2**0.5 * 18**0.5)
    )  # without its weight of 3, which still counts in its length


def test_gains_have_no_say_where_signs_may_change() -> None:
    found = weight_similarity([spec(kind=Kind.SIGNED)] * 2, [BASE, OTHER], SWAPPED, "f").plain
    assert found[2].tolist() == [0, 0, 0]


def test_the_balance_decides_between_both() -> None:
    seen = {
        "f": Correlation(np.array([[0.8, 0, 0], [0, 0.6, 0], [0, 0, 0.6]]), {}),
        "g": Correlation(np.eye(2)[::-1].copy(), {}),
    }
    for balance, partner, similarity in (
        (0.0, [0, 1, 2], [0.8, 0.6, 0.6]),
        (0.5, [2, 0, 1], [0.5, 0.5, 0.5]),  # 1.5 against .4 + .3 + .3
        (1.0, [2, 0, 1], [1.0, 1.0, 1.0]),
    ):
        found = balanced_matches([spec()] * 2, [BASE, OTHER], seen, balance=balance)
        assert found["f"].partner.tolist() == partner
        assert found["f"].similarity.tolist() == pytest.approx(similarity)
        assert found["g"].partner.tolist() == [1, 0]


def test_what_one_of_both_does_not_tell_of_is_the_others() -> None:
    inner = np.ones((1, 1, 1, 1))
    weights = Correlation(np.array([[0.5]]), {"value": inner}, {})
    activations = Correlation(np.zeros((1, 1)), {"value": 0.2 * inner, "qk": 0.4 * inner}, {})
    found = blended(weights, activations, 0.25)
    assert found.plain.tolist() == [[0.5]]
    assert found.nested["value"].item() == pytest.approx(0.25 + 0.75 * 0.2)
    assert found.nested["qk"].item() == pytest.approx(0.4)


def test_weights_tell_units_apart_that_do_nothing_on_the_data() -> None:
    base = model("vit", 0, hidden_act="relu")
    with torch.no_grad():
        for layer in base.vit.layers:
            layer.mlp.fc1.bias[:6] = -1e3  # never above zero, whatever comes in
    other, _ = reordered(base, 1)
    arguments = {"labels": "shared", "fit": None, "without": ()}
    done = merge_models([base, other], batches("vit"), align="balanced", **arguments)
    own = done.model.state_dict()
    assert [name for name, values in base.state_dict().items() if not torch.equal(own[name], values)] == []
    blind = merge_models([base, other], batches("vit"), **arguments).model.state_dict()
    assert [name for name, values in base.state_dict().items() if not torch.equal(blind[name], values)] != []


def test_models_of_other_widths_are_balanced_too() -> None:
    parents = [model("resnet basic", 0), model("resnet basic", 1, embedding_size=12, hidden_sizes=[12, 18])]
    done = merge_models(
        parents, batches("resnet basic"), labels="shared", fit=None, align="balanced", min_similarity=-1.0
    )
    assert done.report.groups["res1"].matched == (8,)
    assert all(torch.isfinite(values).all() for values in done.model.state_dict().values())
