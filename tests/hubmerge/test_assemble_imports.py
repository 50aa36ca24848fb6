"""What is quick stays quick: neither torch nor transformers is loaded where no tensor needs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from zoo import random_values, recipe, run_python, write_adapter, write_model

from hubmerge import merge
from hubmerge.compiled_passes import called_by_address

HEAVY = {"torch", "transformers", "peft", "datasets", "evaluate", "accelerate", "duckdb", "sklearn", "pandas"}
HEAVY |= {"scipy.linalg"}  # numba looks for a BLAS in it, which nothing here needs

LOADED = """
import sys
{code}
print(*sorted({heavy!r} & set(sys.modules)), *sorted({{"numba"}} & set(sys.modules)), file=sys.stderr)
"""
COMMAND = """
sys.argv[1:] = {arguments!r}
from hubmerge.cli.app import main
try:
    main()
except SystemExit as ended:
    if ended.code:
        raise
"""


def loaded(code: str, cwd: Path) -> set[str]:
    """Which heavy packages a fresh interpreter holds after `code`."""
    ended = run_python(LOADED.format(code=code, heavy=HEAVY), cwd=cwd)
    assert ended.returncode == 0, ended.stderr
    return set(ended.stderr.splitlines()[-1].split())


def loaded_by_command(*arguments: str, cwd: Path) -> set[str]:
    return loaded(COMMAND.format(arguments=list(arguments)), cwd)


def models(place: Path) -> dict[str, Any]:
    tensors = {"model.layers.0.q_proj.weight": random_values((6, 4), 1), "norm.weight": random_values((4,), 2)}
    for name in ("base", "a", "b"):
        write_model(place / name, tensors)
    factors = {
        "model.layers.0.q_proj.lora_A.weight": random_values((2, 4), 3),
        "model.layers.0.q_proj.lora_B.weight": random_values((6, 2), 4),
    }
    write_adapter(place / "lora", factors)
    return tensors


def write_recipe(place: Path, content: dict[str, Any]) -> None:
    (place / "recipe.yaml").write_text(json.dumps(content))


def test_importing_hubmerge_loads_not_even_numba(tmp_path: Path) -> None:
    assert loaded("import hubmerge", tmp_path) == set()


@pytest.mark.parametrize("arguments", [("--help",), ("merge", "--help"), ("--version",)])
def test_help_loads_not_even_numba(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert loaded_by_command(*arguments, cwd=tmp_path) == set()


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBMERGE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("method", ["ties", "iso_c"])
def test_a_plan_loads_not_even_numba(tmp_path: Path, method: str) -> None:
    models(tmp_path)
    write_recipe(tmp_path, recipe(method, ["./a", "./b"], base="./base"))
    assert loaded_by_command("plan", "recipe.yaml", cwd=tmp_path) == set()


def test_entrywise_merges_load_neither_torch_nor_transformers_and_those_compiled_before_not_even_numba(
    tmp_path: Path,
) -> None:
    models(tmp_path)
    bases = {"linear": None, "slerp": "./a", "ties": "./base", "dare_ties": "./base"}
    parameters = {"linear": {}, "slerp": {"t": 0.5}, "ties": {"density": 0.5}, "dare_ties": {"density": 0.5}}
    for method, base in bases.items():
        content = recipe(method, ["./a", "./b"], base=base, **parameters[method])
        (tmp_path / f"{method}.yaml").write_text(json.dumps(content))
    write_recipe(tmp_path, recipe("ties", ["./a", "./b+./lora"], base="./base", density=0.5))
    with_adapter = COMMAND.format(
        arguments=["merge", "recipe.yaml", "out"]
    )  # what is compiled for adapters is not stored
    for place, more, packages in (("first", with_adapter, {"numba"}), ("then", "", set())):
        commands = [
            COMMAND.format(arguments=["merge", f"{method}.yaml", f"{place}-{method}"]) for method in bases
        ]  # in one process: numba is imported once
        found = loaded("".join([*commands, more]), tmp_path)
        assert found == (packages if called_by_address() else {"numba"})  # elsewhere passes are not stored
    assert (tmp_path / "out" / "hubmerge.json").is_file()
    for method in bases:
        merged = [(tmp_path / f"{place}-{method}" / "model.safetensors").read_bytes() for place in ("first", "then")]
        assert merged[0] == merged[1], method


def test_verifying_without_reloading_loads_neither_torch_nor_transformers(tmp_path: Path) -> None:
    models(tmp_path)
    merge(recipe("linear", [tmp_path / "a", tmp_path / "b"]), tmp_path / "out")
    assert loaded_by_command("verify", "out", "--no-reload", cwd=tmp_path) == {"numba"}
