"""Parameters of a recipe: whose they are, what they may be, which one counts for a tensor."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubmerge.method import get_method, method_names, parameter_values
from hubmerge.parameters import ParameterScopes, known_parameters
from hubmerge.sections import read_sections


def scopes(method: str, models: list[dict[str, Any]], **shared: Any) -> ParameterScopes:
    rows = [{"model": f"m{i}", "parameters": own} for i, own in enumerate(models)]
    (section,), faults, _, _ = read_sections(get_method(method), {"models": rows, "parameters": shared})
    assert faults == ()
    return section.scopes


def test_a_models_own_value_comes_first_then_the_shared_one_then_the_default() -> None:
    read = scopes("ties", [{"weight": 0.2}, {}], weight=0.5, density=[0.2, 0.4])
    method = get_method("ties")
    rows = [read.resolve(method, f"m{i}", "w", 0.5) for i in range(2)]
    assert rows == [{"weight": 0.2, "density": pytest.approx(0.3)}, {"weight": 0.5, "density": pytest.approx(0.3)}]
    assert parameter_values(method, rows) == {
        "weight": (0.2, 0.5),
        "density": (pytest.approx(0.3), pytest.approx(0.3)),
        "lambda_": 1.0,
        "normalize": True,
        "elect": "weighted",
        "divide": "weights",
        "undecided": "plus",
        "rescale": "none",
        "trim_scope": "tensor",
    }


def test_a_filter_that_does_not_match_hands_over_to_the_next_scope() -> None:
    read = scopes("linear", [{"weight": {"filter": "mlp", "value": 3}}], weight=[{"filter": "norm", "value": 2}])
    method = get_method("linear")
    found = [read.resolve(method, "m0", name, 0.0) for name in ("a.mlp.w", "norm.w", "head.w")]
    assert found == [{"weight": 3.0}, {"weight": 2.0}, {}]


def test_a_value_of_none_is_no_value() -> None:
    read = scopes("linear", [{"weight": None}], weight=2)
    assert read.resolve(get_method("linear"), "m0", "w", 0.0) == {"weight": 2.0}


def test_constants_and_gradients_are_told_apart_over_all_scopes() -> None:
    assert scopes("linear", [{"weight": 1}, {"weight": [2]}]).is_constant
    assert not scopes("linear", [{"weight": 1}, {"weight": [2, 3]}]).is_constant
    assert scopes("linear", [{}], weight=[1, 2]).has_gradient
    assert [name for name, _ in scopes("ties", [{"density": 0.5}], weight=1).settings] == ["weight", "density"]


def test_every_parameter_of_every_method_is_known_and_so_are_mergekits() -> None:
    own = {get_method(n).parameters.alias(f) for n in method_names() for f in get_method(n).parameters.model_fields}
    assert own | {"epsilon", "gamma", "int8_mask", "rescale", "select_topk", "tol"} <= known_parameters()
    assert "wieght" not in known_parameters()


@given(st.dictionaries(st.text(max_size=6) | st.sampled_from(["weight", "density", "lambda", "normalize"]),
                       st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
                                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                                        st.sampled_from(["filter", "value", "x"]), inner, max_size=3)), max_size=4))  # fmt: skip
def test_any_parameters_are_read_refused_or_ignored_and_none_twice(given_: dict[str, Any]) -> None:
    recipe = {"models": [{"model": "m", "parameters": given_}]}
    (section,), faults, warnings, _ = read_sections(get_method("ties"), recipe)
    warnings = tuple(warning for warning in warnings if " is an empty list" not in warning)
    told = [fault.where.removeprefix("models[0].parameters.") for fault in faults]
    told += [warning.removeprefix("models[0].parameters.").partition(" is ignored")[0] for warning in warnings]
    own = dict(section.scopes.models)["m"]
    missing = {name for name, value in given_.items() if value is None} & {"weight", "density"}
    assert sorted([*told, *own, *missing]) == sorted(given_)
