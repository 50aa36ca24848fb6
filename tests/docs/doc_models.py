"""The models that the documentation speaks of, small and untrained: the demo's, and a few under Hub names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"

_CARD = "---\nlicense: apache-2.0\npipeline_tag: {task}\n{lineage}---\n\n# {name}\n\nUntrained, for tests.\n"


def write_demo_models(place: Path) -> None:
    """``hubmerge-demo/models`` as the demo leaves it, but for the training, and its pictures without labels."""
    from hubmerge.demo.digits import load_split, write_unlabelled
    from hubmerge.demo.training import image_processor, new_model

    write_unlabelled(load_split(0).unlabelled, place / "hubmerge-demo" / "unlabelled")
    models = place / "hubmerge-demo" / "models"
    base = new_model((16, 32, 64), seed=0)
    for number, name in enumerate(("digits-base", "digits-low", "digits-high")):
        model = base if number == 0 else _changed(new_model((16, 32, 64), seed=0), seed=number)
        _save(model, models / name, "image-classification", "digits-base" if number else None)
        image_processor().save_pretrained(models / name)
    _save(new_model((24, 48, 96), seed=2), models / "digits-high-wide", "image-classification", None)
    image_processor().save_pretrained(models / "digits-high-wide")


def write_hub_models(cache: Path) -> None:
    """org/base, org/math and org/code, and the adapters org/lora and org/lora-code of the first, as the Hub cache holds them."""
    for number, name in enumerate(("base", "math", "code")):
        model = _language_model() if number == 0 else _changed(_language_model(), seed=number)
        folder = _snapshot(cache, f"org/{name}")
        _save(model, folder, "text-generation", "org/base" if number else None)
        _tokenizer().save_pretrained(folder)
    for number, name in enumerate(("lora", "lora-code")):
        _write_adapter(_snapshot(cache, f"org/{name}"), number)


def _snapshot(cache: Path, name: str) -> Path:
    repository = cache / f"models--{name.replace('/', '--')}"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return folder


def _language_model() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=8, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=32, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ("<s>", "</s>", "<unk>", "one", "two", "three", "and", "is")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _changed(model: Any, seed: int) -> Any:
    """The model as if it had been trained on: every float parameter moved a little."""
    import torch

    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=random))
    return model


def _save(model: Any, folder: Path, task: str, base: str | None) -> None:
    model.save_pretrained(folder)
    lineage = f"base_model: {base}\nbase_model_relation: finetune\n" if base else ""
    (folder / "README.md").write_text(_CARD.format(task=task, lineage=lineage, name=folder.name))


def _write_adapter(folder: Path, seed: int) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    random = np.random.default_rng(seed)
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    factors = {"lora_A": (2, 16), "lora_B": (16, 2)}
    tensors = {
        f"{prefix}.{name}.weight": random.normal(size=shape).astype(np.float32) for name, shape in factors.items()
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA", "base_model_name_or_path": "org/base", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"],
        "layers_to_transform": [0], "task_type": "CAUSAL_LM", "bias": "none", "fan_in_fan_out": False,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
