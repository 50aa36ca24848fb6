"""encode.py LIBRARY MODEL FILE: the sentence vectors of the JSON list of texts in FILE, by AutoModel or AutoMergedModel.

Pooling and normalising are done as the model's own modules.json and 1_Pooling/config.json say: the mean over tokens, then length 1.
"""

import json
import sys
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

library, name, file = sys.argv[1:]
logging.set_verbosity_error()
logging.disable_progress_bar()


def told(path):
    found = Path(name) / path if Path(name).is_dir() else hf_hub_download(name, path)
    return json.loads(Path(found).read_text(encoding="utf-8"))


kinds = [module["type"].rpartition(".")[2] for module in told("modules.json")]
assert kinds == ["Transformer", "Pooling", "Normalize"], kinds
assert told("1_Pooling/config.json")["pooling_mode_mean_tokens"]

if library == "hubmerge":
    from hubmerge import AutoMergedModel

    model = AutoMergedModel.from_pretrained(name)
else:
    model = AutoModel.from_pretrained(name)
tokenizer = AutoTokenizer.from_pretrained(name)
length = told("sentence_bert_config.json")["max_seq_length"]
texts = json.loads(Path(file).read_text(encoding="utf-8"))
vectors = []
for at in range(0, len(texts), 32):
    inputs = tokenizer(texts[at : at + 32], padding=True, truncation=True, max_length=length, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state.float()
    mask = inputs["attention_mask"].unsqueeze(-1)
    vectors += torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).tolist()
print(json.dumps({"class": type(model).__name__, "vectors": vectors}))  # noqa: T201 - the answer
