"""Small good models, to be made bad by the tests, and what watches over folders and weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import write_adapter, write_model

from hubmerge import merge
from hubmerge.cli.app import main
from hubmerge.errors import RecipeError
from hubmerge.io.input_files import InputFiles
from hubmerge.recipe import Recipe
from zoo_index.errors import HubmergeError

SHAPES = {
    "lm_head.weight": (6, 4),
    "model.embed_tokens.weight": (6, 4),
    "model.layers.0.mlp.up_proj.weight": (8, 4),
    "model.layers.0.self_attn.q_proj.weight": (4, 4),
    "model.layers.1.mlp.up_proj.weight": (8, 4),
    "model.layers.1.self_attn.q_proj.weight": (4, 4),
    "model.norm.weight": (4,),
}
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 2, "intermediate_size": 8, "vocab_size": 6,
    "tie_word_embeddings": False, "dtype": "float32",
}  # fmt: skip
LINEAR = {"merge_method": "linear", "models": [{"model": "./a"}, {"model": "./b"}]}
A, B = Path("a"), Path("b")
Q = "model.layers.0.self_attn.q_proj"
ADAPTED = {"merge_method": "passthrough", "models": [{"model": "./a+./l"}]}
DAMAGED = "the file is damaged or not safetensors; fetch or save it again"


def tensors(seed: int = 0, dtype: str = "float32", **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape).astype(dtype) for name, shape in (shapes or SHAPES).items()}


def llama(
    folder: Path, seed: int = 0, *, dtype: str = "float32", files: Mapping[str, str] | None = None, **changes: Any
) -> Path:
    """A model folder with `SHAPES`, its config changed by `changes`."""
    return write_model(folder, tensors(seed, dtype), config={**CONFIG, **changes}, files=files)


def raw_file(header: object, data: bytes = b"") -> bytes:
    """A safetensors file with this header, whatever it says."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(shape: list[Any], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def factors(
    rank: int = 2, rows: int = 4, columns: int = 4, dtype: str = "float32", module: str = Q
) -> dict[str, np.ndarray]:
    """A LoRA pair for one module."""
    return {
        f"{module}.lora_A.weight": np.ones((rank, columns), dtype),
        f"{module}.lora_B.weight": np.ones((rows, rank), dtype),
    }


def lora(folder: Path = Path("l"), named: Mapping[str, np.ndarray] | None = None, **settings: Any) -> None:
    """An adapter for `SHAPES`, its config changed by `settings`."""
    write_adapter(folder, factors() if named is None else named, **settings)


def text(name: str, content: str | bytes) -> Callable[[], None]:
    """What writes this into a file of model b."""
    return lambda: (B / name).write_bytes(content if isinstance(content, bytes) else content.encode()) and None


def two_models_in(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good models, a and b, in the current folder; reading any weight fails the test."""

    def read(*_: object, **__: object) -> None:
        pytest.fail("a weight was read")

    monkeypatch.chdir(place)
    monkeypatch.setattr(InputFiles, "read_into", read)
    llama(A, 1)
    llama(B, 2)
    return place


def refusal(recipe: Mapping[str, Any] = LINEAR) -> list[str]:
    """The faults that a merge ends with; it leaves the current folder as it was."""
    before = state_of(Path())
    with pytest.raises(HubmergeError) as refused:
        merge(recipe, "out")
    assert state_of(Path()) == before
    return faults_of(refused.value)


def state_of(place: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, and every folder."""
    return {str(path.relative_to(place)): path.read_bytes() if path.is_file() else b"" for path in place.rglob("*")}


def faults_of(error: HubmergeError) -> list[str]:
    return [str(fault) for fault in error.faults]


def recipe_faults(raw: Any) -> list[str]:
    """Every fault of a recipe, as printed, without the name of the recipe."""
    with pytest.raises(RecipeError) as refused:
        Recipe.parse(raw)
    return [
        fault.removeprefix("recipe: ") for fault in (str(f).replace("· recipe: ", "· ") for f in refused.value.faults)
    ]


def hubmerge(*arguments: object) -> int:
    """The command line in this process: its exit code.  What it prints is in capsys."""
    before = sys.argv
    sys.argv = ["hubmerge", *map(str, arguments)]
    try:
        main()
    except SystemExit as done:
        return int(done.code or 0)
    finally:
        sys.argv = before
    return 0
