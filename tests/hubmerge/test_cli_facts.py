"""`hubmerge methods` and `hubmerge env`."""

from __future__ import annotations

import json
import platform

import pytest
from bad.models import hubmerge

from hubmerge.method import get_method, method_names
from hubmerge.version import __version__


def test_methods_lists_every_method_with_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert hubmerge("methods", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert tuple(rows) == method_names()
    bases = {"required": "required", "start": "required", "optional": "optional", "none": "optional"}
    assert {name: row["base"] for name, row in rows.items()} == {name: bases[get_method(name).base] for name in rows}
    assert {name: row["sparsify"] for name, row in rows.items() if row["sparsify"]} == {
        "ties": "magnitude", "dare_linear": "random", "dare_ties": "random", "della": "della", "della_linear": "della",
        "breadcrumbs": "breadcrumbs", "breadcrumbs_ties": "breadcrumbs",
    }  # fmt: skip
    assert [p["name"] for p in rows["dare_linear"]["parameters"]] == [
        "weight",
        "lambda",
        "normalize",
        "density",
        "rescale",
    ]
    assert hubmerge("methods", "--format", "quiet") == 0
    assert capsys.readouterr().out.split() == list(method_names())


@pytest.mark.parametrize("name", method_names())
def test_a_method_is_explained_with_formula_parameters_and_paper(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hubmerge("methods", name) == 0
    out = capsys.readouterr().out
    method = get_method(name)
    assert out.splitlines()[:2] == [f"{name} ({method.kind})", method.summary]
    for field, info in method.parameters.model_fields.items():
        assert method.parameters.alias(field) in out
        assert info.description
        assert info.description in out
    assert out.splitlines()[-1] == f"paper: {method.paper}"
    assert ("a preset: sparsify:" in out) == (method.before is not None)


def test_a_method_nobody_knows_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert hubmerge("methods", "task-arithmetic") == 1
    assert capsys.readouterr().err == (
        "error: unknown merge_method 'task-arithmetic' · merge_method · did you mean task_arithmetic?\n"
    )


def test_env_tells_versions_without_importing_what_it_tells_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert hubmerge("env", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["hubmerge"], facts["python"]) == (__version__, platform.python_version())
    assert {"torch", "transformers", "numba", "hub cache", "HF_HUB_OFFLINE"} <= set(facts)
    assert "not installed" not in facts.values()


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert hubmerge("--version") == 0
    assert capsys.readouterr().out == f"{__version__}\n"
