"""`hubmerge methods` and `hubmerge env`."""

from __future__ import annotations

import json
import platform

import pytest
from bad.models import hubmerge

from hubmerge.assemblies import ASSEMBLIES
from hubmerge.method import get_method, method_names
from hubmerge.version import __version__


def test_methods_lists_every_method_with_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert hubmerge("methods", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert tuple(rows) == (*method_names(), *ASSEMBLIES)
    assert (rows["pleas"]["kind"], rows["pleas"]["base"], rows["pleas"]["parents"]) == (
        "assembly",
        "optional",
        [2, None],
    )
    rows = {name: row for name, row in rows.items() if name not in ASSEMBLIES}
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
    assert capsys.readouterr().out.split() == [*method_names(), *ASSEMBLIES]


def test_what_puts_unlike_models_together_is_explained_with_its_stages(capsys: pytest.CaptureFixture[str]) -> None:
    assert hubmerge("methods", "pleas") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "pleas (assembly)"
    assert lines[1] == ASSEMBLIES["pleas"].summary
    assert lines[-4] == (
        "a preset of stages: align: {method: activations, widths: base}, fit: {method: least_squares, inputs: auto, ridge: auto, follow: confident}; "
        "a recipe may choose others, and names its calibration data"
    )
    assert lines[-3:] == [
        "needs: 2 or more models of an architecture that has a symmetry table; data without labels, but for align: weights with fit: none",
        "cost: every layer is solved once, and the models are run on the calibration data; `hubmerge plan` says how much memory that takes",
        "paper: Nasery et al. 2024, PLeaS, arXiv:2407.02447",
    ]


def test_a_method_without_parameters_says_so_and_every_method_what_it_needs_and_costs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert hubmerge("methods", "arcee_fusion") == 0
    assert "it has no parameters" in capsys.readouterr().out.splitlines()
    for name in (*method_names(), *ASSEMBLIES):
        assert hubmerge("methods", name) == 0
        starts = {line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()}
        assert {"needs", "cost", "paper"} <= starts, name


def test_parameters_of_other_inner_methods_stand_below_with_their_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert hubmerge("methods", "adamerging") == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("with inner: ")] == [
        "with inner: ties also elect (plain), divide (weights), undecided (plus), density (0.2), rescale (none), trim_scope (model)"
    ]
    assert hubmerge("methods", "awd", "--json") == 0
    assert json.loads(capsys.readouterr().out)["inner"] == [
        "with inner: adamerging also granularity (layer), init (0.3), steps (500), learning_rate (0.001), batch (16), clamp (true), heads (auto)"
    ]


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


def test_a_method_says_what_it_needs_and_costs(capsys: pytest.CaptureFixture[str]) -> None:
    told = {}
    for name in ("slerp", "iso_c", "sens_merging"):
        assert hubmerge("methods", name) == 0
        told[name] = capsys.readouterr().out.splitlines()[-3:-1]
    assert told["slerp"] == [
        "needs: a base model, which is one of the parents; 2 parents",
        "cost: every tensor read 2 times, by default; a chunk of it in memory",
    ]
    assert told["iso_c"][1] == (
        "cost: every tensor read once; one whole matrix of all parents in memory for each worker"
    )
    needs, cost = told["sens_merging"]
    assert (
        needs == "needs: a base model; 1 or more parents; data of each parent's own task, with labels for classifiers"
    )
    assert cost.endswith(
        "; before that every parent is run on its own data, forwards and backwards, and on the others' forwards"
    )


def test_a_combination_of_peft_is_explained_with_the_parameters_that_it_reads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert hubmerge("methods", "cat", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kind"], [p["name"] for p in facts["parameters"]]) == ("combination of adapters", ["weight"])
    assert facts["explanation"] == (
        "PEFT's combination of LoRA adapters, with PEFT's numbers: the factors one after the other: the exact weighted sum, at the sum of "
        "the ranks."
    )
    assert hubmerge("methods", "ties_svd", "--format", "quiet") == 0
    assert capsys.readouterr().out.split() == ["weight", "density", "majority_sign_method"]


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
