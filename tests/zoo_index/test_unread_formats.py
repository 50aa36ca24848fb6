"""Models in formats that are not read: each is told what it is, and what to use or type instead."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from zoo import write_model

from zoo_index import CheckpointError, LocalFolder, ModelRef, PinnedRef
from zoo_index.checkpoint import read_adapter_table, read_config, read_tensor_table
from zoo_index.metadata import read_record


def source(folder: Path, name: str | None = None) -> LocalFolder:
    return LocalFolder(folder, PinnedRef(ModelRef.of(name or str(folder))))


def folder_with(place: Path, *names: str, config: dict[str, Any] | None = None) -> LocalFolder:
    folder = place / "b"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return source(folder)


def refusal(opened: LocalFolder) -> tuple[str, str]:
    with pytest.raises(CheckpointError) as caught:
        _ = read_config(opened), read_tensor_table(opened)
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["tf_model.h5"], "only TensorFlow weights (tf_model.h5)"),
        (["model.h5"], "only Keras weights (model.h5)"),
        (["model.ckpt.index"], "only a TensorFlow 1 checkpoint (model.ckpt.index)"),
        (["flax_model.msgpack"], "only Flax weights (flax_model.msgpack)"),
        (["onnx/model.onnx"], "only an ONNX export (onnx/model.onnx)"),
        (["openvino_model.xml"], "only an OpenVINO export (openvino_model.xml)"),
        (["weights.npz"], "only NumPy or MLX weights (weights.npz)"),
    ],
)
def test_weights_of_other_libraries_are_named(files: list[str], message: str, tmp_path: Path) -> None:
    expected = (message, "use the same model's safetensors weights")
    assert refusal(folder_with(tmp_path, *files, config={"model_type": "bert"})) == expected


def test_diffusers_and_mistrals_own_format_are_named(tmp_path: Path) -> None:
    assert refusal(folder_with(tmp_path / "1", "model_index.json", "unet/config.json")) == (
        "a diffusers pipeline, not a model of transformers",
        "models of transformers are merged, like a pipeline's text_encoder by itself",
    )
    unet = folder_with(
        tmp_path / "2", "diffusion_pytorch_model.safetensors", config={"_class_name": "UNet2DConditionModel"}
    )
    assert refusal(unet)[0] == "a part of a diffusers pipeline, not a model of transformers"
    mistral = folder_with(tmp_path / "3", "consolidated.safetensors", config={"model_type": "mistral"})
    assert refusal(mistral)[0] == "only weights in Mistral's own format (consolidated.safetensors)"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"quant_method": "awq"}}, "awq"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bitsandbytes"),
        (
            {"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized"}},
            "compressed-tensors",
        ),
        ({"quantization": {"group_size": 64, "bits": 4}}, "mlx"),
        ({"text_config": {"quantization_config": {"quant_method": "hqq"}}}, "hqq"),
    ],
)
def test_a_quantised_model_is_refused_with_the_model_it_was_made_from(
    said: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    message = f"the model is quantised ({kind}); its packed numbers cannot be averaged"
    folder = folder_with(tmp_path, "model.safetensors", config=said)
    assert refusal(folder) == (message, "use the unquantised model it was made from")
    named = folder_with(tmp_path, "model.safetensors", config={**said, "_name_or_path": "org/full"})
    assert refusal(named) == (message, "use org/full, which it was made from")
    (named.folder / "README.md").write_text("---\nbase_model: [org/base]\nbase_model_relation: quantized\n---\n")
    assert refusal(source(named.folder)) == (message, "use org/base, which it was made from")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("layers.0.q_proj.qweight", "GPTQ or AWQ"),
        ("layers.0.q_proj.weight.absmax", "bitsandbytes"),
        ("layers.0.q_proj.SCB", "bitsandbytes"),
        ("layers.0.q_proj.weight_packed", "compressed-tensors"),
    ],
)
def test_packed_tensors_are_recognised_where_the_config_says_nothing(name: str, kind: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "b", {name: np.zeros(4, np.uint8), "norm.weight": np.ones(2, np.float32)})
    message = f"tensor {name!r} holds packed numbers ({kind}), which cannot be averaged · use the unquantised model it was made from"
    assert read_record(source(folder)).refusals == (message,)


def test_the_command_for_a_pickle_names_only_what_is_safe_to_type(tmp_path: Path) -> None:
    hostile = {"architectures": ['X; __import__("os").system("rm")']}
    _, hint = refusal(folder_with(tmp_path, "pytorch_model.bin", config=hostile))
    assert hint.startswith("convert it: python -c 'from transformers import AutoModel as M; M.from_pretrained(")
    folder = tmp_path / "it's; $(touch x)"
    folder.mkdir()
    (tmp_path / "b").rename(folder / "b")
    _, hint = refusal(source(folder / "b"))
    code = shlex.split(hint.removeprefix("convert it: "))[2]
    place = json.dumps(str(folder / "b"), ensure_ascii=False)
    assert code.endswith(f'M.from_pretrained({place}, dtype="auto", weights_only=True).save_pretrained({place})')


def test_a_pickle_on_the_hub_is_fetched_first(tmp_path: Path) -> None:
    folder_with(tmp_path, "pytorch_model.bin", config={"architectures": ["BertModel"]})
    _, hint = refusal(source(tmp_path / "b", "org/old"))
    assert hint == (
        "convert it: hf download org/old --local-dir ./old && python -c 'from transformers import BertModel as M; "
        'M.from_pretrained("./old", dtype="auto", weights_only=True).save_pretrained("./old")\', then name ./old'
    )


def typed(hint: str) -> None:
    """Run the command of a hint as a person would."""
    program, *arguments = shlex.split(hint.removeprefix("convert it: "))
    assert program == "python"
    ran = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.real
def test_the_command_converts_a_pickle_of_transformers(tmp_path: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    folder = tmp_path / "a model"
    config.architectures, config.dtype = ["LlamaForCausalLM"], "bfloat16"
    config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    typed(refusal(source(folder))[1])
    table = read_tensor_table(source(folder))
    assert sorted(table) == sorted(model.state_dict())
    assert {meta.dtype.value for meta in table.values()} == {"BF16"}


@pytest.mark.real
def test_the_command_converts_a_bare_state_dict(tmp_path: Path) -> None:
    import torch

    shared = torch.arange(6.0).reshape(2, 3)
    folder = folder_with(tmp_path, "net.pt", config={"model_type": "toy"})
    torch.save({"state_dict": {"w": shared, "turned": shared.T}}, folder.folder / "net.pt")
    typed(refusal(folder)[1])
    written = load_file(folder.folder / "model.safetensors")
    assert {name: values.tolist() for name, values in written.items()} == {
        "w": shared.tolist(),
        "turned": shared.T.tolist(),
    }


@pytest.mark.real
def test_the_command_converts_a_pickled_adapter(tmp_path: Path) -> None:
    import torch

    folder = folder_with(tmp_path, "adapter_config.json")
    torch.save({"l.lora_A.weight": torch.ones(2, 3)}, folder.folder / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="the adapter has only pickled weights") as caught:
        read_adapter_table(folder)
    typed(caught.value.hint)
    assert [meta.shape for meta in read_adapter_table(source(folder.folder)).values()] == [(2, 3)]
