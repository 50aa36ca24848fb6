"""Merges of models with different tokenizers, as transformers loads them: text goes round, ids and rows fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hubmerge import AutoMergedModel, merge, verify_merge

SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
PROSE = ["the rows of the embeddings are merged token by token, and the head follows"] * 5
CODE = ["def merge(rows): return [row for row in rows if row is not None]"] * 5
EMBED = "model.embed_tokens.weight"


def trained(text: list[str], size: int, special: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(text, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0])


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """prose and code: two small models with byte-level BPE of their own; code's has <|tool|>."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    specials = {"prose": ["<|end|>"], "code": ["<|end|>", "<|tool|>"]}
    for seed, (name, text) in enumerate({"prose": PROSE, "code": CODE}.items()):
        tokenizer = trained(text, 300, specials[name])
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**SIZES, vocab_size=len(tokenizer), num_key_value_heads=2))
        model.save_pretrained(name)
        tokenizer.save_pretrained(name)
    rows = [{"model": f"./{name}", "parameters": {"weight": 1}} for name in specials]
    return {"merge_method": "linear", "models": rows, "tokenizer_source": "union"}


def test_text_of_both_models_goes_round_and_reaches_the_tokens_of_both(recipe: dict[str, Any]) -> None:
    merge(recipe, "out", jobs=1)
    tokenizer, prose, code = (AutoTokenizer.from_pretrained(name) for name in ("out", "prose", "code"))
    model = AutoModelForCausalLM.from_pretrained("out")
    assert len(tokenizer) == model.get_input_embeddings().weight.shape[0] == model.config.vocab_size
    for text in (*PROSE[:1], *CODE[:1], "a <|tool|> é 😀\n\tend<|end|>"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert len(ids) <= max(len(prose(text)["input_ids"]), len(code(text)["input_ids"]))
        assert torch.isfinite(model(torch.tensor([ids])).logits).all()
    assert tokenizer("<|tool|>")["input_ids"] == [prose.vocab_size]  # the first after prose's ids
    assert tokenizer.tokenize(PROSE[0]) == prose.tokenize(PROSE[0])


def test_every_row_is_that_of_its_token(recipe: dict[str, Any]) -> None:
    merge(recipe, "out", jobs=1)
    ids = {name: AutoTokenizer.from_pretrained(name).get_vocab() for name in ("out", "prose", "code")}
    rows = {name: load_file(f"{name}/model.safetensors")[EMBED] for name in ids}
    for token, number in ids["out"].items():
        held = [rows[name][ids[name][token]] for name in ("prose", "code") if token in ids[name]]
        assert torch.equal(rows["out"][number], torch.stack(held * (3 - len(held))).mean(0))


def test_a_recipe_loads_with_the_rows_that_a_merge_writes(recipe: dict[str, Any]) -> None:
    asked = {**recipe, "tokenizer": {"source": "union", "pad_to_multiple_of": 64}}
    del asked["tokenizer_source"]
    merge(asked, "out", jobs=1)
    model = AutoMergedModel.from_pretrained(asked)
    stored = load_file("out/model.safetensors")
    assert model.config.vocab_size % 64 == 0
    assert torch.equal(model.get_input_embeddings().weight, stored[EMBED])
    assert torch.equal(model.get_output_embeddings().weight, stored["lm_head.weight"])
    assert verify_merge("out").passed


def test_tokenizers_whose_settings_list_added_tokens_know_the_new_ones(recipe: dict[str, Any]) -> None:
    path = Path("prose/tokenizer_config.json")
    end = {
        "content": "<|end|>",
        "special": True,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "single_word": False,
    }
    settings = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": {"0": end}, "chat_template": "T"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    merge({**recipe, "chat_template": "{{ messages }}"}, "out", jobs=1)
    tokenizer = AutoTokenizer.from_pretrained("out")
    assert "<|tool|>" in tokenizer.tokenize("call <|tool|>")
    assert tokenizer.chat_template == "{{ messages }}"


def test_rows_of_float8_with_scales_move_as_the_numbers_they_are(recipe: dict[str, Any]) -> None:
    tensors = load_file("code/model.safetensors")
    scale = torch.rand(len(tensors[EMBED]), 1) + 0.5
    small = (tensors[EMBED] / scale).to(torch.float8_e4m3fn)
    numbers = small.float() * scale
    Path("small").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        Path("small", name).write_bytes(Path("code", name).read_bytes())
    config = json.loads(Path("small/config.json").read_text())
    config["quantization_config"] = {"quant_method": "fbgemm_fp8"}
    Path("small/config.json").write_text(json.dumps(config))
    scaled = {**tensors, EMBED: small, EMBED.replace(".weight", ".weight_scale"): scale}
    save_file(scaled, "small/model.safetensors", {"format": "pt"})
    save_file({**tensors, EMBED: numbers}, "code/model.safetensors", {"format": "pt"})
    merge({**recipe, "dtype": "float32"}, "plain", jobs=1)
    recipe["models"][1]["model"] = "./small"
    merge({**recipe, "dtype": "float32"}, "out", jobs=1)
    assert torch.equal(load_file("out/model.safetensors")[EMBED], load_file("plain/model.safetensors")[EMBED])
