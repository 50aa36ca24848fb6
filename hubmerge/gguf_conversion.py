"""A GGUF file -> a model folder: numbers by the package gguf, names and order of entries by transformers, tensor by tensor."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hubmerge.errors import PlanError
from hubmerge.io.shards import lay_out
from zoo_index.tensors import DType, TensorMeta

__all__ = ["convert_gguf"]

_SHARD = 5_000_000_000
_STORED = {"F16": DType.F16, "BF16": DType.BF16}
"""What needs no more bits than it has; everything else becomes float32, which holds every dequantised number."""


def convert_gguf(file: Path, folder: Path, where: str) -> dict[str, Any]:
    """Write `file` as a model of transformers into the empty `folder`; memory: a few copies of the largest tensor.

    Returns facts: types (type, bits, tensors), bytes of the weights, left (tensors the model has no place for), tokenizer
    (whether there is one).  Raises `PlanError` for what transformers cannot convert.
    """
    from gguf import GGML_QUANT_SIZES, GGUFReader
    from transformers import AutoConfig
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    hint = "use the safetensors model it was made from"
    try:
        reader = GGUFReader(file)
        if "split.count" in reader.fields and int(reader.fields["split.count"].parts[-1][0]) > 1:
            raise PlanError("a part of a split GGUF file", where=where, hint="join it with llama-gguf-split --merge")
        parsed = load_gguf_checkpoint(str(file))["config"]
        config = AutoConfig.for_model(**parsed)
        model = _empty_model(config)
    except (ValueError, KeyError, NotImplementedError, TypeError, IndexError) as error:
        raise PlanError(f"transformers cannot convert this GGUF file ({error})", where=where, hint=hint) from error
    config.architectures = [type(model).__name__]
    left = _write_tensors(reader, parsed, model, folder, where)
    config.save_pretrained(folder)
    tokenizer = _save_tokenizer(file, folder)
    bits = {kind.name: 8 * size / block for kind, (block, size) in GGML_QUANT_SIZES.items()}
    counts = Counter(str(tensor.tensor_type.name) for tensor in reader.tensors)
    return {
        "types": [{"type": kind, "bits": bits[kind], "tensors": count} for kind, count in counts.most_common()],
        "bytes": sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        "left": left,
        "tokenizer": tokenizer,
    }


def _empty_model(config: Any) -> Any:
    """The model the file is of, without memory: its names and shapes are wanted."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    for auto in (AutoModelForCausalLM, AutoModelForSeq2SeqLM):
        if type(config) in auto._model_mapping:  # noqa: SLF001 - what `from_config` asks itself, and raises on
            break
    else:
        auto = AutoModel
    with torch.device("meta"):
        return auto.from_config(config)


def _write_tensors(reader: Any, parsed: dict[str, Any], model: Any, folder: Path, where: str) -> list[str]:
    """Dequantise every tensor into its place; returns the names that the model has no place for."""
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    architecture = str(bytes(reader.fields["general.architecture"].parts[-1]), "utf-8")
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=parsed)
    try:
        places: dict[str, str] = get_gguf_hf_weights_map(model, processor)
    except NotImplementedError as error:
        raise PlanError(str(error), where=where, hint="pip install --upgrade gguf") from error
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    known: dict[str, list[Any]] = {}
    left: list[str] = []
    for tensor in reader.tensors:
        # stacks of experts are listed without the ending
        name = places.get(tensor.name) or places.get(tensor.name.removesuffix(".weight"))
        if name is not None and name in shapes:
            known.setdefault(name, []).append(tensor)
        else:
            left.append(str(tensor.name))
    tied = model._tied_weights_keys or ()  # noqa: SLF001 - set by every class of transformers
    missing = sorted(set(shapes) - set(known) - set(tied))
    if missing:
        raise PlanError(
            f"transformers finds no tensor for {missing[0]!r} in this GGUF file, nor for {len(missing) - 1} others",
            where=where,
            hint="use the safetensors model it was made from",
        )
    rows = [(name, _STORED.get(parts[0].tensor_type.name, DType.F32), shapes[name]) for name, parts in known.items()]
    layout = lay_out(rows, _SHARD)
    for name, header in layout.headers.items():
        with (folder / name).open("wb") as out:
            out.write(header)
            out.truncate(layout.sizes[name])
    if layout.index is not None:
        (folder / "model.safetensors.index.json").write_text(layout.index)
    for meta in layout.tensors:
        numbers = _numbers(known[meta.name], meta.name, processor, places)
        if numbers.shape != meta.shape:
            raise PlanError(
                f"tensor {meta.name!r} is {list(numbers.shape)} in this GGUF file, and {list(meta.shape)} by transformers' config",
                where=where,
                hint="use the safetensors model it was made from",
            )
        _write(folder, meta, numbers)
    return left


def _numbers(parts: list[Any], name: str, processor: Any, places: dict[str, str]) -> npt.NDArray[Any]:
    """One tensor of the model, from the tensors of the file that make it up."""
    from gguf import dequantize

    made: dict[str, Any] = {"tensors": {}}  # where processors put what several tensors make up
    weights = None
    for tensor in parts:
        numbers = dequantize(tensor.data, tensor.tensor_type)
        result = processor.process(weights=numbers, name=tensor.name, tensor_key_mapping=places, parsed_parameters=made)
        weights = result.weights
    return made["tensors"][name].numpy() if name in made["tensors"] else np.asarray(weights)


def _write(folder: Path, meta: TensorMeta, weights: npt.NDArray[Any]) -> None:
    from hubmerge.io.stored import NUMPY

    single = np.ascontiguousarray(weights, np.float32).reshape(-1)
    exact = (
        single.view(np.uint32) >> 16 if meta.dtype is DType.BF16 else single
    )  # what was 16 bits in the file still is
    stored = exact.astype(NUMPY[meta.dtype])
    with (folder / meta.file).open("r+b") as out:
        out.seek(meta.start)
        out.write(stored.data)


def _save_tokenizer(file: Path, folder: Path) -> bool:
    from transformers import AutoTokenizer

    with suppress(Exception):  # whatever a stranger's tokenizer does to transformers: the weights merge without it
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
        return True
    return False
