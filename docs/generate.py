"""Writes the generated parts of the documentation: `python docs/generate.py`, or `--check` to name the stale pages.

A page is written by hand except for its regions, each between ``<!-- generated: NAME -->`` and ``<!-- end -->``.
What stands in a region comes from the code: the registry of methods, the recipe's schema, the commands' ``--help``, the
modules' docstrings; the figures of speed and accuracy from the JSON that the benchmarks left.
"""

# ruff: noqa: INP001 - a script beside the pages it writes, not a package

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hubmerge.assemblies import ASSEMBLIES, Assembly
from hubmerge.method import MergeMethod, get_method, method_names
from hubmerge.method_words import inners_of
from hubmerge.recipe import Recipe

__all__ = ["REGIONS", "ROOT", "command_helps", "main", "pages", "refreshed", "stale_pages"]

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("zoo_index", "hubmerge", "cards")
HELP_WIDTH = 78
"""What a terminal of 80 columns leaves for help texts."""

_REGION = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def pages() -> tuple[Path, ...]:
    """Every page of the documentation."""
    return (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


def refreshed(page: str) -> str:
    """The text of a page with every region written anew; KeyError for a region that nobody writes."""
    return _REGION.sub(lambda found: f"{found[1]}\n{REGIONS[found[2]]().strip()}\n\n{found[3]}", page)


def stale_pages() -> dict[Path, str]:
    """The pages that are not what they would be if they were written now, with that text."""
    texts = {page: page.read_text(encoding="utf-8") for page in pages()}
    fresh = {page: refreshed(text) for page, text in texts.items()}
    return {page: text for page, text in fresh.items() if text != texts[page]}


def main(arguments: Sequence[str]) -> int:
    """Write the stale pages, or only name them; 0 unless a check found some."""
    check = "--check" in arguments
    stale = stale_pages()
    for page, text in stale.items():
        name = page.relative_to(ROOT)
        sys.stdout.write(f"{name} is stale: run `make docs`\n" if check else f"{name} written\n")
        if not check:
            page.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _linked(paper: str) -> str:
    return _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", paper)


# --- methods -----------------------------------------------------------------------------------------------------

_BASE = {
    "required": "needed",
    "optional": "optional: with one, deltas are merged",
    "start": "needed, is a parent",
    "none": "not needed",
}


def _methods() -> tuple[MergeMethod, ...]:
    return tuple(get_method(name) for name in method_names())


def _parents(method: MergeMethod) -> str:
    count = _count(*method.parents)
    return f"{count} beside the base" if method.base == "required" else count


def _count(fewest: int, most: int | None) -> str:
    return f"{fewest} or more" if most is None else str(fewest) if fewest == most else f"{fewest} to {most}"


def method_names_line() -> str:
    """Every method by name, as links: the README's list."""
    return " · ".join(f"[`{name}`](docs/methods.md#{name})" for name in sorted((*method_names(), *ASSEMBLIES)))


def methods_page() -> str:
    """A section for each method: contract, parameters, paper; then one for each that puts unlike models together."""
    sections = [*map(_method_section, _methods()), *map(_assembly_section, ASSEMBLIES.values())]
    return "\n\n".join("\n\n".join(section) for section in sections)


def _base_of(assembly: Assembly) -> str:
    if assembly.takes == "layers":
        return "required: the model that stays what it is; it may be listed among the models, too"
    if assembly.carries:
        return "required: the model that is added to, none of the models"
    return "optional: one of the models, by default the first"


def _assembly_section(assembly: Assembly) -> Iterator[str]:
    yield f"## {assembly.name}"
    yield assembly.explanation
    facts = [
        ("parents", _count(*assembly.parents)),
        ("`base_model`", _base_of(assembly)),
        ("kind", f"assembly: see [{assembly.page}]({assembly.page})"),
        ("revision", assembly.revision),
        ("stages", ", ".join(f"`{key}: {value}`" for key, value in assembly.preset.items())),
        ("source", _linked(assembly.paper)),
    ]
    yield "\n".join(f"- {what}: {value}" for what, value in facts if value)
    yield _parameter_table(assembly)


def _method_section(method: MergeMethod) -> Iterator[str]:
    explanation = method.explanation
    yield f"## {method.name}"
    yield explanation
    facts = [
        ("parents", _parents(method)),
        ("`base_model`", _BASE[method.base]),
        ("kind", method.kind),
        ("revision", method.revision),
        ("source", _linked(method.paper)),
    ]
    yield "\n".join(f"- {what}: {value}" for what, value in facts)
    yield _parameter_table(method)
    inners = inners_of(method)
    if inners:
        yield "\n".join(f"- {line}" for line in inners)


def _parameter_table(method: MergeMethod | Assembly) -> str:
    rows = [
        (
            f"`{method.parameters.alias(field)}`",
            "each model or all" if field in method.parameters.per_parent() else "all",
            "must be given" if info.is_required() else f"`{_yaml(info.default)}`",
            _bounds(method, field),
            info.description or "",
        )
        for field, info in method.parameters.model_fields.items()
    ]
    return _table(("parameter", "given for", "default", "range", "meaning"), rows) if rows else "It has no parameters."


def _yaml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(f'{each:g}' for each in value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bounds(method: MergeMethod | Assembly, field: str) -> str:
    """The range of a parameter, from its JSON schema."""
    schema = method.parameters.model_json_schema(by_alias=False)["properties"][field]
    if schema.get("type") == "boolean":
        return "`true`, `false`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return "a list of numbers from 0 to 1"
    low = f"({schema['exclusiveMinimum']:g}" if "exclusiveMinimum" in schema else None
    low = f"[{schema['minimum']:g}" if "minimum" in schema else low
    high = f"{schema['exclusiveMaximum']:g})" if "exclusiveMaximum" in schema else None
    high = f"{schema['maximum']:g}]" if "maximum" in schema else high
    return f"{low or '(-inf'}, {high or 'inf)'}" if low or high else "any number"


# --- recipe ------------------------------------------------------------------------------------------------------


def recipe_keys() -> str:
    """The keys of a recipe, and those of its parts, from the JSON schema."""
    schema = Recipe.model_json_schema()
    parts = schema["$defs"]
    sections = [_keys(schema, parts)]
    places = {
        "ModelEntry": "Each entry of `models`",
        "Slice": "Each entry of `slices`",
        "SliceSource": "Each entry of `sources`",
        "Module": "Each module under `modules`",
        "Align": "Under `align`",
        "Fit": "Under `fit`",
        "Calibration": "Under `calibration`",
        "ZooQuery": "Under `zoo`",
        "Probe": "Under `probe`",
        "TaskData": "Under the `calibration` of a model",
        "TokenizerPart": "Under `tokenizer`",
        "Output": "Under `output`",
    }
    sections += [f"{where}:\n\n{_keys(parts[name], parts)}" for name, where in places.items()]
    return "\n\n".join(sections)


def _keys(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    rows = [
        (
            f"`{name}`",
            _type(field, parts),
            "must be given" if name in schema.get("required", ()) else _default(field),
            field.get("description", ""),
        )
        for name, field in schema["properties"].items()
    ]
    return _table(("key", "value", "default", "meaning"), rows)


def _type(field: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(choice, parts) for choice in field["anyOf"] if choice.get("type") != "null")
    if "$ref" in field:
        return "mapping, see below"
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        words = {"integer": "two whole numbers", "string": "list of text"}
        return words.get(field["items"].get("type"), "list, see below")
    words = {"object": "mapping", "string": "text", "integer": "whole number", "number": "number"}
    return {**words, "boolean": "true or false"}[str(field["type"])]


def _default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    return "-" if value is None or isinstance(value, dict | list) else f"`{_yaml(value)}`"


# --- command line ------------------------------------------------------------------------------------------------


def commands_page() -> str:
    """The ``--help`` of every command, a section for each."""
    return "\n\n".join(f"## {name}\n\n```text\n{text.strip()}\n```" for name, text in command_helps())


@cache
def command_helps() -> tuple[tuple[str, str], ...]:
    """Every command as it is typed, groups too, with its help text as a terminal of 80 columns shows it."""
    import typer

    from hubmerge.cli.app import app
    from hubmerge.cli.commands import register

    register(app)
    return tuple(_helps(typer.main.get_command(app), "hubmerge"))


def _helps(command: Any, name: str, parent: Any = None) -> Iterator[tuple[str, str]]:
    context = command.context_class(
        command, info_name=name.rpartition(" ")[2], parent=parent, terminal_width=HELP_WIDTH
    )
    yield name, command.get_help(context)
    for inner, child in getattr(command, "commands", {}).items():
        yield from _helps(child, f"{name} {inner}", context)


# --- modules -----------------------------------------------------------------------------------------------------


def modules_table() -> str:
    """Every module of the three packages with the first sentence of its docstring."""
    sections = []
    for package in PACKAGES:
        files = sorted((ROOT / package).rglob("*.py"), key=lambda path: (path.parent, path.name))
        rows = [(f"`{path.relative_to(ROOT)}`", sentence) for path in files if (sentence := _first_sentence(path))]
        sections.append(_table(("file", "what it knows"), rows))
    return "\n\n".join(sections)


def _first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[.])\s", paragraph)[0]


# --- benchmarks --------------------------------------------------------------------------------------------------

_BENCHMARKS = ("methods", "peers*", "start", "memory", "digests", "growth", "accuracy", "accuracy_random", "floor")


def benchmark_tables() -> str:
    """A section for each benchmark of the engine that has a result: what it shows, its table, and where it was measured."""
    folder = ROOT / "benchmarks" / "engine" / "results"
    files = [path for name in _BENCHMARKS for path in sorted(folder.glob(f"{name}.json"))]
    return "\n\n".join(_benchmark(json.loads(path.read_text(encoding="utf-8"))) for path in files)


_SETTINGS = (
    "goals",
    "more_seeds",
    "resnet_same",
    "resnet_domain",
    "resnet_split",
    "resnet_calibration",
    "resnet_proxy",
    "resnet_wider",
    "resnet_narrower",
    "resnet_deeper",
    "resnet_shallower",
    "resnet_regmean*",
    "vit_*",
    "aligned_same",
    "aligned_domain",
    "aligned_wider",
    "aligned_narrower",
    "bert_same",
    "bert_domain",
    "bert_split",
    "bert_calibration",
    "bert_wider",
    "language_reordered",
    "language_mal",
    "strangers_merged",
    "strangers_carried",
    "strangers_compared",
    "sizes",
    "sizes_smollm2",
    "sizes_carried",
    "sizes_batches",
    "sizes_units",
)


def heterogeneous_tables() -> str:
    """A section for what is to be reached, and for each setting of models trained apart that has a result."""
    folder = ROOT / "benchmarks" / "heterogeneous" / "results"
    files = [path for name in _SETTINGS for path in sorted(folder.glob(f"{name}.json"))]
    return "\n\n".join(_benchmark(json.loads(path.read_text(encoding="utf-8"))) for path in files)


_TEXT_TASKS = ("minilm_full", "minilm_lora", "smollm2_full", "smollm2_lora")


def text_task_tables() -> str:
    """A section for each model and kind of fine-tuning whose six experts were merged."""
    folder = ROOT / "benchmarks" / "text_tasks" / "results"
    files = [path for name in _TEXT_TASKS for path in sorted(folder.glob(f"{name}.json"))]
    return "\n\n".join(_benchmark(json.loads(path.read_text(encoding="utf-8"))) for path in files)


def _benchmark(result: Mapping[str, Any]) -> str:
    machine, load = result["machine"], result["load"]
    measured = (
        f"`{result['command']}`, {result['date']}, commit {result['commit']}: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gb']} GB, load {load[0]} before and {load[1]} after; Python {result['versions']['python']}, "
        f"numba {result['versions']['numba']}."
    )
    later = "".join(
        f" {len(added['lines'])} of the lines: {added['date']}, commit {added['commit']}, load {added['load'][1]} after."
        for added in result.get("added", ())
    )
    earlier = "".join(
        f" Seed {seed}: {len(lines)} of the lines {note['date']}, commit {note['commit']}, load {note['load'][1]} after."
        for note in result.get("kept", ())
        for seed, lines in note["lines"].items()
    )
    table = _table(result["columns"], result["rows"])
    return "\n\n".join((f"## {result['title']}", result["explanation"], table, measured + later + earlier))


def coefficient_table() -> str:
    """Specialists of digits merged by coefficients that are found first: a row for each way, a column for each setting."""
    path = ROOT / "benchmarks" / "coefficients" / "results" / "digits.json"
    settings = json.loads(path.read_text(encoding="utf-8"))["settings"]
    names = list(dict.fromkeys(name for own in settings.values() for name in own))
    rows = [[name, *(_accuracies(own.get(name, ())) for own in settings.values())] for name in names]
    return _table(["", *settings], rows)


def _accuracies(rows: Sequence[Mapping[str, Any]]) -> str:
    """The mean over seeds, and in brackets every seed's."""
    found = [row["accuracy"] for row in rows]
    each = ", ".join(f"{value:.3f}" for value in found)
    return f"{sum(found) / len(found):.3f} ({each})" if found else "-"


def sens_table() -> str:
    """Sens-Merging of specialists of digits: a row for each inner method and alignment, a column for each temperature; means over seeds."""
    path = ROOT / "benchmarks" / "coefficients" / "results" / "sens.json"
    measured = json.loads(path.read_text(encoding="utf-8"))["rows"]
    means = {
        name: (
            sum(sum(row["accuracies"]) for row in rows) / (2 * len(rows)),
            sum(row["largest"] for row in rows) / len(rows),
        )
        for name, rows in measured.items()
    }
    names = [name.removeprefix("sens_merging of ").split(", ") for name in means if name.startswith("sens_merging of ")]
    temperatures = list(dict.fromkeys(temperature for *_, temperature in names))
    lines = []
    for inner, alignment in dict.fromkeys((inner, alignment) for inner, alignment, _ in names):
        own = [means[f"sens_merging of {inner}, {alignment}, {temperature}"] for temperature in temperatures]
        cells = [f"{accuracy:.3f} ({largest:.2f})" for accuracy, largest in own]
        lines.append([f"`{inner}`, `{alignment}`", f"{means[inner][0]:.3f}", *cells])
    return _table(["inner, alignment", "inner method alone", *temperatures], lines)


REGIONS: Mapping[str, Callable[[], str]] = {
    "method-names": method_names_line,
    "methods": methods_page,
    "recipe-keys": recipe_keys,
    "commands": commands_page,
    "modules": modules_table,
    "benchmarks": benchmark_tables,
    "heterogeneous": heterogeneous_tables,
    "text-tasks": text_task_tables,
    "coefficients": coefficient_table,
    "sens-merging": sens_table,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
