"""transformers, peft and the command line against the test Hub, each in a process of its own with the whole environment.

The models have random weights and a few hundred parameters.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hub.server import HubServer
from hub.small_models import model_files

PUBLISH = """
import sys, torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from huggingface_hub import HfApi

folder = sys.argv[1]
torch.manual_seed(0)
config = LlamaConfig(vocab_size=6, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
model = LlamaForCausalLM(config)
model.push_to_hub("ada/base", max_shard_size="2KB")
words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<unk>", "a", "b", "c", "d", "</s>"])}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="</s>").push_to_hub("ada/base")

base = AutoModelForCausalLM.from_pretrained("ada/base")
adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False))
adapted.save_pretrained(folder)
api = HfApi()
api.create_repo("ada/lora")
api.upload_folder(repo_id="ada/lora", folder_path=folder)
"""

LOAD = """
import json, torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("ada/base")
ids = tokenizer("a b c", return_tensors="pt").input_ids
base = AutoModelForCausalLM.from_pretrained("ada/base", revision="v1", dtype=torch.float32)
found = {
    "ids": ids.tolist(),
    "config": AutoConfig.from_pretrained("ada/base").model_type,
    "base": base(ids).logits.sum().item(),
    "lora": AutoPeftModelForCausalLM.from_pretrained("ada/lora")(ids).logits.sum().item(),
    "again": PeftModel.from_pretrained(base, "ada/lora")(ids).logits.sum().item(),
}
print(json.dumps(found))
"""


def run(script: str, environment: dict[str, str], *arguments: str) -> str:
    """What the script prints; a failure shows its stderr."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A test Hub on which transformers and peft have published a sharded model, its tokenizer and an adapter."""
    with HubServer(tmp_path_factory.mktemp("hub")) as hub:
        home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("lora")
        run(PUBLISH, hub.environment(home, hub.token), str(folder))
        hub.repository("ada/base").refs["refs/tags/v1"] = hub.repository("ada/base").head.id
        yield hub
        assert hub.crashes == []


@pytest.fixture(scope="module")
def loaded(published, tmp_path_factory):
    """What a process reports that loads everything by repository id into an empty cache, and that cache."""
    home = tmp_path_factory.mktemp("home")
    published.log.clear()
    return json.loads(run(LOAD, published.environment(home))), home


@pytest.mark.real
def test_transformers_publishes_shards_and_a_tokenizer(published):
    files = set(published.repository("ada/base").head.tree)
    assert {"config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"} <= files
    assert sum(name.endswith(".safetensors") for name in files) > 1


@pytest.mark.real
def test_peft_publishes_an_adapter_that_names_its_base(published):
    from hub.facts import Facts

    repository = published.repository("ada/lora")
    facts = Facts(published.state, repository, repository.head)
    assert facts.json("adapter_config.json")["base_model_name_or_path"] == "ada/base"
    assert "base_model:adapter:ada/base" in facts.tags


@pytest.mark.real
def test_model_tokenizer_and_adapter_are_loaded_by_their_ids(published, loaded):
    found, _ = loaded

    assert (found["ids"], found["config"]) == ([[1, 2, 3]], "llama")
    assert found["lora"] == pytest.approx(found["again"])
    assert abs(found["lora"] - found["base"]) > 1e-4
    assert published.log.tokens_abroad() == ()
    assert published.log.weight_bytes_sent() > 0


@pytest.mark.real
def test_what_was_loaded_once_is_loaded_again_without_the_hub(published, loaded):
    found, home = loaded
    published.log.clear()
    offline = {**published.environment(home), "HF_HUB_OFFLINE": "1"}

    assert json.loads(run(LOAD, offline)) == found
    assert len(published.log) == 0


def test_a_snapshot_outlives_the_hub(tmp_path):
    """The server is gone, not only forbidden: the client falls back to its cache."""
    script = "from huggingface_hub import snapshot_download; print(snapshot_download('ada/model'))"
    with HubServer(tmp_path / "hub") as hub:
        hub.add("ada/model", model_files())
        folder = run(script, hub.environment(tmp_path / "home"))
        environment = hub.environment(tmp_path / "home")

    assert run(script, environment) == folder
    assert (Path(folder.strip()) / "config.json").read_text() == model_files()["config.json"]


def test_the_client_s_own_command_line_lists_and_downloads(hub, tmp_path):
    hub.add("ada/model", model_files())
    environment, program = hub.environment(tmp_path / "home", hub.token), Path(sys.executable).parent / "hf"

    def hf(*arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "ada" in hf("auth", "whoami")
    assert hf("models", "ls", "--filter", "llama", "--format", "quiet").split() == ["ada/model"]
    hf("download", "ada/model", "--local-dir", str(tmp_path / "here"))
    assert (tmp_path / "here" / "config.json").read_text() == model_files()["config.json"]


def test_the_environment_hides_the_caller_s_own_settings(hub, tmp_path, monkeypatch):
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HUBMERGE_CACHE"):
        monkeypatch.setenv(name, "mine")
    monkeypatch.setenv("UNRELATED", "kept")

    anonymous = hub.environment(tmp_path)
    assert "mine" not in anonymous.values()
    assert anonymous["UNRELATED"] == "kept"
    assert (anonymous["HF_ENDPOINT"], anonymous["HUBMERGE_CACHE"]) == (hub.url, str(tmp_path / "hubmerge"))
    assert ("HF_TOKEN" in anonymous, hub.environment(tmp_path, "t")["HF_TOKEN"]) == (False, "t")
