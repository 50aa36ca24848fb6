"""Parents that are of another kind or of another shape: refused before a weight is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad.models import CONFIG, LINEAR, SHAPES, A, B, lora, refusal, tensors, text, two_models_in
from zoo import write_adapter, write_model

from hubmerge import build_plan

WEIGHTS = "model.safetensors"
SAVE = "fetch or save it again"


@pytest.fixture(autouse=True)
def two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return two_models_in(tmp_path, monkeypatch)


def config(**changes: Any) -> Callable[[], None]:
    return lambda: (B / "config.json").write_text(json.dumps({**CONFIG, **changes})) and None


def renamed(name: str) -> Callable[[], None]:
    return lambda: (B / WEIGHTS).rename(B / name) and None


def emptied() -> None:
    for path in B.iterdir():
        path.unlink()


def removed() -> None:
    emptied()
    B.rmdir()


def replaced_by_a_file() -> None:
    removed()
    B.write_text("x")


def adapter_instead() -> None:
    emptied()
    write_adapter(B, {"model.norm.lora_A.weight": np.zeros((2, 2), "float32")})


NOT_A_MODEL: dict[str, tuple[Callable[[], None], str]] = {
    "no folder": (removed, "b does not exist · ./b · looked from {cwd}"),
    "a file": (replaced_by_a_file, "b is a file, not a model folder · ./b · name the folder that holds config.json and the safetensors files"),
    "an empty folder": (emptied, "no config.json, so this is not a model folder · ./b · name the folder that from_pretrained would take"),
    "no weights": ((B / WEIGHTS).unlink, "no safetensors weights · ./b · expected model.safetensors or model.safetensors.index.json"),
    "only pickle": (renamed("pytorch_model.bin"), ("only pickled weights (pytorch_model.bin), which can run code when read · ./b · "
                    "convert it: python -c 'from transformers import LlamaForCausalLM as M; "
                    'M.from_pretrained("./b", dtype="auto", weights_only=True).save_pretrained("./b")\'')),
    "no GGUF": (renamed("b.Q4_K.gguf"), "b.Q4_K.gguf is not a GGUF file · ./b · fetch it again"),
    "an adapter": (adapter_instead, ("an adapter, not a model · ./b · name its base too: base+adapter; "
                   "a recipe of adapters alone has a basis: knots, core or none")),
    "quantised": (config(quantization_config={"quant_method": "gptq"}), ("the model is quantised (gptq); its packed numbers cannot be averaged · "
                  "./b · use the unquantised model it was made from")),
    "a config of no JSON": (text("config.json", "{"), ("config.json is not JSON (Expecting property name enclosed in double quotes: "
                            f"line 1 column 2 (char 1)) · ./b · {SAVE}")),
    "a config that is a list": (text("config.json", "[]"), f"config.json is not a JSON object · ./b · {SAVE}"),
    "a config that is no text": (text("config.json", b"\xff"), ("config.json is not JSON ('utf-8' codec can't decode byte 0xff in position 0: "
                                 f"invalid start byte) · ./b · {SAVE}")),
    "a config without end": (text("config.json", "[" * 99_999), ("config.json is not JSON (maximum recursion depth exceeded while decoding a "
                             f"JSON array from a unicode string) · ./b · {SAVE}")),
}  # fmt: skip


@pytest.mark.parametrize("kind", NOT_A_MODEL)
def test_a_folder_that_is_no_model_to_merge_is_refused(kind: str, two_models: Path) -> None:
    spoil, fault = NOT_A_MODEL[kind]
    spoil()
    assert refusal() == [fault.format(cwd=two_models)]


@pytest.mark.parametrize(
    ("changes", "shapes", "fault"),
    [
        ({"hidden_size": 8, "head_dim": 4}, {name: tuple(8 if n == 4 else n for n in shape) for name, shape in SHAPES.items()},
         ("./a and ./b have different shapes: hidden_size 4 vs 8, head_dim 2 vs 4, lm_head.weight is [6, 4] vs [6, 8] · 7 tensors · "
         "same-shape methods need parents of one architecture; `hubmerge zoo compatible` finds some")),
        ({"intermediate_size": 12}, {**SHAPES, **{f"model.layers.{i}.mlp.up_proj.weight": (12, 4) for i in (0, 1)}},
         ("./a and ./b have different shapes: intermediate_size 8 vs 12, model.layers.0.mlp.up_proj.weight is [8, 4] vs [12, 4] · 2 tensors · "
         "align: weights in the recipe brings them to one width first; `hubmerge zoo why` says what is left out")),
        ({"vocab_size": 9}, {**SHAPES, "lm_head.weight": (9, 4), "model.embed_tokens.weight": (9, 4)},
         ("./a and ./b have different shapes: vocab_size 6 vs 9, lm_head.weight is [6, 4] vs [9, 4] · 2 tensors · "
         "write tokenizer_source: union, base or one of the models, and rows are merged token by token")),
        ({"num_hidden_layers": 3}, {**SHAPES, "model.layers.2.mlp.up_proj.weight": (8, 4), "model.layers.2.self_attn.q_proj.weight": (4, 4)},
         ("2 tensors (first 'model.layers.2.mlp.up_proj.weight') of ./b are not in ./a: num_hidden_layers 2 vs 3 · models · "
         "every parent must have the same tensors; `hubmerge zoo compatible` finds such models")),
        ({}, {"other.weight": (2, 2)},
         ("tensor 'other.weight' of ./b is not in ./a; 7 tensors (first 'lm_head.weight') of ./a are not in ./b · models · "
         "every parent must have the same tensors; `hubmerge zoo compatible` finds such models")),
    ],
    ids=["width", "width of a layer inside", "vocabulary", "depth", "another architecture"],
)  # fmt: skip
def test_parents_of_other_shapes_are_refused_with_the_fields_that_differ(
    changes: dict[str, Any], shapes: dict[str, tuple[int, ...]], fault: str
) -> None:
    write_model(B, tensors(2, **shapes), config={**CONFIG, **changes})
    assert refusal() == [fault]


def test_an_untied_model_does_not_go_into_a_tied_one_but_the_other_way_round() -> None:
    tied = {name: shape for name, shape in SHAPES.items() if name != "lm_head.weight"}
    write_model(B, tensors(2, **tied), config={**CONFIG, "tie_word_embeddings": True})
    assert refusal({"merge_method": "linear", "models": [{"model": "./b"}, {"model": "./a"}]}) == [
        (
            "tensor 'lm_head.weight' of ./a is not in ./b: tie_word_embeddings true vs false · models · "
            "the first ties its head to its embeddings, the other does not: name the other as base_model"
        )
    ]
    head = next(step for step in build_plan(LINEAR).steps if step.output.name == "lm_head.weight")
    assert [operand.tensor.name for operand in head.operands] == ["lm_head.weight", "model.embed_tokens.weight"]


def test_tensors_that_are_numbers_in_one_parent_and_counts_in_another_are_one_fault() -> None:
    write_model(B, tensors(2, dtype="int64"), config=CONFIG)
    assert refusal() == [
        "7 tensors (first 'lm_head.weight'): stored as F32 and I64 by different parents · models · save the models with one dtype"
    ]


def test_a_value_that_most_tensors_have_none_of_is_one_fault() -> None:
    recipe = {"merge_method": "slerp", "base_model": "./a", "models": [{"model": "./b"}],
              "parameters": {"t": [{"filter": "mlp", "value": 0.5}]}}  # fmt: skip
    assert refusal(recipe) == [
        (
            "t has no value for 5 tensors (first 'lm_head.weight') · parameters.t · "
            "end its filters with one value for all other tensors"
        )
    ]


def test_weights_that_cancel_in_some_layers_are_one_fault_for_all_of_them() -> None:
    rows = [{"model": "./a", "parameters": {"weight": [0, 0.5]}}, {"model": "./b", "parameters": {"weight": [0, -0.5]}}]
    # 0 and 0 in the embeddings and layer 0, 0.5 and -0.5 in layer 1, norm and head
    (fault,) = refusal({"merge_method": "linear", "models": rows})
    assert fault.startswith(
        "weights [0.5, -0.5] sum to zero, so they cannot be normalised: 7 tensors (first 'lm_head.weight')"
    )


def test_one_model_under_two_names_is_refused() -> None:
    Path("link").symlink_to("a")
    assert refusal({"merge_method": "linear", "models": [{"model": "./a"}, {"model": "./link"}]}) == [
        "./a and ./link are one and the same model · models · name it once, and in one way"
    ]
    assert refusal({"merge_method": "ties", "base_model": str(A.resolve()), "models": [{"model": "./a"}]}) == [
        f"./a and {A.resolve()} are one and the same model · models · name it once, and in one way"
    ]


def test_two_adapters_on_one_base_are_two_models() -> None:
    for name in ("k", "l"):
        lora(Path(name))
    assert (
        len(build_plan({"merge_method": "linear", "models": [{"model": "./a+./k"}, {"model": "./a+./l"}]}).parents) == 2
    )


def test_the_faults_of_all_parents_are_told_together() -> None:
    removed()
    (A / "config.json").write_text("[]")
    recipe = {"merge_method": "linear", "models": [{"model": "./a"}, {"model": "./b"}, {"model": "./c"}]}
    assert [fault.split(" · ")[:2] for fault in refusal(recipe)] == [
        ["config.json is not a JSON object", "./a"],
        ["b does not exist", "./b"],
        ["c does not exist", "./c"],
    ]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (
            "./" + "n" * 300,
            f"it cannot be opened (File name too long) · '{'./' + 'n' * 74}... · check the path and its permissions",
        ),
        ("./b\0", "b\0 does not exist · ./b\0 · did you mean b?"),
    ],
)
def test_names_that_no_folder_can_have_are_refused(name: str, fault: str) -> None:
    assert refusal({"merge_method": "linear", "models": [{"model": "./a"}, {"model": name}]}) == [fault]


def test_a_config_that_cannot_be_written_again_is_refused() -> None:
    (A / "config.json").write_text(json.dumps({**CONFIG, "note": "\ud800"}))
    assert refusal() == [f"the config holds half a surrogate pair, which is no text · ./a/config.json · {SAVE}"]
    (A / "config.json").write_text(json.dumps(CONFIG)[:-1] + ', "x": ' + "[" * 200 + "]" * 200 + "}")
    assert refusal() == ["the metadata holds values nested deeper than 64 · ./a/config.json · make it smaller"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_refused() -> None:
    B.chmod(0)
    try:
        (fault,) = refusal()
    finally:
        B.chmod(0o755)
    assert "Permission denied" in fault
