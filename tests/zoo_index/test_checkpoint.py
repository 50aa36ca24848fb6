"""Which files are a model's weights, and what is refused before a weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo_builders import safetensors, source_of, write_adapter, write_files, write_model

from zoo_index import CheckpointError
from zoo_index.checkpoint import read_adapter_table, read_config, read_json, read_tensor_table

LFS_POINTER = b"""version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
"""
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
REFETCH = "fetch the model again, or save it again with save_pretrained"


def sharded(folder: Path, weight_map: Any = None) -> Path:
    """Tensor a in the first shard, b in the second; `weight_map` in place of the true index."""
    index = weight_map if weight_map is not None else {"a": SHARDS[0], "b": SHARDS[1]}
    write_files(
        folder,
        {
            "config.json": {"model_type": "llama"},
            SHARDS[0]: safetensors({"a": np.zeros(2, "float32")}),
            SHARDS[1]: safetensors({"b": np.zeros((3, 2), "float16")}),
            "model.safetensors.index.json": {"weight_map": index},
        },
    )
    return folder


def refusal(folder: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as refused:
        read_tensor_table(source_of(folder))
    return refused.value


def test_a_single_file_is_read(tmp_path: Path) -> None:
    table = read_tensor_table(source_of(write_model(tmp_path, tensors={"w": np.zeros((2, 5), "float32")})))
    assert [(m.name, m.shape, m.file) for m in table.values()] == [("w", (2, 5), "model.safetensors")]
    assert list(table.headers) == ["model.safetensors"]


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    table = read_tensor_table(source_of(sharded(tmp_path)))
    assert [(m.name, m.file) for m in table.values()] == [("a", SHARDS[0]), ("b", SHARDS[1])]
    assert table.files == SHARDS
    assert table.parameters == 8


def test_the_bytes_a_table_points_to_are_the_tensors_own(tmp_path: Path) -> None:
    weights = {"x": np.arange(6, dtype="float32"), "y": np.arange(3, dtype="float16") + 7}
    source = source_of(write_model(tmp_path, tensors=weights))
    for name, meta in read_tensor_table(source).items():
        assert source.read(meta.file, meta.start, meta.end) == weights[name].tobytes()


def test_a_shard_missing_from_the_folder_is_refused(tmp_path: Path) -> None:
    (sharded(tmp_path) / SHARDS[1]).unlink()
    fault = refusal(tmp_path)
    assert fault.message == f"the index names {SHARDS[1]}, which is not in the folder"
    assert (fault.where, fault.hint) == (f"{tmp_path}/model.safetensors.index.json", REFETCH)


def test_a_shard_missing_from_the_index_is_refused(tmp_path: Path) -> None:
    assert refusal(sharded(tmp_path, {"a": SHARDS[0]})).message == f"{SHARDS[1]} is in the folder but not in the index"


def test_an_index_that_points_outside_the_folder_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, {"secret.safetensors": safetensors({"b": np.zeros(1, "float32")})})
    fault = refusal(sharded(tmp_path / "model", {"a": SHARDS[0], "b": "../secret.safetensors"}))
    assert fault.message == "'../secret.safetensors' points outside the model's folder"


def test_an_index_that_names_another_shard_than_the_one_that_holds_it_is_refused(tmp_path: Path) -> None:
    fault = refusal(sharded(tmp_path, {"a": SHARDS[1], "b": SHARDS[0]}))
    assert fault.message == f"tensor 'a': the index says {SHARDS[1]}, {SHARDS[0]} holds it"


def test_a_tensor_the_index_does_not_know_is_refused(tmp_path: Path) -> None:
    sharded(tmp_path)
    write_files(tmp_path, {SHARDS[0]: safetensors({"a": np.zeros(2, "float32"), "extra": np.zeros(1, "float32")})})
    assert refusal(tmp_path).message == f"tensor 'extra': the index says nothing about it, {SHARDS[0]} holds it"


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    sharded(tmp_path)
    write_files(tmp_path, {SHARDS[1]: safetensors({"a": np.zeros(2, "float32"), "b": np.zeros((3, 2), "float16")})})
    assert refusal(tmp_path).message == f"tensor 'a' is in both {SHARDS[0]} and {SHARDS[1]}"


@pytest.mark.parametrize("adapter", [False, True])
def test_weights_that_git_lfs_has_not_fetched_are_named_so(tmp_path: Path, adapter: bool) -> None:
    name = "adapter_model.safetensors" if adapter else "model.safetensors"
    write_files(tmp_path, {"config.json": {"model_type": "llama"}, name: LFS_POINTER})
    with pytest.raises(CheckpointError) as refused:
        (read_adapter_table if adapter else read_tensor_table)(source_of(tmp_path))
    assert str(refused.value) == (
        f"the file is a Git LFS pointer, not the weights it points to · {tmp_path}/{name} · "
        "run `git lfs pull` in the repository it was cloned to"
    )


@pytest.mark.parametrize("weight_map", [[], "x", {"a": 1}])
def test_an_index_without_a_map_of_names_is_refused(tmp_path: Path, weight_map: object) -> None:
    assert refusal(sharded(tmp_path, weight_map)).message == "the index has no weight_map of names to files"


def test_a_single_file_beside_an_index_is_ambiguous(tmp_path: Path) -> None:
    write_model(sharded(tmp_path), config={"model_type": "llama"}, tensors={"a": np.zeros(1, "float32")})
    assert refusal(tmp_path).hint == "delete the stale one"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"pytorch_model.bin": b"x"}, "only pickled weights (pytorch_model.bin), which can run code when read"),
        ({"m.Q4.gguf": b"x"}, "only GGUF weights (m.Q4.gguf)"),
        ({"training_args.bin": b"x"}, "no safetensors weights"),
        ({}, "no safetensors weights"),
    ],
)
def test_weights_that_are_not_safetensors_are_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    write_files(tmp_path, {"config.json": {}, **files})
    assert refusal(tmp_path).message == message


def test_an_adapter_asked_for_as_a_model_is_told_how_to_be_named(tmp_path: Path) -> None:
    fault = refusal(write_adapter(tmp_path))
    assert (fault.message, fault.hint) == (
        "an adapter, not a model",
        "name its base too: base+adapter; a recipe of adapters alone has a basis: knots, core or none",
    )
    with pytest.raises(CheckpointError, match="an adapter, not a model"):
        read_config(source_of(tmp_path))


def test_an_adapter_is_read(tmp_path: Path) -> None:
    table = read_adapter_table(source_of(write_adapter(tmp_path, r=2)))
    assert [meta.shape for meta in table.values()] == [(2, 8), (8, 2)]


def test_a_pickled_adapter_is_refused(tmp_path: Path) -> None:
    (write_adapter(tmp_path) / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="only pickled weights, which can run code when read"):
        read_adapter_table(source_of(tmp_path))


def test_a_quantised_model_is_refused_by_its_method(tmp_path: Path) -> None:
    write_files(tmp_path, {"config.json": {"quantization_config": {"quant_method": "gptq"}}})
    with pytest.raises(CheckpointError) as refused:
        read_config(source_of(tmp_path))
    assert str(refused.value) == (
        f"the model is quantised (gptq); its packed numbers cannot be averaged · {tmp_path} · "
        "use the unquantised model it was made from"
    )


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json, so this is not a model folder"):
        read_config(source_of(tmp_path))


@pytest.mark.parametrize("content", [b"{nope", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"1" * 5000 + b"}"])
def test_a_document_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    write_files(tmp_path, {"config.json": content})
    with pytest.raises(CheckpointError, match=r"config\.json is not JSON"):
        read_json(source_of(tmp_path), "config.json")


def test_a_document_that_is_not_an_object_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, {"config.json": [1]})
    with pytest.raises(CheckpointError, match=r"config\.json is not a JSON object"):
        read_json(source_of(tmp_path), "config.json")
    assert read_json(source_of(tmp_path), "other.json") is None


def test_a_quantised_part_of_a_model_is_refused_too(tmp_path: Path) -> None:
    write_files(
        tmp_path, {"config.json": '{"model_type": "llava", "text_config": {"quantization_config": {"bits": 4}}}'}
    )
    with pytest.raises(CheckpointError, match=r"^the model is quantised \(unknown\)"):
        read_config(source_of(tmp_path))
