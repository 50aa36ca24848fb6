"""RegMean: worked by hand for two inputs, against numpy for a whole model, and where parents have other units."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from apart_models import batches, logits, model, reordered
from torch import nn

from hubmerge.heterogeneous import merge_models
from hubmerge.heterogeneous.maps import Selection
from hubmerge.heterogeneous.regmean import RegMean, regmean_layers
from hubmerge.symmetry.groups import Factor, Group, Kind, Role, SymmetrySpec, TensorSymmetry


class Line(nn.Module):
    """One linear layer of two inputs, from the weights given, and what it is run on: each model scales its own input."""

    def __init__(self, weight: list[list[float]], scale: list[float]) -> None:
        super().__init__()
        self.config = SimpleNamespace()
        self.scale = torch.tensor(scale)
        self.layer = nn.Linear(2, len(weight), bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor(weight))

    def forward(self, x: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.layer(x * self.scale))


def spec(outputs: int) -> SymmetrySpec:
    axes = (
        ((Factor("out", Role.WRITES, outputs),),),
        ((Factor("in", Role.READS, 2),),),
    )
    groups = {name: Group(name, name, Kind.PERMUTATION, size) for name, size in (("in", 2), ("out", outputs))}
    return SymmetrySpec(
        "toy", groups, {"layer.weight": TensorSymmetry("layer.weight", "layer.weight", "out <in", axes)}
    )


def merged(parents: list[Line], x: list[list[float]], maps: Any = None, **how: Any) -> list[list[float]]:
    outputs = 1 if maps is None else maps["out"][0].unit.size
    specs = [spec(len(parent.layer.weight)) for parent in parents]
    own = Line([[1.0, 1.0]] * outputs, [1.0, 1.0])
    given = RegMean(**{"non_diagonal": 1.0, "ridge": 1e-12, "follow": "all", **how})
    regmean_layers(own, parents, specs, maps or {}, [1.0] * len(parents), [{"x": torch.tensor(x)}], given)
    found: list[list[float]] = own.layer.weight.detach().double().tolist()
    return found


X = [[1.0, 0.0], [1.0, 2.0]]
LEFT, RIGHT = [[3.0, 0.0]], [[0.0, 6.0]]


def test_two_inputs_by_hand() -> None:
    # the left parent sees x: G = [[2, 2], [2, 4]], G w = (6, 6); the right one sees (x1, x2 / 2): G = [[2, 1], [1, 1]], G w = (6, 6)
    # [[4, 3], [3, 5]] w = (12, 12): w = (24, 12) / 11
    parents = [Line(LEFT, [1.0, 1.0]), Line(RIGHT, [1.0, 0.5])]
    assert merged(parents, X)[0] == pytest.approx([24 / 11, 12 / 11], rel=1e-6)


def test_without_products_of_two_inputs_each_is_a_mean_by_its_mean_square() -> None:
    # the mean of 3 and 0 by 2 and 2, and that of 0 and 6 by 4 and 1
    parents = [Line(LEFT, [1.0, 1.0]), Line(RIGHT, [1.0, 0.5])]
    assert merged(parents, X, non_diagonal=0.0)[0] == pytest.approx([1.5, 1.2], rel=1e-6)


def test_half_of_the_products_by_hand() -> None:
    # left [[2, 1], [1, 4]], G w = (6, 3); right [[2, .5], [.5, 1]], G w = (3, 6); [[4, 1.5], [1.5, 5]] w = (9, 9)
    parents = [Line(LEFT, [1.0, 1.0]), Line(RIGHT, [1.0, 0.5])]
    assert merged(parents, X, non_diagonal=0.5)[0] == pytest.approx([31.5 / 17.75, 22.5 / 17.75], rel=1e-6)


def test_the_ridge_holds_the_layer_at_the_weights_it_had() -> None:
    # mu = 2/9 of the mean of 4 and 5, which is 1: [[5, 3], [3, 6]] w = (12 + 1, 12 + 1) with the weights (1, 1) from before
    parents = [Line(LEFT, [1.0, 1.0]), Line(RIGHT, [1.0, 0.5])]
    assert merged(parents, X, ridge=2 / 9)[0] == pytest.approx([39 / 21, 26 / 21], rel=1e-6)


def test_an_output_that_one_parent_has_alone_keeps_its_weights_and_what_no_parent_joins_stays() -> None:
    maps = {"out": (Selection.of(np.array([0, -1, -1])), Selection.of(np.array([0, 1, -1])))}
    parents = [Line(LEFT, [1.0, 1.0]), Line([*RIGHT, [7.0, 8.0]], [1.0, 0.5])]
    found = merged(parents, X, maps)
    assert found[0] == pytest.approx([24 / 11, 12 / 11], rel=1e-6)
    assert found[1] == pytest.approx([7, 8], rel=1e-6)
    assert found[2] == [1, 1]


def test_inputs_in_another_order_are_brought_together_first() -> None:
    maps = {
        "in": (Selection.of(np.array([0, 1])), Selection.of(np.array([1, 0]))),
        "out": (Selection.of(np.array([0])),) * 2,
    }
    swapped = Line([[6.0, 0.0]], [0.5, 1.0])
    found = merged([Line(LEFT, [1.0, 1.0]), swapped], [[1.0, 1.0], [2.0, 2.0]], maps)
    # left sees (1, 1), (2, 2), the right one in the base's order (1, .5), (2, 1): [[10, 7.5], [7.5, 6.25]] w = (15 + 15, 15 + 7.5)
    assert found[0] == pytest.approx([3, 0.0], abs=1e-4)


def reference(parents: list[Any], layer: str, x: list[torch.Tensor], alpha: float, ridge: float) -> np.ndarray:
    """Equation 2 in plain numpy for a linear layer, the ridge towards the mean of the weights.  x: each parent's inputs, (rows, inputs)."""
    weights = [parent.get_submodule(layer).weight.detach().double().numpy().T for parent in parents]
    grams = []
    for each in x:
        gram = each.double().numpy().T @ each.double().numpy()
        grams.append(np.where(np.eye(len(gram)) > 0, gram, alpha * gram))
    total = sum(grams)
    mu = ridge * np.diag(total).mean()
    right = sum(gram @ weight for gram, weight in zip(grams, weights)) + mu * sum(weights) / len(weights)
    return np.linalg.inv(total + mu * np.eye(len(total))) @ right


