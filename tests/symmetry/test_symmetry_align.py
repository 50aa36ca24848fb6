"""`hubmerge symmetry align`: the folder that it writes computes the same, and is merged as any other; what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import symmetry_models
import torch
import zoo
from safetensors.torch import load_file

from hubmerge import PlanError, merge
from hubmerge.align import ALIGNMENT_NAME, align_model
from hubmerge.symmetry import SymmetryError, random_element, spec_of, transform
from hubmerge.symmetry.verify import answers, drawn_anew, example_inputs, largest_difference


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with `base`, a tiny Llama, and `other`, the same one reordered and in bfloat16."""
    base = drawn_anew(symmetry_models.model("llama"), 0)
    base.save_pretrained(tmp_path / "base")
    spec = spec_of(base)
    element = {name: part for name, part in random_element(spec, 1).items() if spec.groups[name].kind.permutes}
    base.load_state_dict(transform(spec, base.state_dict(), {n: _plain(part) for n, part in element.items()}))
    base.to(torch.bfloat16).save_pretrained(tmp_path / "other", max_shard_size="10KB")
    return tmp_path


def _plain(part: Any) -> Any:
    return type(part)(part.order, part.factor / abs(part.factor))


def loaded(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def test_the_aligned_model_computes_the_same_and_lies_where_the_base_does(models: Path) -> None:
    found = align_model(str(models / "base"), str(models / "other"), models / "out")
    assert found.similarity > 0.999
    assert found.before < 0.9
    other, out = loaded(models / "other"), loaded(models / "out")
    inputs = example_inputs(other, 0)
    assert largest_difference(answers(other, inputs), answers(out, inputs)) < 1e-5
    assert zoo.names(models / "out") == sorted([*zoo.names(models / "other"), ALIGNMENT_NAME])
    base = {
        name: values.to(torch.bfloat16) for name, values in load_file(models / "base" / "model.safetensors").items()
    }
    assert all(torch.equal(values, base[name]) for name, values in out.to(torch.bfloat16).state_dict().items())
    record = json.loads((models / "out" / ALIGNMENT_NAME).read_text())
    assert (record["method"], record["similarity"]) == ("weights", found.similarity)
    assert record["groups"]["ff0"]["size"] == 24


def test_any_method_merges_what_was_aligned(models: Path) -> None:
    """The average of a model and a reordered copy is broken; that with the aligned copy is the model."""
    align_model(str(models / "base"), str(models / "other"), models / "aligned")
    inputs = example_inputs(loaded(models / "base"), 0)
    before = answers(loaded(models / "base"), inputs)
    errors = {}
    for name in ("other", "aligned"):
        merge({"merge_method": "linear", "models": [{"model": str(models / each)} for each in ("base", name)],
               "dtype": "float32"}, models / f"merged-{name}")  # fmt: skip
        errors[name] = largest_difference(before, answers(loaded(models / f"merged-{name}"), inputs))
    assert errors["aligned"] < 0.02
    assert errors["other"] > 0.3


def test_groups_can_be_left_as_they_are(models: Path) -> None:
    found = align_model(str(models / "base"), str(models / "other"), models / "out", without=["res"])
    assert "res" not in found.groups
    assert "ff0" in found.groups
    norms = [loaded(models / name).state_dict()["model.norm.weight"] for name in ("out", "other")]
    assert torch.equal(*norms)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("./base", "./other", "base"), "base exists · base · choose another OUT"),
        (
            ("./base", "./other", "out", "--without", "resi"),
            "./other has no group 'resi' · --without · `hubmerge symmetry show ./other` lists them",
        ),
        (
            ("./base", "./wide", "out"),
            "tensor 'lm_head.weight' is [20, 16] in ./base and [20, 32] in ./wide · ./wide · only models of the same shapes are aligned",
        ),
        (("./base", "./gpt2", "out"), "./base is llama, ./gpt2 is gpt2 · ./gpt2 · align models of one family"),
    ],
)
def test_what_cannot_be_aligned_is_refused_and_nothing_is_written(
    models: Path, arguments: tuple[str, ...], fault: str
) -> None:
    import transformers

    wide = transformers.LlamaConfig(
        **{**symmetry_models.DECODER, "hidden_size": 32, "attention_bias": True, "mlp_bias": True}
    )
    transformers.LlamaForCausalLM(wide).save_pretrained(models / "wide")
    symmetry_models.model("gpt2").save_pretrained(models / "gpt2")
    before = zoo.names(models)
    ended = zoo.run_hubmerge("symmetry", "align", *arguments, cwd=models)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"error: {fault}\n")
    assert zoo.names(models) == before


def test_an_architecture_without_a_table_is_refused(tmp_path: Path) -> None:
    tensors = {"w": np.ones((2, 2), np.float32)}
    folders = [zoo.write_model(tmp_path / name, tensors, config={"model_type": "strange"}) for name in ("a", "b")]
    with pytest.raises(SymmetryError, match="no symmetry table for architecture 'strange'"):
        align_model(str(folders[0]), str(folders[1]), tmp_path / "out")
    with pytest.raises(PlanError, match="exists"):
        align_model(str(folders[0]), str(folders[1]), folders[0])


def test_the_command_prints_how_near_every_group_came(models: Path) -> None:
    ended = zoo.run_hubmerge("symmetry", "align", "./base", "./other", "out", "--restarts", 0, cwd=models)
    assert (ended.returncode, ended.stderr) == (0, "next: merge out with ./base, by any method\n")
    lines = ended.stdout.splitlines()
    assert lines[0].split() == ["group", "size", "moved", "similarity", "before"]
    assert lines[1].split()[:3] == ["res", "16", "16"]
    assert lines[-1].startswith("out: cosine of all weights with the base's 1.000, before 0.")
