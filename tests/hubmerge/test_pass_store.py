"""Compiled passes on disk: used when nothing that they depend on has changed, and by nobody else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from zoo import write_model

import hubmerge
from hubmerge import compiled_passes, kernels, pass_store
from hubmerge.compiled_passes import CompiledPass, called_by_address, compiled_pass
from hubmerge.jit import compiled
from hubmerge.method import get_method

pytestmark = pytest.mark.skipif(
    not called_by_address(), reason="passes are stored only where they are called by address"
)

LINEAR = get_method("linear").rule


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An open store of its own, as the command line opens one."""
    monkeypatch.setattr(pass_store, "_folder", None)
    monkeypatch.setattr(pass_store, "_identity", b"")
    pass_store.open_store(tmp_path / "passes")
    return tmp_path / "passes"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that `merged` stores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pass_store, "_folder", None)
        patch.setattr(pass_store, "_identity", b"")
        pass_store.open_store(tmp_path_factory.mktemp("stored", numbered=False))
        merged()
        (path,) = pass_store._folder.iterdir()  # type: ignore[attr-defined]
    return path


def merged(weights: tuple[float, ...] = (1.0, 3.0)) -> list[float]:
    """(w1 x 8 + w2 x 16) / (w1 + w2), and the same of 4 and 0, by a pass that this process has not met before."""
    run = CompiledPass(kernels.range_pass, (LINEAR, "weight", None))
    parents = tuple(np.array(numbers, np.float32).view(np.uint32) for numbers in ([8, 4], [16, 0]))
    out = np.empty(2, np.uint32)
    arguments = (tuple(map(np.float32, weights)), True)
    run(parents[0], parents, (np.float32(0),) * 2, ((), ()), arguments, out, 0, np.uint64(0), np.uint64(2))
    return [float(number) for number in out.view(np.float32)]


def refuse_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("compiled, though it was stored")

    monkeypatch.setattr(compiled_passes, "compiled", refused)


def test_a_stored_pass_is_run_and_not_compiled_again(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert merged() == [14, 1]
    assert len(list(store.iterdir())) == 1
    refuse_to_compile(monkeypatch)
    assert merged() == [14, 1]
    assert merged((3.0, 1.0)) == [10, 3]


def test_a_pass_for_other_types_is_another_file(store: Path) -> None:
    merged()
    run = CompiledPass(kernels.range_pass, (LINEAR, "weight", None))
    bits, out = np.array([0x4100], np.uint16), np.empty(1, np.uint16)  # 8 in bfloat16
    arguments = ((np.float32(1),), True)
    run(bits, (bits,), (np.float32(0),), ((),), arguments, out, 0, np.uint64(0), np.uint64(1))
    assert out[0] == 0x4100
    assert len(list(store.iterdir())) == 2


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def cut_it_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def empty_it(path: Path) -> None:
    path.write_bytes(b"")


def let_others_write(path: Path) -> None:
    path.chmod(0o620)


def make_it_a_link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def give_it_another_name(path: Path) -> None:
    content = path.read_bytes()
    name = path.name.encode()
    path.write_bytes(content.replace(name, name[::-1]))


SPOILERS = [flip_a_bit, cut_it_short, empty_it, let_others_write, make_it_a_link, give_it_another_name]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_a_file_that_is_damaged_or_that_others_can_write_is_replaced(
    store: Path, stored: Path, spoil: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy2(stored, store))
    assert pass_store.load(path.name) is not None
    spoil(path)
    assert pass_store.load(path.name) is None
    assert merged() == [14, 1]
    assert [file.name for file in store.iterdir()] == [path.name]
    assert (path.is_symlink(), path.stat().st_mode & 0o777) == (False, 0o600)
    refuse_to_compile(monkeypatch)
    assert merged() == [14, 1]


def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pass_store, "_folder", None)
    folder = tmp_path / "passes"
    folder.mkdir()
    folder.chmod(0o777)
    pass_store.open_store(folder)
    assert merged() == [14, 1]
    assert list(folder.iterdir()) == []


def test_a_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pass_store, "_folder", None)
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    pass_store.open_store(tmp_path / "passes")
    assert pass_store.name_of(kernels.range_pass, (LINEAR, "weight", None), ()) is None


def test_a_place_that_cannot_be_made_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pass_store, "_folder", None)
    (tmp_path / "file").touch()
    pass_store.open_store(tmp_path / "file" / "passes")
    assert merged() == [14, 1]


