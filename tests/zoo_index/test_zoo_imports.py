"""Neither the package nor its commands pull in torch or transformers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoo_index

HEAVY = "{name for name in sys.modules if name.split('.')[0] in ('torch', 'transformers', 'peft', 'datasets')}"


def heavy_after(code: str, folder: Path) -> str:
    script = f"import sys\n{code}\nprint('heavy:', sorted({HEAVY}))"
    environment = {**os.environ, "HUBMERGE_CACHE": str(folder / "cache"), "HF_HUB_CACHE": str(folder / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


def test_importing_zoo_index_leaves_torch_alone(tmp_path: Path) -> None:
    assert heavy_after("from zoo_index import *", tmp_path) == "heavy: []"


def test_importing_zoo_index_does_not_load_what_only_some_of_it_needs(tmp_path: Path) -> None:
    code = "from zoo_index import *; assert not {'duckdb', 'numpy', 'pandas', 'yaml', 'huggingface_hub'} & set(sys.modules)"
    assert heavy_after(code, tmp_path) == "heavy: []"


def test_the_errors_come_without_the_rest_of_the_package(tmp_path: Path) -> None:
    code = """
import zoo_index.errors
ours = sorted(name for name in sys.modules if name.startswith("zoo_index"))
assert ours == ["zoo_index", "zoo_index.errors"], ours
assert not {"pydantic", "hashlib", "json"} & set(sys.modules)
"""
    assert heavy_after(code, tmp_path) == "heavy: []"


def test_every_public_name_is_there_when_it_is_asked_for(tmp_path: Path) -> None:
    code = """
import zoo_index
for name in zoo_index.__all__:
    value = getattr(zoo_index, name)
    assert value.__name__ == name, name
    assert vars(zoo_index)[name] is value, name
from zoo_index import *
assert Catalog is zoo_index.Catalog
assert len(zoo_index.__all__) == len(zoo_index._HOMES) == len(set(zoo_index.__all__) & set(zoo_index._HOMES))
"""
    assert heavy_after(code, tmp_path) == "heavy: []"


def test_a_name_that_the_package_does_not_have_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError) as missing:
        _ = zoo_index.Catalogue
    assert str(missing.value) == "module 'zoo_index' has no attribute 'Catalogue'"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["find"],
        ["find", "low", "--json"],
        ["show", "base"],
        ["compatible", "base"],
        ["why", "base", "wide"],
    ],
)
def test_no_command_loads_torch(zoo: Path, tmp_path: Path, arguments: list[str]) -> None:
    code = f"""
from hubmerge.cli.app import main
for arguments in (["sync", "zoo", "--cache"], {arguments!r}):
    sys.argv = ["hubmerge", "zoo", *arguments]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, ended.code
"""
    assert heavy_after(code, tmp_path) == "heavy: []"
