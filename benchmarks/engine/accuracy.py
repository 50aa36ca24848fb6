"""Error against float64 for every entrywise method, beside mergekit's: `python -m benchmarks.engine.accuracy`.

One bfloat16 tensor, 1024 x 960, merged on disk by hubmerge and in memory by mergekit 0.1.5, which computes in float32 or, as
most recipes have it, in bfloat16.  Random methods cannot be compared entry by entry: of them the kept share and the
magnitude of what they keep are compared.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import hubmerge
from benchmarks.engine.models import bfloat16, write_tensor_model
from benchmarks.engine.options import Options, parser
from benchmarks.engine.recipes import PARAMETERS, entrywise_methods, recipe, takes, weights
from benchmarks.engine.references import REFERENCES
from benchmarks.engine.report import Report
from hubmerge.method import get_method

__all__ = ["RANDOM", "main"]

Array = npt.NDArray[Any]

_NAME = "model.layers.0.mlp.down_proj.weight"
RANDOM = ("dare_linear", "dare_ties", "della", "della_linear")
"""Methods whose mask is drawn."""

_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class _Inputs:
    """The tensors as numbers, base first, and the folders of the models that hold them."""

    numbers: tuple[Array, ...]
    folders: tuple[Path, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare all methods."""
    commands = parser(__doc__)
    commands.add_argument("--methods", nargs="+", choices=entrywise_methods(), default=entrywise_methods())
    commands.add_argument("--rows", type=int, default=1024)
    commands.add_argument("--columns", type=int, default=960)
    given = commands.parse_args(arguments)
    options = Options.of(given)
    shape = (given.rows, given.columns)
    told = {"rows": given.rows, "columns": given.columns, "mergekit": options.mergekit is not None}
    errors = Report(
        "accuracy",
        "Error against float64",
        f"Root mean square of the error over that of the change from the base model; bfloat16 parents, {shape[0]} x {shape[1]}. "
        "“Rounded” is the float64 answer rounded to bfloat16: no bfloat16 output can be closer. Left out are entries that tie for "
        "a threshold.",
        ("method", "hubmerge, float32 out", "hubmerge, bfloat16 out", "rounded", "mergekit, float32", "mergekit, bfloat16",
         "mergekit bfloat16 / hubmerge bfloat16", "left out"),
        told,
    )  # fmt: skip
    shares = Report(
        "accuracy_random",
        "What random methods keep",
        f"One parent, {shape[0]} x {shape[1]}, density 0.5: the share of its delta's entries that is kept, and the sum of their "
        "magnitudes after rescaling over that of the whole delta.",
        ("method", "tool, computing in", "kept share", "magnitude"),
        told,
        command="accuracy",
    )
    with options.scratch() as scratch:
        inputs = _make_inputs(scratch, shape)
        peer = _mergekit(options.mergekit, inputs, given.methods, scratch) if options.mergekit else {}
        for method in given.methods:
            if method in RANDOM:
                _compare_random(shares, method, inputs, peer, scratch)
            elif method in REFERENCES:
                _compare(errors, method, inputs, peer, scratch)
            else:
                print(f"{method} has no reference in benchmarks/engine/references.py", flush=True)
    errors.save(options.results)
    shares.save(options.results)


def _make_inputs(scratch: Path, shape: tuple[int, int]) -> _Inputs:
    generator = np.random.Generator(np.random.SFC64(7))
    base = generator.standard_normal(shape, np.float32) * np.float32(0.02)
    changes = [generator.standard_normal(shape, np.float32) * np.float32(0.002) for _ in range(2)]
    numbers, folders = [], []
    for i, values in enumerate((base, *(_numbers(bfloat16(base)) + change for change in changes))):
        bits = bfloat16(values)
        folders.append(scratch / f"model{i}")
        write_tensor_model(folders[-1], _NAME, bits)
        numbers.append(_numbers(bits))
    return _Inputs(tuple(numbers), tuple(folders))