@pytest.mark.parametrize(
    ("name", "layer"), [("vit", "vit.layers.1.mlp.fc2"), ("bert", "bert.encoder.layer.1.output.dense")]
)
def test_a_layer_of_a_transformer_agrees_with_numpy(name: str, layer: str) -> None:
    parents, data = [model(name, seed) for seed in (0, 1, 2)], batches(name)
    seen: list[list[torch.Tensor]] = [[] for _ in parents]
    for parent, rows in zip(parents, seen, strict=True):
        handle = parent.get_submodule(layer).register_forward_pre_hook(
            lambda _, given, rows=rows: rows.append(given[0])
        )
        for batch in data:
            logits(parent, batch)
        handle.remove()
    x = [torch.cat([each.reshape(-1, each.shape[-1]) for each in rows]) for rows in seen]
    labels = {"labels": "shared"} if name == "vit" else {}
    done = merge_models(
        parents, data, align="identity", fit="regmean", ridge=1e-2, follow="all", non_diagonal=0.7, **labels
    )
    found = done.model.get_submodule(layer)
    wanted = reference(parents, layer, x, 0.7, 1e-2)
    np.testing.assert_allclose(found.weight.detach().numpy().T, wanted, rtol=1e-4, atol=1e-5)
    biases = [parent.get_submodule(layer).bias.detach() for parent in parents]
    torch.testing.assert_close(found.bias.detach(), sum(biases) / 3)


@pytest.mark.parametrize("name", ["resnet basic", "vit", "gpt2", "t5"])
@pytest.mark.parametrize("follow", ["confident", "all"])
def test_a_model_and_itself_in_another_order_give_the_model(name: str, follow: Any) -> None:
    base, data = model(name, 0), batches(name, size=48)
    other, _ = reordered(base, 1)
    done = merge_models(
        [base, other], data, fit="regmean", follow=follow, without=(), renormalise=False,
        labels="shared" if name in {"resnet basic", "vit"} else None,
    )  # fmt: skip
    for key, values in base.state_dict().items():
        torch.testing.assert_close(done.model.state_dict()[key], values, rtol=1e-3, atol=1e-4)


def test_confident_parents_count_on_the_samples_they_are_sure_of() -> None:
    parents, data = [model("resnet basic", seed) for seed in (0, 1)], batches("resnet basic")
    with torch.no_grad():
        parents[0].classifier[1].weight *= 100  # sure of every sample, so that the layers are its own
        parents[1].classifier[1].weight *= 0
        parents[1].classifier[1].bias *= 0
    done = merge_models(parents, data, align="identity", fit="regmean", ridge=1e-6, renormalise=False, labels="shared")
    layer = "resnet.encoder.stages.0.layers.0.layer.0.convolution"
    torch.testing.assert_close(
        done.model.get_submodule(layer).weight, parents[0].get_submodule(layer).weight, rtol=1e-2, atol=1e-3
    )
