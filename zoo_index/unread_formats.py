"""Weights in formats that are not read: what they are called, and what to do, with the command where there is one."""

from __future__ import annotations

import fnmatch
import json
import shlex
from collections.abc import Mapping
from typing import Any

from zoo_index.errors import CheckpointError
from zoo_index.source import ModelSource

__all__ = ["adapter_conversion", "no_config_fault", "no_weights_fault"]

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_BY_TRANSFORMERS = ("pytorch_model.bin", "pytorch_model-*-of-*.bin")
_OTHERS = (
    ("tf_model*.h5", "TensorFlow weights"),
    ("*.h5", "Keras weights"),
    ("*.ckpt.index", "a TensorFlow 1 checkpoint"),
    ("flax_model*.msgpack", "Flax weights"),
    ("*.onnx", "an ONNX export"),
    ("openvino_model.xml", "an OpenVINO export"),
    ("*.tflite", "a TensorFlow Lite export"),
    ("*.mlmodel", "a Core ML export"),
    ("*.npz", "NumPy or MLX weights"),
)
_OF_ADAPTERS = "name its base too: base+adapter; a recipe of adapters alone has a basis: knots, core or none"
_DIFFUSERS = "diffusion_pytorch_model*.safetensors"
_MISTRAL = "consolidated*.safetensors"


def no_config_fault(source: ModelSource) -> CheckpointError:
    """Why a folder without config.json is no model."""
    files = source.files()
    where = str(source.pinned)
    if "adapter_config.json" in files:
        return CheckpointError("an adapter, not a model", where=where, hint=_OF_ADAPTERS)
    if "model_index.json" in files:
        return CheckpointError(
            "a diffusers pipeline, not a model of transformers",
            where=where,
            hint="models of transformers are merged, like a pipeline's text_encoder by itself",
        )
    return CheckpointError(
        "no config.json, so this is not a model folder",
        where=where,
        hint="name the folder that from_pretrained would take",
    )


def no_weights_fault(source: ModelSource, config: Mapping[str, Any] | None) -> CheckpointError:
    """Why a folder without model.safetensors has no weights that are read, and what to do."""
    where, files = str(source.pinned), source.files()
    if "adapter_model.safetensors" in files:
        return CheckpointError("an adapter, not a model", where=where, hint=_OF_ADAPTERS)
    gguf = [name for name in files if name.endswith(".gguf")]
    if gguf:
        return CheckpointError(
            f"only GGUF weights ({gguf[0]})", where=where, hint="only recipes take it, as a parent that is converted"
        )
    pickles = [name for name in files if name.endswith(_PICKLES) and not name.startswith("training_args")]
    if pickles:
        return CheckpointError(
            f"only pickled weights ({pickles[0]}), which can run code when read",
            where=where,
            hint=_conversion(source, pickles, config or {}),
        )
    for pattern, what in _OTHERS:
        found = fnmatch.filter(files, pattern)
        if found:
            return CheckpointError(
                f"only {what} ({found[0]})", where=where, hint="use the same model's safetensors weights"
            )
    if fnmatch.filter(files, _DIFFUSERS):
        return CheckpointError(
            "a part of a diffusers pipeline, not a model of transformers",
            where=where,
            hint="models of transformers are merged",
        )
    if fnmatch.filter(files, _MISTRAL):
        return CheckpointError(
            "only weights in Mistral's own format (consolidated.safetensors)",
            where=where,
            hint="use the repository's files for transformers",
        )
    return CheckpointError(
        "no safetensors weights", where=where, hint="expected model.safetensors or model.safetensors.index.json"
    )


def adapter_conversion(source: ModelSource) -> str:
    """The command that writes the pickled weights of an adapter as safetensors, beside them."""
    return _typed(source, _by_torch(_folder(source), "adapter_model.bin", "adapter_model.safetensors"))


def _conversion(source: ModelSource, pickles: list[str], config: Mapping[str, Any]) -> str:
    """The command that writes safetensors beside the pickle; torch's weights_only keeps the pickle from running code."""
    place = json.dumps(_folder(source), ensure_ascii=False)
    by_transformers = [name for name in pickles if any(fnmatch.fnmatch(name, known) for known in _BY_TRANSFORMERS)]
    if not by_transformers:
        return _typed(source, _by_torch(_folder(source), pickles[0], "model.safetensors"))
    code = (
        f"from transformers import {_class(config)} as M; "
        f'M.from_pretrained({place}, dtype="auto", weights_only=True).save_pretrained({place})'
    )
    return _typed(source, code)


def _by_torch(folder: str, pickle: str, out: str) -> str:
    file, written = (json.dumps(f"{folder}/{name}", ensure_ascii=False) for name in (pickle, out))
    return (
        "import torch, safetensors.torch as s; "
        f'd = torch.load({file}, map_location="cpu", weights_only=True); d = d.get("state_dict", d); '
        f's.save_file({{k: v.clone().contiguous() for k, v in d.items()}}, {written}, {{"format": "pt"}})'
    )


def _folder(source: ModelSource) -> str:
    """Where the model is, or for one on the Hub where the command puts it."""
    reference = source.pinned.reference
    return reference.name if reference.is_local else f"./{reference.name.rpartition('/')[2]}"


def _typed(source: ModelSource, code: str) -> str:
    reference = source.pinned.reference
    if reference.is_local:
        return f"convert it: python -c {shlex.quote(code)}"
    fetch = f"hf download {shlex.quote(reference.name)} --local-dir {_folder(source)}"
    return f"convert it: {fetch} && python -c {shlex.quote(code)}, then name {_folder(source)}"


def _class(config: Mapping[str, Any]) -> str:
    """The class of transformers that the config names; it is typed into a command, so nothing but a name will do."""
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else None
    return first if isinstance(first, str) and first.isidentifier() and first.isascii() else "AutoModel"