def _numbers(bits: Array) -> Array:
    """bfloat16 bits as float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _compare(report: Report, method: str, inputs: _Inputs, peer: Mapping[str, Array], scratch: Path) -> None:
    base, *parents = (numbers.astype(np.float64) for numbers in inputs.numbers)
    parents = parents[: takes(method, len(parents))]
    exact, decided = REFERENCES[method](parents, base, _parameters(method, len(parents)))
    change = np.sqrt(np.mean((exact - base)[decided] ** 2))

    def error(values: Array | None) -> float | None:
        return None if values is None else float(np.sqrt(np.mean((values - exact)[decided] ** 2)) / change)

    ours = {dtype: error(_merged(method, inputs.folders[0], inputs.folders[1:], dtype, scratch)) for dtype in _DTYPES}
    theirs = {dtype: error(peer.get(f"{method} {dtype}")) for dtype in _DTYPES}
    rounded = error(_numbers(bfloat16(exact.astype(np.float32))))
    times = theirs["bfloat16"] / ours["bfloat16"] if theirs["bfloat16"] and ours["bfloat16"] else None
    left = 1 - float(decided.mean())
    cells = (*map(_cell, (*ours.values(), rounded, *theirs.values())), "-" if times is None else f"{times:.1f}")
    row = (f"`{method}`", *cells, f"{left:.2%}")
    report.add(row, method=method, hubmerge=ours, rounded=rounded, mergekit=theirs, left_out=left)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _compare_random(report: Report, method: str, inputs: _Inputs, peer: Mapping[str, Array], scratch: Path) -> None:
    base, parent = (numbers.astype(np.float64) for numbers in inputs.numbers[:2])
    delta = parent - base
    ours = {
        f"hubmerge, {dtype} out": _merged(method, inputs.folders[0], inputs.folders[1:2], dtype, scratch)
        for dtype in _DTYPES
    }
    theirs = {f"mergekit, {dtype}": peer.get(f"{method} {dtype}") for dtype in _DTYPES}
    for tool, values in {**ours, **theirs}.items():
        if values is not None:
            kept = float(np.count_nonzero(values - base) / np.count_nonzero(delta))
            size = float(np.abs(values - base).sum() / np.abs(delta).sum())
            report.add(
                (f"`{method}`", tool, f"{kept:.4f}", f"{size:.4f}"), method=method, tool=tool, kept=kept, size=size
            )


def _parameters(method: str, parents: int) -> dict[str, Any]:
    """A method's parameters as `benchmarks.engine.recipes` gives them; a single random parent has the weight 1."""
    given: dict[str, Any] = dict(PARAMETERS.get(method, {}))
    if "weight" in get_method(method).parameters.model_fields:
        given["weight"] = weights(parents) if method not in RANDOM else [1.0]
    return given


def _merged(method: str, base: Path, parents: Sequence[Path], dtype: str, scratch: Path) -> Array:
    """What hubmerge makes of the tensor, as float32."""
    out = scratch / f"{method}-{dtype}"
    content = recipe(method, base, parents, dtype=dtype)
    if method in RANDOM:
        content["models"] = [{"model": str(parents[0]), "parameters": {"weight": 1.0}}]
    hubmerge.merge(content, out)
    raw = (out / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    shape = tuple(json.loads(raw[8:start])[_NAME]["shape"])
    stored = np.frombuffer(raw[start:], "<f4" if dtype == "float32" else "<u2")
    return (stored if dtype == "float32" else _numbers(stored)).reshape(shape)


def _mergekit(environment: Path, inputs: _Inputs, methods: Sequence[str], scratch: Path) -> dict[str, Array]:
    """What mergekit makes of it: "METHOD DTYPE" -> the tensor as float32; without those where it failed."""
    from safetensors.numpy import load_file

    tensors, jobs, results = scratch / "inputs.safetensors", scratch / "jobs.json", scratch / "mergekit.safetensors"
    _join(inputs.folders, tensors)
    jobs.write_text(json.dumps(list(_jobs(methods))), encoding="utf-8")
    script = Path(__file__).with_name("accuracy_mergekit.py")
    done = subprocess.run(
        [environment / "bin" / "python", "-P", script, jobs, tensors, results],
        check=True,
        capture_output=True,
        text=True,
    )
    failures = [line for line in done.stderr.splitlines() if line.startswith(tuple(methods))]
    print("\n".join(failures), flush=True)
    return load_file(results)


def _jobs(methods: Sequence[str]) -> Iterator[dict[str, Any]]:
    for method in methods:
        names = ["model1"] if method in RANDOM else ["model1", "model2"][: takes(method, 2)]
        with_base = get_method(method).base in {"required", "start"}
        for dtype in _DTYPES:
            yield {
                "name": f"{method} {dtype}",
                "method": method,
                "inputs": ["model0", *names] if with_base else names,
                "base_index": 0 if with_base else None,
                "parameters": _parameters(method, len(names)),
                "dtype": dtype,
            }


def _join(folders: Sequence[Path], target: Path) -> None:
    """One safetensors file with the tensor of every model, named after its folder."""
    entries, data = {}, b""
    for folder in folders:
        raw = (folder / "model.safetensors").read_bytes()
        start = 8 + int.from_bytes(raw[:8], "little")
        entry = json.loads(raw[8:start])[_NAME]
        entries[folder.name] = {**entry, "data_offsets": [len(data), len(data) + len(raw) - start]}
        data += raw[start:]
    header = json.dumps(entries).encode()
    target.write_bytes(len(header).to_bytes(8, "little") + header + data)


if __name__ == "__main__":
    main()
