"""Repositories of a few hundred bytes, written by hand: what the tests of the test Hub upload and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["files_of", "model_files", "packed", "write_folder"]

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2}


def packed(name: str = "weight", values: int = 6, dtype: str = "F32", header_size: int = 0) -> bytes:
    """A safetensors file with one tensor of `values` numbers, its header filled with spaces up to `header_size`."""
    size = values * {"F32": 4, "BF16": 2}[dtype]
    header = json.dumps({name: {"dtype": dtype, "shape": [values], "data_offsets": [0, size]}}).encode()
    header = header.ljust(header_size)
    return len(header).to_bytes(8, "little") + header + bytes(index % 251 for index in range(size))


def model_files(card: str = "license: mit", **changes: str | bytes) -> dict[str, str | bytes]:
    """Card, config and weights of a model; `changes` replace or add files (underscores stand for dots)."""
    return {
        "README.md": f"---\n{card}\n---\n# A model\n",
        "config.json": json.dumps(CONFIG),
        "model.safetensors": packed(),
        **{name.replace("_", "."): content for name, content in changes.items()},
    }


def write_folder(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def files_of(api: HfApi, repo: str, revision: str = "main") -> list[str]:
    """The paths of a repository's files, sorted, as the client lists them."""
    return sorted(api.list_repo_files(repo, revision=revision))
