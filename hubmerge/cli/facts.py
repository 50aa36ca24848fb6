"""`hubmerge methods` and `hubmerge env`: what there is, and what it runs on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubmerge.cli import output
from hubmerge.cli.output import Format, FormatOption, JsonOption

if TYPE_CHECKING:
    from hubmerge.assemblies import Assembly
    from hubmerge.method_parameters import Parameters

__all__ = ["env", "methods"]


def methods(
    name: Annotated[
        str | None, typer.Argument(help="One method, to see all of it.", metavar="NAME", show_default=False)
    ] = None,
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """List the merge methods, or explain one: parameters, formula, paper."""
    from hubmerge.adapter_words import COMBINATIONS
    from hubmerge.assemblies import ASSEMBLIES
    from hubmerge.method import get_method, method_names

    if name is None:
        rows = [_facts(method) for method in method_names()]
        rows += [_assembly_facts(assembly) for assembly in ASSEMBLIES.values()]
        output.emit(
            format,
            json,
            data=lambda: rows,
            table=lambda: output.print_table(
                ("method", "base", "parameters", "what it does"),
                [
                    (row["name"], row["base"], ", ".join(p["name"] for p in row["parameters"]), row["summary"])
                    for row in rows
                ],
            ),
            quiet=lambda: [row["name"] for row in rows],
        )
        return
    if name in ASSEMBLIES:
        facts = _assembly_facts(ASSEMBLIES[name])
    elif name in COMBINATIONS and name not in method_names():
        facts = _combination_facts(name)
    else:
        facts = _facts(get_method(name).name)
    output.emit(
        format,
        json,
        data=lambda: facts,
        table=lambda: _print_method(facts),
        quiet=lambda: [p["name"] for p in facts["parameters"]],
    )


def _parameters(of: type[Parameters]) -> list[dict[str, Any]]:
    own = of.per_parent()
    return [
        {
            "name": of.alias(field),
            "scope": "model" if field in own else "merge",
            "default": None if info.is_required() else info.default,
            "required": info.is_required(),
            "description": info.description,
        }
        for field, info in of.model_fields.items()
    ]


def _assembly_facts(assembly: Assembly) -> dict[str, Any]:
    """What puts unlike models together, in the words of the methods on tensors, and its stages."""
    return {
        "name": assembly.name,
        "summary": assembly.summary,
        "kind": "assembly",
        "base": "required" if assembly.carries or assembly.takes == "layers" else "optional",
        "parents": list(assembly.parents),
        "sparsify": None,
        "preset": assembly.preset,
        "parameters": _parameters(assembly.parameters),
        "explanation": assembly.explanation,
        "needs": assembly.needs,
        "cost": assembly.cost,
        "paper": assembly.paper,
        "revision": assembly.revision,
    }


def _combination_facts(name: str) -> dict[str, Any]:
    """One of PEFT's combinations that is no method on tensors, in the words of the methods."""
    from hubmerge.adapter_words import Combination

    combination = Combination(name)
    return {
        "name": name,
        "summary": combination.summary,
        "kind": "combination of adapters",
        "base": "optional",
        "parents": list(combination.parents),
        "sparsify": None,
        "parameters": _parameters(combination.parameters),
        "explanation": f"PEFT's combination of LoRA adapters, with PEFT's numbers: {combination.summary}.",
        "needs": "LoRA adapters of one base, in a recipe with output: {kind: adapter} or basis: none, or in merge_adapters",
        "paper": combination.paper,
        "revision": combination.revision,
    }


def _facts(name: str) -> dict[str, Any]:
    from hubmerge.method import get_method
    from hubmerge.method_words import cost_of, inners_of, needs_of

    method = get_method(name)
    fewest, most = method.parents
    return {
        "name": name,
        "summary": method.summary,
        "kind": method.kind,
        "base": "optional" if method.base in {"none", "optional"} else "required",
        "parents": [fewest, most],
        "sparsify": None if method.before is None else method.before.name,
        "parameters": _parameters(method.parameters),
        "inner": list(inners_of(method)),
        "explanation": method.explanation,
        "needs": needs_of(method),
        "cost": cost_of(method),
        "paper": method.paper,
        "revision": method.revision,
    }


def _print_method(facts: dict[str, Any]) -> None:
    output.say(f"{facts['name']} ({facts['kind']})")
    output.say(facts["explanation"])
    output.say()
    if facts["parameters"]:
        output.print_table(
            ("parameter", "of each", "default", "meaning"),
            [
                (p["name"], p["scope"], "required" if p["required"] else p["default"], p["description"])
                for p in facts["parameters"]
            ],
        )
    else:
        output.say("it has no parameters")
    for line in facts.get("inner", ()):
        output.say(line)
    output.say()
    if facts["sparsify"]:
        output.say(
            f"a preset: sparsify: {facts['sparsify']} is its stage; in a recipe any stage goes before any rule on deltas"
        )
    if facts.get("preset"):
        stages = ", ".join(f"{key}: {value}" for key, value in facts["preset"].items())
        output.say(f"a preset of stages: {stages}; a recipe may choose others, and names its calibration data")
    for what in ("needs", "cost"):
        if what in facts:
            output.say(f"{what}: {facts[what]}")
    output.say(f"paper: {facts['paper']}")


_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "huggingface_hub",
    "safetensors",
    "numba",
    "numpy",
    "duckdb",
    "datasets",
    "evaluate",
    "accelerate",
)


def env(
    format: FormatOption = Format.table,  # noqa: A002 - the option's own name
    json: JsonOption = False,
) -> None:
    """Print versions, machine and folders, for a report of a fault."""
    facts = dict(_environment())
    output.emit(
        format,
        json,
        data=lambda: facts,
        table=lambda: output.print_table(("what", "value"), facts.items()),
        quiet=lambda: [f"{k}={v}" for k, v in facts.items()],
    )


def _environment() -> Iterable[tuple[str, str]]:
    import os
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from hubmerge.version import __version__
    from zoo_index.hub import hub_cache_folder

    yield "hubmerge", __version__
    yield "python", platform.python_version()
    yield "platform", platform.platform()
    yield "cores", str(os.cpu_count())
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed"
    yield "hub cache", str(hub_cache_folder())
    yield "HF_HUB_OFFLINE", os.environ.get("HF_HUB_OFFLINE", "not set")
