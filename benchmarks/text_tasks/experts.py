"""Experts: the base trained on one task, all of it or by LoRA; ordinary folders of transformers and of PEFT, kept in the cache."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.heterogeneous.keeping import is_kept, keep
from benchmarks.text_tasks.models import encoded, head_of, opened
from benchmarks.text_tasks.pieces import Parts
from benchmarks.text_tasks.settings import TASKS, Task
from benchmarks.text_tasks.trainings import Base, Training

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["expert", "expert_folder", "train"]


def expert_folder(folder: Path, training: Training, task: Task) -> Path:
    """Where an expert lies; folder: that of the base."""
    return folder.parent / f"{training.kind}-{task.name}"


def expert(
    folder: Path, base: Base, training: Training, task: Task, seed: int, parts: Parts, facts: Mapping[str, Any]
) -> None:
    """Train the expert of a task where it is not kept; folder: the base's."""
    from transformers import AutoTokenizer

    place = expert_folder(folder, training, task)
    if is_kept(place, facts):
        return
    begun = time.perf_counter()
    model = opened(folder)
    for parameter in head_of(model).parameters():
        parameter.requires_grad_(False)
    if training.kind == "lora":
        model = _with_lora(model, base, training, seed)
    tokenizer = AutoTokenizer.from_pretrained(folder.parent / "tokenizer")
    loss = train(model, encoded(tokenizer, parts.train.texts, base.tokens), parts.train.labels, task, training, seed)
    seconds = time.perf_counter() - begun
    keep(model, place, facts, loss=round(loss, 3), seconds=round(seconds, 1))
    print(f"{base.name} seed {seed} {place.name}: loss {loss:.3f}, {seconds:.0f} s", flush=True)


def train(
    model: Any,
    inputs: tuple[Tensor, Tensor],
    labels: tuple[int, ...],
    task: Task,
    training: Training,
    seed: int,
) -> float:
    """Train in place, with the loss on the task's own columns alone; returns the mean loss of the last tenth of the steps.

    Every piece of a batch has a label drawn first and is then drawn among those that have it.  Padding at the end of a whole batch is
    left out.
    """
    import torch

    generator = torch.Generator().manual_seed(1000 * seed + TASKS.index(task))
    own = torch.tensor(labels)
    rows = [torch.nonzero(own == column).flatten() for column in task.columns]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=training.rate, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=training.rate, total_steps=training.steps)
    model.train()
    losses: list[float] = []
    for _ in range(training.steps):
        drawn = torch.randint(len(rows), (training.batch,), generator=generator)
        shown = torch.stack(
            [rows[label][torch.randint(len(rows[label]), (1,), generator=generator)] for label in drawn.tolist()]
        ).flatten()
        ids, mask = (each[shown] for each in inputs)
        length = int(mask.sum(1).max())
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids[:, :length], attention_mask=mask[:, :length]).logits
        loss = torch.nn.functional.cross_entropy(logits[:, task.columns.start : task.columns.stop].float(), drawn)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    last = losses[-max(1, training.steps // 10) :]
    return sum(last) / len(last)


def _with_lora(model: Any, base: Base, training: Training, seed: int) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=training.rank, lora_alpha=training.rank, target_modules=list(base.targets), lora_dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, config)
