"""Every way to match: a reordered copy is the original again, and what does not go together is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from apart_models import CONFIGS, batches, model, reordered

from hubmerge.errors import PlanError
from hubmerge.heterogeneous import merge_models

PLAIN: dict[str, Any] = {"fit": None, "renormalise": False, "labels": "shared"}
WAYS: dict[str, tuple[dict[str, Any], float]] = {
    "balanced": ({"align": "balanced"}, 0),
    "zip": ({"align": "zip"}, 0),
    "optimal_transport": ({"align": "optimal_transport", "regularisation": 0.001}, 1e-4),
    "optimal_transport exactly": ({"align": "optimal_transport", "regularisation": 0}, 0),
    "fold": ({"widths": "fold"}, 0),
}


def farthest(found: Any, wanted: Any) -> float:
    """The largest difference of any entry."""
    own = found.state_dict()
    return max(
        float((own[name].double() - values.double()).abs().max()) for name, values in wanted.state_dict().items()
    )


@pytest.mark.parametrize(
    ("way", "name"),
    [
        (way, name)
        for way in WAYS
        for name in (CONFIGS if way in {"balanced", "zip"} else ("resnet basic", "vit", "llama"))
    ],
)
def test_a_model_merged_with_itself_in_another_order_is_itself(way: str, name: str) -> None:
    arguments, tolerance = WAYS[way]
    base = model(name, 0)
    other, _ = reordered(base, 1)
    assert farthest(other, base) > 0.1
    done = merge_models([base, other], batches(name), without=(), **arguments, **PLAIN)
    assert farthest(done.model, base) <= tolerance


@pytest.mark.parametrize("way", WAYS)
def test_three_orders_of_one_model_are_one(way: str) -> None:
    arguments, tolerance = WAYS[way]
    base = model("resnet basic", 0)
    others = [reordered(base, seed)[0] for seed in (1, 2)]
    done = merge_models([base, *others], batches("resnet basic"), **arguments, **PLAIN)
    assert farthest(done.model, base) <= max(tolerance, 1e-6)  # thirds of a number do not add up to it


@pytest.mark.parametrize("way", WAYS)
def test_layers_are_fitted_on_every_map(way: str) -> None:
    arguments = {**WAYS[way][0]} | ({"regularisation": 0.03} if way == "optimal_transport" else {})
    parents, data = [model("vit", 0), model("vit", 1, intermediate_size=32)], batches("vit")
    plain = merge_models(parents, data, labels="shared", fit=None, **arguments)
    done = merge_models(parents, data, labels="shared", **arguments)
    assert farthest(done.model, plain.model) > 1e-3
    assert all(torch.isfinite(values).all() for values in done.model.state_dict().values())
    assert done.report == plain.report


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"balance": 0.5}, "balance is of no use with align: activations · balance · remove it, or write balanced"),
        ({"align": "balanced", "regularisation": 0.1}, ("regularisation is of no use with align: balanced · "
         "regularisation · remove it, or write optimal_transport")),
        ({"align": "balanced", "balance": 1.5}, "balance must be from 0 to 1, got 1.5 · balance · see docs/pleas.md"),
        ({"align": "optimal_transport", "regularisation": -1.0},
         "regularisation must be 0 or more, got -1 · regularisation · see docs/pleas.md"),
        ({"align": "zip", "min_similarity": 0.2}, ("align: zip contracts units until the width is reached, and leaves no "
         "pair unmerged for being unlike · min_similarity · remove it")),
        ({"align": "zip", "widths": "fold"}, ("align: zip contracts units until the width is reached: there is nothing left "
         "to fold · widths · write widths: base")),
        ({"align": "optimal_transport", "widths": "union"}, ("align: optimal_transport carries every unit to the base "
         "model's: none stays apart · widths · write widths: base, or align: zip")),
        ({"align": "weights", "widths": "fold"}, ("align: weights is for models of one width, where every unit has its "
         "partner · widths · write align: activations or align: balanced, or widths: base")),
        ({"widths": "fold", "ratio": 0.5}, "a budget or a ratio needs widths: union · align · write widths: union"),
        ({"align": "zip", "batches": ()},
         ('align="zip" needs calibration data, and there are no batches · batches · give batches, or align="weights", '
         "fit=None, renormalise=False, which need none")),
    ],
)  # fmt: skip
def test_choices_that_do_not_go_together_are_refused(arguments: dict[str, Any], fault: str) -> None:
    given = {"batches": batches("vit"), "labels": "shared", "fit": None, **arguments}
    with pytest.raises(PlanError) as refused:
        merge_models([model("vit", seed) for seed in (0, 1)], given.pop("batches"), **given)
    assert str(refused.value) == fault