def test_the_oldest_files_go_when_there_are_too_many(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pass_store, "_KEPT", 2)
    for age in (3, 2, 1):
        (store / str(age)).touch()
        os.utime(store / str(age), (1000 - age, 1000 - age))
    merged()
    left = {path.name for path in store.iterdir()}
    assert left & {"1", "2", "3"} == {"1"}
    assert len(left) == 2


def _own_rule(weights: Any, factor: Any) -> Any:
    return weights[0] * factor


def test_a_rule_that_is_not_of_hubmerge_is_not_stored(store: Path) -> None:
    names = [pass_store.name_of(kernels.range_pass, (rule, "weight", None), ()) for rule in (LINEAR, _own_rule)]
    assert names[0] is not None
    assert names[1] is None


@pytest.mark.parametrize("setting", ["NUMBA_OPT", "NUMBA_CPU_NAME"])
def test_a_setting_of_numba_changes_the_names(store: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    before = pass_store.name_of(kernels.range_pass, (LINEAR, "weight", None), ())
    monkeypatch.setenv(setting, "1")
    pass_store.open_store(store)
    assert pass_store.name_of(kernels.range_pass, (LINEAR, "weight", None), ()) != before


def test_code_that_calls_into_numba_or_a_library_is_not_stored(store: Path) -> None:
    def run(out: Any) -> None:
        out[0] = np.exp(out[0])

    numbers = np.array([0.0])
    calls = compiled(run, no_cpython_wrapper=True, _nrt=False)
    calls.compile((__import__("numba").typeof(numbers),))
    (made,) = calls.overloads.values()
    pass_store.save("0" * 64, made.library, made.fndesc.llvm_func_name, "none")
    assert list(store.iterdir()) == []


def test_source_that_changed_since_the_start_is_not_stored(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pass_store, "source_digest", lambda _: "another")
    assert merged() == [14, 1]
    assert list(store.iterdir()) == []


def test_a_rule_is_compiled_again_after_an_edit_in_a_module_that_it_calls(tmp_path: Path) -> None:
    source = Path(hubmerge.__file__).parent
    for package in (source, source.parent / "zoo_index"):
        shutil.copytree(package, tmp_path / "source" / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, numbers in (("a", [1.0, 2.0]), ("b", [3.0, 4.0])):
        write_model(tmp_path / name, {"w": np.array(numbers, np.float32)})
    asked = {"combine": "sign_consensus", "base_model": "./a", "models": [{"model": "./b"}]}  # one pass, and no other
    (tmp_path / "recipe.yaml").write_text(str(asked))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "source"), "HUBMERGE_CACHE": str(tmp_path / "cache")}

    def merge(out: str) -> tuple[list[float], int]:
        command = [sys.executable, "-m", "hubmerge", "merge", "recipe.yaml", out]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        numbers = load_file(tmp_path / out / "model.safetensors")["w"].tolist()
        return numbers, len(list((tmp_path / "cache" / "passes").iterdir()))

    first, stored = merge("out1")
    assert first == [3, 4]
    signs = tmp_path / "source" / "hubmerge" / "ops" / "signs.py"
    kept = "return float32(1) if total > 0"
    assert kept in signs.read_text()
    signs.write_text(signs.read_text().replace(kept, "return float32(-1) if total > 0"))
    second, more = merge("out2")
    assert second == [1, 2]  # nobody agrees with the elected sign: the base's numbers
    assert more > stored


@compiled_pass
def every_type(shift: int) -> Callable[..., Any]:
    def run(flag: Any, count: Any, pair: Any, table: Any, places: Any, out: Any) -> Any:
        for i in range(out.size):
            out[i] = pair[0] * pair[1][0] + table[1, i] + places[i] + count + shift
        return out[0] if flag else -1.0

    return run


@pytest.mark.parametrize("by_address", [True, False])
def test_a_pass_takes_numbers_arrays_and_tuples_of_them(by_address: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_passes, "called_by_address", lambda: by_address)
    run = compiled_pass(every_type.__wrapped__)(10)  # type: ignore[attr-defined]
    table = np.arange(6.0).reshape(2, 3)
    places = np.arange(6, dtype=np.uint32)[::2]
    places.flags.writeable = False
    out = np.empty(3)
    assert run(True, 100, (np.float32(2), (np.uint64(7),)), table, places, out) == 127
    assert out.tolist() == [14 + 3 + 0 + 110, 14 + 4 + 2 + 110, 14 + 5 + 4 + 110]
    assert run(np.bool_(False), np.uint32(100), (2.0, (7,)), np.asfortranarray(table), places.copy(), out) == -1
    assert out.tolist() == [127, 130, 133]
