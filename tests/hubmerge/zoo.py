"""Builders of tiny models and merges, written with numpy alone.

Arrays stand for tensors as they are stored; bfloat16 is uint16, its bits (`bfloat16` makes them, `numbers` reads them).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from hubmerge import merge
from zoo_index import LocalFolder, ModelRef, PinnedRef
from zoo_index.checkpoint import read_tensor_table
from zoo_index.tensors import DType

STORED = {
    "float64": "F64", "float32": "F32", "float16": "F16", "uint16": "BF16", "int64": "I64", "int32": "I32",
    "uint8": "U8", "bool": "BOOL", "complex64": "C64",
}  # fmt: skip
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False}

Tensors = Mapping[str, np.ndarray]


def bfloat16(values: Any) -> np.ndarray:
    """float32 rounded to the nearest bfloat16, ties to even, as bits (written out with integers)."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def numbers(stored: np.ndarray) -> np.ndarray:
    """A stored array as numbers: bfloat16 bits become float32, everything else stays."""
    if stored.dtype != np.uint16:
        return stored
    return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)


def stored_as(values: Any, dtype: str) -> np.ndarray:
    """`values` in one of float32, float16, bfloat16, as it is stored."""
    return bfloat16(values) if dtype == "bfloat16" else np.asarray(values).astype(dtype)


def random_values(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def packed(tensors: Tensors) -> bytes:
    """A safetensors file."""
    header: dict[str, Any] = {}
    offset = 0
    for name, values in tensors.items():
        end = offset + values.nbytes
        header[name] = {"dtype": STORED[values.dtype.name], "shape": list(values.shape), "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + b"".join(values.tobytes() for values in tensors.values())


def write_model(
    folder: Path,
    tensors: Tensors,
    *,
    config: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
    shards: Sequence[Sequence[str]] = (),
) -> Path:
    """A model folder; `shards` lists the tensors of each file when there are several."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    if shards:
        weight_map = {}
        for i, names in enumerate(shards, start=1):
            file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
            (folder / file).write_bytes(packed({name: tensors[name] for name in names}))
            weight_map |= dict.fromkeys(names, file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    else:
        (folder / "model.safetensors").write_bytes(packed(tensors))
    for name, text in (files or {}).items():
        (folder / name).write_text(text)
    return folder


def write_adapter(folder: Path, tensors: Tensors, **config: Any) -> Path:
    """A PEFT LoRA adapter; the names of `tensors` go without ``base_model.model.``."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    named = {f"base_model.model.{name}": values for name, values in tensors.items()}
    (folder / "adapter_model.safetensors").write_bytes(packed(named))
    return folder


def read_model(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor of a model folder as stored, by name."""
    numpy = {DType(stored): name for name, stored in STORED.items()}
    table = read_tensor_table(LocalFolder(folder, PinnedRef(ModelRef.of(str(folder.absolute())))))
    raw = {file: (folder / file).read_bytes() for file in table.files}
    return {
        name: np.frombuffer(raw[meta.file][meta.start : meta.end], numpy[meta.dtype]).reshape(meta.shape)
        for name, meta in table.items()
    }


def recipe(
    method: str,
    models: Sequence[Path | str],
    *,
    base: Path | str | None = None,
    own: Sequence[Mapping[str, Any]] = (),
    dtype: str | None = None,
    output: Mapping[str, Any] | None = None,
    **parameters: Any,
) -> dict[str, Any]:
    """A recipe over folders: `own` are the models' parameters in order, `parameters` those of all (lambda_ is lambda)."""
    rows = [{"model": str(model)} for model in models]
    for row, values in zip(rows, own, strict=False):
        row["parameters"] = dict(values)  # type: ignore[assignment]
    given = {"base_model": None if base is None else str(base), "dtype": dtype, "output": output}
    shared = {name.rstrip("_"): value for name, value in parameters.items()}
    return {
        "merge_method": method,
        "models": rows,
        **({"parameters": shared} if shared else {}),
        **{key: value for key, value in given.items() if value is not None},
    }


def merge_tensors(
    method: str,
    parents: Sequence[Tensors],
    *,
    base: Tensors | None = None,
    jobs: int | None = 1,
    config: Mapping[str, Any] | None = None,
    **rest: Any,
) -> dict[str, np.ndarray]:
    """Merge models that hold these tensors, on disk, and return what was written; `rest` goes to `recipe`."""
    with TemporaryDirectory() as name:
        place = Path(name)
        folders = [write_model(place / f"parent{i}", tensors, config=config) for i, tensors in enumerate(parents)]
        origin = None if base is None else write_model(place / "base", base, config=config)
        merge(recipe(method, folders, base=origin, **rest), place / "out", jobs=jobs)
        return read_model(place / "out")


def merge_entries(method: str, parents: Sequence[Any], *, base: Any = None, **rest: Any) -> np.ndarray:
    """Merge models of one float32 tensor; sequences of numbers in, an array out."""
    rows = [{"w": np.asarray(values, np.float32)} for values in parents]
    origin = None if base is None else {"w": np.asarray(base, np.float32)}
    return merge_tensors(method, rows, base=origin, **rest)["w"]


def run_python(code: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`code` in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)


def run_hubmerge(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-m", "hubmerge", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


PAIR = {"w": random_values((6, 5), 1), "b": random_values((6,), 2), "n": np.arange(3)}
"""The tensors of the first of `two_models`: weights, a bias, a buffer of whole numbers."""


def two_models(place: Path) -> list[Path]:
    """Folders a and b under `place`; b has twice the floats of a, and a has files to carry and one to leave."""
    other = {name: values * 2 if values.dtype.kind == "f" else values for name, values in PAIR.items()}
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 5}
    files = {"tokenizer.json": "{}", "generation_config.json": '{"eos_token_id": 2}', "training.log": "loss 1"}
    return [
        write_model(place / "a", PAIR, config=config, files=files),
        write_model(place / "b", other, config=config),
    ]


def names(place: Path) -> list[str]:
    """What lies in a folder, sorted."""
    return sorted(path.name for path in place.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
