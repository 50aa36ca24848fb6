"""Writes down what mergekit makes of the recipes in tests/mergekit/recipes: the numbers that hubmerge is held to.

    .venv/bin/python benchmarks/parity/generate.py --mergekit OTHER_VENV [NAME ...]

mergekit computes in `dtype` and rounds at every step; it is asked for float32 and for the type that the recipe wants written,
which is what hubmerge does.  The ends of gradients are spelled out by hubmerge's rule (final norm and head take the last value),
so that they can be compared too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(TESTS / "hubmerge"), str(TESTS / "mergekit")]

from parity_models import MODELS, write_models  # noqa: E402 - they lie beside the tests
from parity_records import record  # noqa: E402

RECIPES, EXPECTED = TESTS / "mergekit" / "recipes", TESTS / "mergekit" / "expected"
AFTER = ("lm_head", "model.norm", "ln_f", "pooler", "classifier")
"""Parts of the names of tensors that lie behind the layers."""
RANDOM = ("dare_linear", "dare_ties", "della", "della_linear")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = os.environ.get("HUBMERGE_BENCH_MERGEKIT")
    parser.add_argument(
        "--mergekit", default=known, required=known is None, help="a virtual environment with mergekit 0.1.5"
    )
    parser.add_argument("names", nargs="*", help="recipes without .yaml; default: all")
    chosen = parser.parse_args()
    names = chosen.names or sorted(path.stem for path in RECIPES.glob("*.yaml"))
    EXPECTED.mkdir(exist_ok=True)
    with TemporaryDirectory() as place:
        faults = generate(names, Path(place), str(Path(chosen.mergekit).absolute() / "bin" / "python"))
    for name, fault in faults.items():
        print(f"{name}: {fault}")
    print(f"{len(names) - len(faults)} written, {len(faults)} failed")
    sys.exit(bool(faults))


def generate(names: list[str], place: Path, mergekit: str) -> dict[str, str]:
    """Write the records of `names`; the errors of those that mergekit does not merge.  mergekit: its environment's Python."""
    write_models(place)
    asked = [yaml.safe_load((RECIPES / f"{name}.yaml").read_text()) for name in names]
    jobs = [
        {"config": as_asked(recipe), "out": str(place / "out" / name), "cache": str(place / "lora")}
        for name, recipe in zip(names, asked, strict=True)
    ]
    outcomes = run(mergekit, jobs, place)
    for name, recipe, fault in zip(names, asked, outcomes, strict=True):
        if fault is None:
            base = place / recipe["base_model"] if recipe["merge_method"] in RANDOM else None
            (EXPECTED / f"{name}.json").write_text(written(record(place / "out" / name, base)))
        shutil.rmtree(place / "out" / name, ignore_errors=True)
    return {name: fault for name, fault in zip(names, outcomes, strict=True) if fault is not None}


def written(merged: dict[str, Any]) -> str:
    """A record as JSON, a line for every tensor, so that a difference shows which."""
    rows = [f"{json.dumps(name)}: {json.dumps(row, separators=(',', ':'))}" for name, row in merged["tensors"].items()]
    head = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in merged.items() if key != "tensors"]
    return "{" + ",\n".join([*head, '"tensors": {\n' + ",\n".join(rows) + "}"]) + "}\n"


def run(mergekit: str, jobs: list[dict[str, Any]], place: Path) -> list[str | None]:
    # Without a fixed address space mergekit's donor of config and tokenizer changes from run to run.
    fixed = ["setarch", platform.machine(), "-R"] if shutil.which("setarch") else []
    ended = subprocess.run(
        [*fixed, mergekit, str(Path(__file__).with_name("run_mergekit.py"))],
        input=json.dumps(jobs),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1"},
    )
    outcomes: list[str | None] = json.loads(ended.stdout)
    return outcomes


def as_asked(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe as mergekit is asked for it: computed in float32, written in the wanted type, the ends spelled out."""
    wanted = recipe.get("out_dtype") or recipe.get("dtype") or stored_type(recipe)
    return {**with_ends(recipe), "dtype": "float32", "out_dtype": wanted}


def stored_type(recipe: Any) -> str | None:
    """The type that all models of the recipe are stored in, None when there are several."""
    text = json.dumps(recipe)
    kinds = {model.stored for name, model in MODELS.items() if f'"./{name}"' in text}
    return kinds.pop() if len(kinds) == 1 else None


def with_ends(part: Any, *, values: bool = False) -> Any:
    """`part` with every gradient under a `parameters` key followed to its end by what lies behind the layers."""
    if isinstance(part, dict):
        return {
            key: spelled(item) if values else with_ends(item, values=key == "parameters") for key, item in part.items()
        }
    return [with_ends(item) for item in part] if isinstance(part, list) else part


def spelled(setting: Any) -> Any:
    """One parameter's value, with filters for the final norm and the head before the gradient that they end."""
    rows = setting if isinstance(setting, list) else [setting]
    if not any(isinstance(item, dict) for item in rows):
        rows = [{"value": setting}] if isinstance(setting, list) and setting else []
    found = []
    for row in rows:
        is_open = row.get("filter") in {None, "*"} and isinstance(row["value"], list)
        found += [{"filter": part, "value": row["value"][-1]} for part in AFTER] if is_open else []
        found.append(row)
    return found or setting


if __name__ == "__main__":
    main()
