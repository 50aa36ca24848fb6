"""train_adapter.py BASE STEPS NAME: a LoRA adapter of BASE, trained on NAME.txt, saved as ./lora-NAME, published as ada/lora-NAME.

Prints the mean loss of the last quarter of the steps.
"""

import json
import random
import sys
from pathlib import Path

import torch
from huggingface_hub import HfApi, ModelCard
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

ROWS, LENGTH, RATE = 4, 96, 2e-3

base, steps, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
logging.set_verbosity_error()
logging.disable_progress_bar()
torch.manual_seed(0)
choose = random.Random(0)
tokenizer = AutoTokenizer.from_pretrained(base)
tokens = torch.tensor(tokenizer(Path(f"{name}.txt").read_text(encoding="utf-8"), verbose=False)["input_ids"])
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
# PEFT keeps the adapter itself in float32
lora = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
adapted = get_peft_model(model, lora).train()
optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=RATE)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.05, total_iters=steps)
losses = []
for _ in range(steps):
    starts = [choose.randrange(len(tokens) - LENGTH) for _ in range(ROWS)]
    batch = torch.stack([tokens[start : start + LENGTH] for start in starts])
    loss = adapted(input_ids=batch, labels=batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    schedule.step()
    losses.append(loss.item())

repo, folder = f"ada/lora-{name}", Path(f"lora-{name}")
adapted.save_pretrained(folder)
card = ModelCard.load(folder / "README.md")  # PEFT's card names the base; the licence is for the author to say
card.data.license = "apache-2.0"
card.save(folder / "README.md")
api = HfApi()
api.create_repo(repo)
api.upload_folder(repo_id=repo, folder_path=folder)
quarter = steps // 4
print(json.dumps({"loss": sum(losses[-quarter:]) / quarter}))  # noqa: T201 - the answer
