"""The tiny language models that are merged or carried: built, trained one after the other, and kept."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.heterogeneous.keeping import is_kept, keep
from benchmarks.heterogeneous.language_parents import train_on_blocks
from benchmarks.heterogeneous.stranger_data import held_out, losses, pieces
from benchmarks.heterogeneous.stranger_settings import CHARACTERS, PIECE, STRANGERS, TRAININGS, Architecture, Stranger

__all__ = ["new_stranger", "strangers"]


def new_stranger(architecture: Architecture, width: int) -> Any:
    """The untrained model, of torch's random numbers as they stand: two layers, heads of 16, feed-forward layers of four times the stream."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    ends: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None}
    if architecture == "llama":
        llama = LlamaConfig(
            vocab_size=len(CHARACTERS),
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=2,
            num_attention_heads=width // 16,
            max_position_embeddings=PIECE,
            **ends,
        )
        return LlamaForCausalLM(llama)
    gpt2 = GPT2Config(
        vocab_size=len(CHARACTERS),
        n_embd=width,
        n_layer=2,
        n_head=width // 16,
        n_positions=PIECE,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        **ends,
    )
    return GPT2LMHeadModel(gpt2)


def strangers(cache: Path, architecture: Architecture, seed: int) -> dict[str, Any]:
    """Every model of `STRANGERS` by its name, in float32 and evaluation mode; trained first where it is not in `cache`."""
    found: dict[str, Any] = {}
    for stranger in STRANGERS:
        found[stranger.name] = _stranger(cache, architecture, stranger, seed, found.get(stranger.start))
    return found


def _stranger(cache: Path, architecture: Architecture, stranger: Stranger, seed: int, start: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    place, training = _place(cache, architecture, stranger.name, seed), TRAININGS[stranger.stage]
    blocks = pieces()["prose" if stranger.stage == "prose" else "code"].train
    facts = {
        "stranger": asdict(stranger),
        "trainings": [asdict(TRAININGS[each.stage]) for each in _history(stranger)],
        "blocks": list(blocks.shape),
    }
    if not is_kept(place, facts):
        begun, number = time.perf_counter(), 1000 * seed + stranger.number
        with torch.random.fork_rng():
            torch.manual_seed(number)
            model = new_stranger(architecture, stranger.width)
        if start is not None:
            model.load_state_dict(start.state_dict())
        train_on_blocks(model, training, blocks, number, half=False)
        seconds = time.perf_counter() - begun
        found = losses((model,), held_out())
        keep(model, place, facts, seconds=round(seconds, 1), **{sort: round(nats, 3) for sort, nats in found.items()})
        told = ", ".join(f"{sort} {nats:.3f}" for sort, nats in found.items())
        print(f"seed {seed} {architecture} {stranger.name}: {told}, {seconds:.0f} s", flush=True)
    return AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()


def _history(stranger: Stranger) -> list[Stranger]:
    """What a model was trained as, one after the other, itself the last."""
    before = [each for each in STRANGERS if each.name == stranger.start]
    return [*(_history(before[0]) if before else ()), stranger]


def _place(cache: Path, architecture: Architecture, name: str, seed: int) -> Path:
    return cache / f"seed{seed}" / f"{architecture}64-{name}"
