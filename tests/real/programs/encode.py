"""encode.py LIBRARY FILE MODEL...: each model's sentence vectors of the JSON list of texts in FILE, by AutoModel or AutoMergedModel.

Pooling and normalising are done as the model's own modules.json and 1_Pooling/config.json say: the mean over tokens, then length 1.
"""

import json
import sys
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from transformers import AutoTokenizer
from transformers.utils import logging

library, file, names = sys.argv[1], sys.argv[2], sys.argv[3:]
logging.set_verbosity_error()
logging.disable_progress_bar()
if library == "hubmerge":
    from hubmerge import AutoMergedModel as Auto
else:
    from transformers import AutoModel as Auto


def told(name, path):
    found = Path(name) / path if Path(name).is_dir() else hf_hub_download(name, path)
    return json.loads(Path(found).read_text(encoding="utf-8"))


def encoded(name, texts):
    kinds = [module["type"].rpartition(".")[2] for module in told(name, "modules.json")]
    assert kinds == ["Transformer", "Pooling", "Normalize"], kinds
    assert told(name, "1_Pooling/config.json")["pooling_mode_mean_tokens"]
    length = told(name, "sentence_bert_config.json")["max_seq_length"]
    model, tokenizer = Auto.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state.float()
    mask = inputs["attention_mask"].unsqueeze(-1)
    vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    return {"class": type(model).__name__, "vectors": vectors.tolist()}


texts = json.loads(Path(file).read_text(encoding="utf-8"))
print(json.dumps({name: encoded(name, texts) for name in names}))  # noqa: T201 - the answer
