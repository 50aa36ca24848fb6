"""The models that the parity recipes name: tiny ones of six families, the same bytes on every machine.

mergekit merges them once, where the expected numbers come from (`benchmarks/parity`), and hubmerge in every test run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zoo

__all__ = ["MODELS", "write_models"]

Shapes = dict[str, tuple[int, ...]]

HIDDEN, INNER, HEADS, GROUPS = 16, 24, 4, 2
SPECIAL = ("<unk>", "<s>", "</s>")
PAIRS = ("ab", "cd", "ef", "gh", "ij", "kl", "ac", "bd", "eg")
WORDS = (*SPECIAL, *"abcdefghijkl", *PAIRS)
"""The vocabulary of most models: 24 tokens."""
PERMUTED = (*SPECIAL, *reversed(WORDS[3:]))
MORE_WORDS = (*SPECIAL, *"lkjihgfedcba", *PAIRS, "fh", "<tool>")
"""The same tokens at other places, and two more."""
OTHER_WORDS = (*SPECIAL, *"abcdefghijkl", *PAIRS[:6], "fh", "ik", "<end>")


def _llama(layers: int, vocabulary: int, *, tied: bool = False, biases: bool = False) -> Shapes:
    """Llama, Mistral, and with biases Qwen2: grouped keys and values."""
    head = HIDDEN // HEADS
    shapes: Shapes = {"model.embed_tokens.weight": (vocabulary, HIDDEN)}
    for i in range(layers):
        block = f"model.layers.{i}"
        shapes[f"{block}.input_layernorm.weight"] = (HIDDEN,)
        for name, rows in (("q", HIDDEN), ("k", GROUPS * head), ("v", GROUPS * head)):
            shapes[f"{block}.self_attn.{name}_proj.weight"] = (rows, HIDDEN)
            if biases:
                shapes[f"{block}.self_attn.{name}_proj.bias"] = (rows,)
        shapes[f"{block}.self_attn.o_proj.weight"] = (HIDDEN, HIDDEN)
        shapes[f"{block}.post_attention_layernorm.weight"] = (HIDDEN,)
        shapes[f"{block}.mlp.gate_proj.weight"] = (INNER, HIDDEN)
        shapes[f"{block}.mlp.up_proj.weight"] = (INNER, HIDDEN)
        shapes[f"{block}.mlp.down_proj.weight"] = (HIDDEN, INNER)
    shapes["model.norm.weight"] = (HIDDEN,)
    return shapes if tied else {**shapes, "lm_head.weight": (vocabulary, HIDDEN)}


def _gpt2(layers: int, vocabulary: int) -> Shapes:
    shapes: Shapes = {"transformer.wte.weight": (vocabulary, HIDDEN), "transformer.wpe.weight": (32, HIDDEN)}
    for i in range(layers):
        block = f"transformer.h.{i}"
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{block}.{norm}.weight": (HIDDEN,), f"{block}.{norm}.bias": (HIDDEN,)}
        for name, (rows, columns) in {
            "attn.c_attn": (HIDDEN, 3 * HIDDEN), "attn.c_proj": (HIDDEN, HIDDEN),
            "mlp.c_fc": (HIDDEN, 4 * HIDDEN), "mlp.c_proj": (4 * HIDDEN, HIDDEN),
        }.items():  # fmt: skip
            shapes |= {f"{block}.{name}.weight": (rows, columns), f"{block}.{name}.bias": (columns,)}
    return {**shapes, "transformer.ln_f.weight": (HIDDEN,), "transformer.ln_f.bias": (HIDDEN,)}


def _bert(layers: int, vocabulary: int) -> Shapes:
    shapes: Shapes = {
        "bert.embeddings.word_embeddings.weight": (vocabulary, HIDDEN),
        "bert.embeddings.position_embeddings.weight": (32, HIDDEN),
        "bert.embeddings.token_type_embeddings.weight": (2, HIDDEN),
    }

    def both(name: str, rows: int, columns: int | None = None) -> None:
        shapes[f"{name}.weight"] = (rows,) if columns is None else (rows, columns)
        shapes[f"{name}.bias"] = (rows,)

    both("bert.embeddings.LayerNorm", HIDDEN)
    for i in range(layers):
        block = f"bert.encoder.layer.{i}"
        for name in ("query", "key", "value"):
            both(f"{block}.attention.self.{name}", HIDDEN, HIDDEN)
        both(f"{block}.attention.output.dense", HIDDEN, HIDDEN)
        both(f"{block}.attention.output.LayerNorm", HIDDEN)
        both(f"{block}.intermediate.dense", INNER, HIDDEN)
        both(f"{block}.output.dense", HIDDEN, INNER)
        both(f"{block}.output.LayerNorm", HIDDEN)
    both("bert.pooler.dense", HIDDEN, HIDDEN)
    both("classifier", 2, HIDDEN)
    return shapes


def _config(model_type: str, layers: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    names = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "mistral": "MistralForCausalLM"}
    return {
        "architectures": [names[model_type]], "model_type": model_type, "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": GROUPS, "vocab_size": vocabulary,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "bos_token_id": 1,
        "eos_token_id": 2, "rope_theta": 10_000.0, **more,
    }  # fmt: skip


def _gpt2_config(layers: int, vocabulary: int) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": HIDDEN, "n_head": HEADS, "n_layer": layers,
        "n_positions": 32, "vocab_size": vocabulary, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip


def _bert_config(layers: int, vocabulary: int) -> dict[str, Any]:
    return {
        "architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": layers, "num_attention_heads": HEADS, "vocab_size": vocabulary,
        "max_position_embeddings": 32, "type_vocab_size": 2, "pad_token_id": 0,
    }  # fmt: skip


@dataclass(frozen=True)
class Model:
    """One model: its shapes, config and vocabulary; its values are those of `origin` plus a change drawn from `seed`."""

    shapes: Shapes
    config: Mapping[str, Any]
    seed: int
    origin: int
    """Seed of the base model's values."""
    stored: str = "float32"
    words: tuple[str, ...] | None = WORDS
    template: str | None = None

    def values(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The base's values, and for another seed a change of three tenths of their size.

        Every tensor, and within a table of tokens every token, has its own stream of numbers, so that models of other depth or
        vocabulary agree in what they share.
        """
        if (
            shape[0] == len(self.words or WORDS)
            and len(shape) == 2
            and ("embed" in name or "wte" in name or "head" in name)
        ):
            return np.stack([self._drawn(f"{name} {word}", shape[1:]) for word in self.words or WORDS])
        return self._drawn(name, shape)

    def _drawn(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        centre = 1.0 if "norm" in name.lower() or ".ln_" in name else 0.0
        values = centre + 0.2 * _normal(self.origin, name, shape)
        return values if self.seed == self.origin else values + 0.06 * _normal(self.seed, name, shape)


def _normal(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    key = int.from_bytes(name.encode(), "little") % (2**61 - 1)
    return np.random.default_rng([seed, key]).standard_normal(shape)


def _causal(model_type: str, seed: int, origin: int = 100, *, layers: int = 4, **more: Any) -> Model:
    words = more.pop("words", WORDS)
    stored, template = more.pop("stored", "float32"), more.pop("template", None)
    size, tied = len(words or WORDS), more.get("tie_word_embeddings", False)
    shapes = _llama(layers, size, tied=tied, biases=model_type == "qwen2")
    return Model(shapes, _config(model_type, layers, size, dtype=stored, **more), seed, origin, stored, words, template)


CHATML = "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"
PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"

MODELS: Mapping[str, Model] = {
    "llama-base": _causal("llama", 100),
    "llama-math": _causal("llama", 101, template=CHATML),
    "llama-code": _causal("llama", 102, template=CHATML),
    "llama-chat": _causal("llama", 103, template=PLAIN),
    "llama-deep": _causal("llama", 104, layers=6),
    "llama-bare": _causal("llama", 105, words=None),
    "llama-far": _causal("llama", 110, 110),
    "llama16-base": _causal("llama", 100, stored="bfloat16"),
    "llama16-math": _causal("llama", 101, stored="bfloat16"),
    "llama16-code": _causal("llama", 102, stored="bfloat16"),
    "llama-half": _causal("llama", 103, stored="float16"),
    "tied-base": _causal("llama", 100, tie_word_embeddings=True),
    "tied-math": _causal("llama", 101, tie_word_embeddings=True),
    "llama-permuted": _causal("llama", 106, words=PERMUTED),
    "llama-more": _causal("llama", 107, words=MORE_WORDS),
    "llama-other": _causal("llama", 108, words=OTHER_WORDS),
    "llama-rope": _causal("llama", 109, rope_theta=1_000_000.0, max_position_embeddings=128),
    "llama-heads": _causal("llama", 109, num_attention_heads=2, num_key_value_heads=1),
    "qwen-base": _causal("qwen2", 200, 200, layers=3, tie_word_embeddings=True),
    "qwen-math": _causal("qwen2", 201, 200, layers=3, tie_word_embeddings=True),
    "qwen-code": _causal("qwen2", 202, 200, layers=3, tie_word_embeddings=True),
    "mistral-base": _causal("mistral", 300, 300, sliding_window=32),
    "mistral-chat": _causal("mistral", 301, 300, sliding_window=32),
    "mistral-story": _causal("mistral", 302, 300, sliding_window=32),
    "gpt2-base": Model(_gpt2(3, 24), _gpt2_config(3, 24), 400, 400),
    "gpt2-story": Model(_gpt2(3, 24), _gpt2_config(3, 24), 401, 400),
    "gpt2-verse": Model(_gpt2(3, 24), _gpt2_config(3, 24), 402, 400),
    "bert-base": Model(_bert(3, 24), _bert_config(3, 24), 500, 500),
    "bert-law": Model(_bert(3, 24), _bert_config(3, 24), 501, 500),
    "bert-med": Model(_bert(3, 24), _bert_config(3, 24), 502, 500),
}


def write_models(place: Path) -> None:
    """Every model in a folder of its name under `place`, and the adapter ``llama-lora`` of llama-base."""
    for name, model in MODELS.items():
        tensors = {key: zoo.stored_as(model.values(key, shape), model.stored) for key, shape in model.shapes.items()}
        zoo.write_model(place / name, tensors, config=model.config, files=_tokenizer_files(model))
    _write_adapter(place / "llama-lora")


def _write_adapter(folder: Path) -> None:
    tensors = {}
    for i in range(4):
        for name, rows, columns in (("self_attn.q_proj", HIDDEN, HIDDEN), ("mlp.down_proj", HIDDEN, INNER)):
            module = f"model.layers.{i}.{name}"
            tensors[f"{module}.lora_A.weight"] = 0.3 * zoo.random_values((2, columns), 40 + i)
            tensors[f"{module}.lora_B.weight"] = 0.3 * zoo.random_values((rows, 2), 50 + i)
    single = {key: values.astype(np.float32) for key, values in tensors.items()}
    zoo.write_adapter(
        folder, single, base_model_name_or_path="./llama-base", target_modules=["q_proj", "down_proj"],
        task_type="CAUSAL_LM", lora_dropout=0.0, bias="none",
    )  # fmt: skip


def _tokenizer_files(model: Model) -> dict[str, str]:
    if model.words is None:
        return {}
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    if model.template:
        settings["chat_template"] = model.template
    return {"tokenizer.json": json.dumps(_tokenizer(model.words)), "tokenizer_config.json": json.dumps(settings)}


def _tokenizer(words: tuple[str, ...]) -> dict[str, Any]:
    """A tokenizer.json: byte pairs over twelve letters."""
    ids: Callable[[str], int] = words.index
    added = [word for word in words if word.startswith("<")]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": ids(word), "content": word, **flags} for word in added],
        "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {word: i for i, word in enumerate(words)},
            "merges": [[word[0], word[1]] for word in words if len(word) == 2],
        },
    }  # fmt: skip
