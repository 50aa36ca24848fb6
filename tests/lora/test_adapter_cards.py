"""Cards of merged adapters, and their way into a folder to be shared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from adapter_folders import write_base, write_lora
from lora_models import SHAPES, factors

import cards
import hubmerge
from cards.card_words import tensor_sentence

CARD = "---\nlicense: mit\nbase_model: org/base\n---\n"
SUM = {
    "merge_method": "task_arithmetic",
    "models": [{"model": "./a", "parameters": {"weight": 0.5}}, {"model": "./b"}],
    "output": {"kind": "adapter", "rank": 4},
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Adapters a and b of ranks 2 and 3, b without the module q, for a language model of the Hub."""
    monkeypatch.chdir(tmp_path)
    write_lora(tmp_path / "a", factors(0, 2), task_type="CAUSAL_LM", revision="v1")
    write_lora(tmp_path / "b", factors(1, 3, ("up", "down")), task_type="CAUSAL_LM", revision="v1")
    for name in "ab":
        (tmp_path / name / "README.md").write_text(CARD)
    return tmp_path


def test_a_card_says_how_an_adapter_is_loaded_and_what_was_kept_of_it(here: Path) -> None:
    manifest = hubmerge.merge(SUM, here / "out")
    assert cards.write_card(here / "out").findings == (
        cards.Finding(
            "warning", "no evaluation", "run `hubmerge evaluate` and `hubmerge card OUT --results results.json`"
        ),
    )
    text = (here / "out" / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert (front["base_model"], front["base_model_relation"], front["library_name"]) == (
        ["org/base"],
        "adapter",
        "peft",
    )
    assert "out is a LoRA adapter for a language model (192 parameters, float32)." in text
    assert "combining the weights of two LoRA adapters, a and b, with the method" in text
    code = text.split("```python\n")[1].split("```")[0]
    assert code == (
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM\n"
        "\n"
        'model_id = "./out"\n'
        'base = AutoModelForCausalLM.from_pretrained("org/base", revision="v1", dtype="auto")\n'
        "model = PeftModel.from_pretrained(base, model_id)\n"
    )
    assert manifest.adapters is not None
    kept = {name: f"{module.energy:.1%}" for name, module in manifest.adapters.modules.items()}
    assert "| modules | number | rank in a | rank in b | rank of the merge | energy kept |" in text
    assert f"| `up` | 1 | 2 | 3 | 4 | {kept['up']} |" in text
    assert "| `q` | 1 | 2 | – | 2 | 100.0% |" in text
    assert "- Ranks: 2 in ./a, 3 in ./b." in text
    assert "- 1 of 3 modules is left alone by some: that counts as no change there (missing: zero)." in text
    assert "It changes 3 modules of its base model." in text
    alone = manifest.adapters.model_copy(update={"modules": dict([*manifest.adapters.modules.items()][:1])})
    told = tensor_sentence(manifest.model_copy(update={"adapters": alone}))
    assert told == "It changes 1 module of its base model."
    assert "It belongs to org/base and means nothing on another model." in text


def test_a_model_of_adapters_says_what_it_was_made_of(here: Path) -> None:
    write_base(here / "base", {f"{name}.weight": [[0.0] * within] * out for name, (out, within) in SHAPES.items()})
    hubmerge.merge({**SUM, "basis": "core", "output": {"kind": "dense"}, "base_model": "./base"}, here / "out")
    cards.write_card(here / "out")
    text = (here / "out" / "README.md").read_text()
    assert "combining the weights of two LoRA adapters, a and b, on base, with the method" in text
    assert "Of the model's 3 tensors, 3 were merged by the method." in text
    assert (
        "between the singular vectors of all their B and of all their A (Core Space, arXiv:2509.17786). What came of it"
        in text
    )
    with pytest.raises(
        cards.PublishError, match="is not published as a recipe alone: making it again takes merging its adapters first"
    ):
        cards.publish(here / "out", here / "shared", as_="recipe")


def test_what_is_published_of_an_adapter_says_nothing_of_this_disk(here: Path) -> None:
    """Trained on a folder, which the recipe gives its name on the Hub."""
    for name in "ab":
        path = here / name / "adapter_config.json"
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(here / "base"), "revision": None})
        )
    (here / "base").mkdir()
    hubmerge.merge({**SUM, "base_model": "org/base"}, here / "out")
    cards.write_card(here / "out")
    plan = cards.publish(here / "out", here / "shared", as_="adapter")
    assert (plan.kind, plan.failed) == ("adapter", ())
    texts = [path.read_text() for path in (here / "shared").iterdir() if path.suffix in {".json", ".md"}]
    assert len(texts) == 3
    assert not any(str(here) in text for text in texts)
    assert (
        "trained on a folder base; base" in json.loads((here / "shared" / "hubmerge.json").read_text())["warnings"][0]
    )
