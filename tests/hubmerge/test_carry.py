"""What goes along with the weights, and what stays behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bad.models import LINEAR, llama, refusal, two_models_in

from hubmerge import build_plan
from hubmerge.carry import merged_config
from zoo_index.tensors import DType


@pytest.fixture(autouse=True)
def two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return two_models_in(tmp_path, monkeypatch)


def put(folder: str, *names: str) -> None:
    for name in names:
        path = Path(folder, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")


def carried(recipe: dict[str, object] = LINEAR) -> list[tuple[str, int]]:  # type: ignore[assignment]
    return [(file.name, file.parent) for file in build_plan(recipe).carried]


def test_config_and_processor_go_along_from_the_first_model() -> None:
    put("a", "generation_config.json", "preprocessor_config.json")
    put("b", "generation_config.json", "processor_config.json")
    assert carried() == [("generation_config.json", 0), ("preprocessor_config.json", 0)]


def test_the_base_gives_its_files_though_it_comes_last() -> None:
    put("b", "generation_config.json", "tokenizer.json")
    assert carried({"merge_method": "ties", "base_model": "./b", "models": [{"model": "./a"}]}) == [
        ("generation_config.json", 1),
        ("tokenizer.json", 1),
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"],
        ["merges.txt", "vocab.json"],
        ["vocab.txt"],
        ["tokenizer.model", "tokenizer.model.v3"],
        ["source.spm", "target.spm", "vocab.json"],
        ["spm.model"],
        ["sentencepiece.bpe.model"],
        ["additional_chat_templates/rag.jinja", "tokenizer.json"],
        ["tokenization_custom.py", "tokenizer_config.json"],
    ],
)
def test_tokenizers_of_every_kind_go_along_whole(names: list[str]) -> None:
    put("a", *names)
    assert [name for name, _ in carried()] == sorted(names)


def test_all_of_a_tokenizer_comes_from_one_model() -> None:
    put("a", "tokenizer.json", "merges.txt")
    put("b", "tokenizer.json", "vocab.json")
    for folder in ("a", "b"):
        Path(folder, "tokenizer.json").write_text('{"model": {"type": "WordLevel", "vocab": {"x": 0}}}')
    assert carried({**LINEAR, "tokenizer_source": "./b"}) == [("tokenizer.json", 1), ("vocab.json", 1)]


def test_a_sentence_transformers_folder_keeps_its_modules() -> None:
    put("a", "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling/config.json")
    assert [name for name, _ in carried()] == [
        "1_Pooling/config.json",
        "config_sentence_transformers.json",
        "modules.json",
        "sentence_bert_config.json",
    ]


@pytest.mark.parametrize("name", ["2_Dense/model.safetensors", "2_Dense/pytorch_model.bin"])
def test_a_module_with_weights_of_its_own_is_refused_since_it_would_be_lost(name: str) -> None:
    put("a", "modules.json", "2_Dense/config.json", name)
    assert refusal() == [
        (
            f"{name} holds weights of a sentence-transformers module, which this version does not merge · ./a · "
            "merge the transformer alone: copy its folder without modules.json"
        )
    ]


def test_everything_else_stays_behind_and_is_listed() -> None:
    put(
        "a",
        "README.md",
        "training_args.bin",
        "optimizer.pt",
        "onnx/model.onnx",
        "pytorch_model.bin",
        "adapter_config.json",
    )
    assert build_plan(LINEAR).left == (
        "README.md", "adapter_config.json", "onnx/model.onnx", "optimizer.pt", "pytorch_model.bin", "training_args.bin",
    )  # fmt: skip


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_of_the_config_only_the_dtype_changes_in_its_own_dialect(key: str) -> None:
    config = {"model_type": "x", key: "float32", "text_config": {key: "float32", "n": 1}, "_name_or_path": "/home/me/x"}
    assert merged_config(config, DType.BF16) == {
        "model_type": "x",
        key: "bfloat16",
        "text_config": {key: "bfloat16", "n": 1},
    }
    assert config["text_config"] == {key: "float32", "n": 1}


def test_a_config_without_dtype_gets_one() -> None:
    assert merged_config({"model_type": "x"}, DType.F16) == {"model_type": "x", "dtype": "float16"}


def test_the_dtype_of_the_config_is_that_of_most_entries() -> None:
    llama(Path("a"), dtype="float16")
    assert build_plan({"merge_method": "passthrough", "models": [{"model": "./a"}]}).config["dtype"] == "float16"
    assert json.loads(Path("a/config.json").read_text())["dtype"] == "float32"
