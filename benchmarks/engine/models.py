"""Synthetic checkpoints to measure with: `python -m benchmarks.engine.models --size 1.1` makes them once, in a cache.

A size is a Llama config.  The numbers are a function of the seed below, the model and the tensor: a base model with
N(0, 0.02) entries, and parents that are the base plus N(0, 0.002), everything rounded to bfloat16.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.engine.options import Options, parser

__all__ = [
    "SIZES",
    "Models",
    "Size",
    "bfloat16",
    "main",
    "make_models",
    "make_partly_sparse_models",
    "write_tensor_model",
]

SEED = 20250101
BASE_SPREAD = np.float32(0.02)
DELTA_SPREAD = np.float32(0.002)

_BLOCK = 1 << 22
"""Entries made at a time: 16 MB of float32."""

_FORMAT = 1
"""Part of the cache's folder names: raised when the numbers change."""


@dataclass(frozen=True)
class Size:
    """A Llama's shape; heads are 64 wide (128 from a width of 4096 on), key_value is the width of keys and of values."""

    layers: int
    width: int
    inner: int
    key_value: int
    vocabulary: int = 32000

    def config(self) -> dict[str, Any]:
        """config.json."""
        head = 128 if self.width >= 4096 else 64
        return {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", "hidden_size": self.width,
            "intermediate_size": self.inner, "num_hidden_layers": self.layers, "num_attention_heads": self.width // head,
            "num_key_value_heads": self.key_value // head, "head_dim": head, "vocab_size": self.vocabulary,
            "hidden_act": "silu", "rms_norm_eps": 1e-5, "max_position_embeddings": 2048, "tie_word_embeddings": False,
        }  # fmt: skip

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor, in the order of the file."""
        width, inner, narrow = self.width, self.inner, self.key_value
        yield "model.embed_tokens.weight", (self.vocabulary, width)
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            yield prefix + "input_layernorm.weight", (width,)
            yield prefix + "self_attn.q_proj.weight", (width, width)
            yield prefix + "self_attn.k_proj.weight", (narrow, width)
            yield prefix + "self_attn.v_proj.weight", (narrow, width)
            yield prefix + "self_attn.o_proj.weight", (width, width)
            yield prefix + "post_attention_layernorm.weight", (width,)
            yield prefix + "mlp.gate_proj.weight", (inner, width)
            yield prefix + "mlp.up_proj.weight", (inner, width)
            yield prefix + "mlp.down_proj.weight", (width, inner)
        yield "model.norm.weight", (width,)
        yield "lm_head.weight", (self.vocabulary, width)

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(shape)) for _, shape in self.shapes())


SIZES = {
    "toy": Size(layers=2, width=64, inner=128, key_value=64, vocabulary=300),
    "0.03": Size(layers=4, width=384, inner=1024, key_value=128),
    "0.1": Size(layers=8, width=768, inner=2048, key_value=256),
    "0.3": Size(layers=21, width=1024, inner=2816, key_value=256),
    "1.1": Size(layers=22, width=2048, inner=5632, key_value=256),  # TinyLlama-1.1B
    "30": Size(layers=60, width=6656, inner=17920, key_value=6656),  # LLaMA-30B, 32.5 B
}
"""By name: thousands of millions of parameters, roughly."""


@dataclass(frozen=True)
class Models:
    """Folders of one base model and of its fine-tuned parents."""

    size: Size
    base: Path
    parents: tuple[Path, ...]


def make_models(options: Options, name: str, parents: int = 2) -> Models:
    """The base model and the first `parents` parents of a size, made where they are not in the cache yet."""
    size = SIZES[name]
    place = options.models / f"llama-{name}-v{_FORMAT}"
    folders = [place / ("base" if model == 0 else f"parent{model}") for model in range(parents + 1)]
    for model, folder in enumerate(folders):
        if not folder.exists():
            partial = folder.with_name(folder.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _write_config(partial, size)
            with (partial / "model.safetensors").open("wb") as file:
                file.write(_header(size.shapes()))
                for tensor, (_, shape) in enumerate(size.shapes()):
                    file.writelines(bits.tobytes() for bits in _numbers(model, tensor, int(np.prod(shape))))
            partial.rename(folder)
    return Models(size, folders[0], tuple(folders[1:]))


def make_partly_sparse_models(place: Path, name: str, filled: Sequence[str], parents: int = 2) -> Models:
    """Models whose files have the full length, but only the tensors in `filled` hold numbers; the rest is holes.

    The numbers of a tensor are one block of random ones over and over.
    """
    size = SIZES[name]
    folders = [place / ("base" if model == 0 else f"parent{model}") for model in range(parents + 1)]
    for model, folder in enumerate(folders):
        folder.mkdir(parents=True)
        _write_config(folder, size)
        header = _header(size.shapes())
        offset = len(header)
        with (folder / "model.safetensors").open("wb") as file:
            file.write(header)
            file.truncate(offset + 2 * size.parameters)
            for tensor, (key, shape) in enumerate(size.shapes()):
                count = int(np.prod(shape))
                if key in filled:
                    file.seek(offset)
                    block = next(_numbers(model, tensor, min(count, _BLOCK))).tobytes()
                    for start in range(0, 2 * count, len(block)):
                        file.write(block[: 2 * count - start])
                offset += 2 * count
    return Models(size, folders[0], tuple(folders[1:]))


def _write_config(folder: Path, size: Size) -> None:
    (folder / "config.json").write_text(json.dumps(size.config(), indent=2) + "\n", encoding="utf-8")


def _header(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes:
        end = offset + 2 * int(np.prod(shape))
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_tensor_model(folder: Path, name: str, bits: npt.NDArray[np.uint16]) -> None:
    """A model of a single bfloat16 tensor."""
    folder.mkdir(parents=True)
    _write_config(folder, SIZES["toy"])
    (folder / "model.safetensors").write_bytes(_header([(name, bits.shape)]) + bits.tobytes())


def _numbers(model: int, tensor: int, count: int) -> Iterator[npt.NDArray[np.uint16]]:
    """The bits of one tensor of one model (0 is the base), a block at a time."""
    base = np.random.Generator(np.random.SFC64([SEED, 0, tensor]))
    delta = np.random.Generator(np.random.SFC64([SEED, model, tensor]))
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        numbers = base.standard_normal(size, np.float32) * BASE_SPREAD
        if model:
            numbers = (bfloat16(numbers).astype(np.uint32) << np.uint32(16)).view(np.float32)
            numbers += delta.standard_normal(size, np.float32) * DELTA_SPREAD
        yield bfloat16(numbers)


def bfloat16(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The bits of float32 numbers rounded to bfloat16, to nearest, ties to even."""
    bits = numbers.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return rounded.astype(np.uint16)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the models of one size."""
    commands = parser(__doc__)
    commands.add_argument("--size", choices=[name for name in SIZES if name != "30"], default="1.1")
    commands.add_argument("--parents", type=int, default=2)
    given = commands.parse_args(arguments)
    models = make_models(Options.of(given), given.size, given.parents)
    print(f"{models.size.parameters:,} parameters each: {models.base}, " + ", ".join(map(str, models.parents)))


if __name__ == "__main__":
    main()
