"""tune_encoder.py BASE STEPS NAME: a fine-tune of the sentence encoder BASE, saved as ./minilm-NAME, published as ada/minilm-NAME.

Contrastive training on the pairs in NAME.jsonl, with the other pairs of a batch as negatives (van den Oord et al. 2018,
arXiv:1807.03748, equation 4).  Prints the mean loss on 64 held-out pairs, of the base and of the fine-tune.
"""

import json
import sys
from pathlib import Path

import torch
from huggingface_hub import HfApi, snapshot_download
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

ROWS, LENGTH, RATE, SCALE = 16, 32, 5e-5, 20.0

base, steps, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
logging.set_verbosity_error()
logging.disable_progress_bar()
tokenizer = AutoTokenizer.from_pretrained(base)


def embed(model, texts):
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    hidden, mask = model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


def contrast(model, pairs):
    scores = SCALE * embed(model, [left for left, _ in pairs]) @ embed(model, [right for _, right in pairs]).T
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(pairs)))


def held_out_loss(model, pairs):
    with torch.no_grad():
        batches = [pairs[at : at + ROWS] for at in range(0, len(pairs), ROWS)]
        return sum(float(contrast(model.eval(), batch)) for batch in batches) / len(batches)


torch.manual_seed(0)
pairs = [json.loads(line) for line in Path(f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
held_out, pairs = pairs[: 4 * ROWS], pairs[4 * ROWS :]
model = AutoModel.from_pretrained(base)
before = held_out_loss(model, held_out)
optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
for step in range(steps):
    at = step * ROWS % (len(pairs) - ROWS)
    contrast(model.train(), pairs[at : at + ROWS]).backward()
    optimizer.step()
    optimizer.zero_grad()
losses = [before, held_out_loss(model, held_out)]

repo, folder = f"ada/minilm-{name}", Path(f"minilm-{name}")
snapshot_download(base, local_dir=folder, ignore_patterns=["*.safetensors", "README.md", ".gitattributes"])
model.save_pretrained(folder)
card = f"---\nlicense: apache-2.0\nlanguage: en\nbase_model: {base}\nbase_model_relation: finetune\n---\n# {repo}\n"
(folder / "README.md").write_text(card, encoding="utf-8")
api = HfApi()
api.create_repo(repo)
api.upload_folder(repo_id=repo, folder_path=folder, ignore_patterns=[".cache/**"])
print(json.dumps(losses))  # noqa: T201 - the answer
