"""write_text.py LIBRARY REPO PROMPT: load REPO from the Hub by transformers or hubmerge, and let it go on from PROMPT.

Prints the class, the text, whether the logits of the prompt are finite, and the last of them.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

library, repo, prompt = sys.argv[1:]
logging.set_verbosity_error()
logging.disable_progress_bar()
if library == "hubmerge":
    from hubmerge import AutoMergedModel

    model = AutoMergedModel.from_pretrained(repo)
else:
    model = AutoModelForCausalLM.from_pretrained(repo)
    assert not [name for name in sys.modules if name.split(".")[0] in {"hubmerge", "zoo_index", "cards"}]
tokenizer = AutoTokenizer.from_pretrained(repo)
inputs = tokenizer(prompt, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
written = model.generate(**inputs, max_new_tokens=24, do_sample=False)[0, inputs["input_ids"].shape[1] :]
answer = {
    "class": type(model).__name__,
    "dtype": str(model.dtype),
    "text": tokenizer.decode(written, skip_special_tokens=True),
    "finite": bool(torch.isfinite(logits).all()),
    "logits": logits[0, -1].tolist(),
}
print(json.dumps(answer))  # noqa: T201 - the answer
