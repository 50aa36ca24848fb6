"""`hubmerge symmetry align`: the folder that it writes computes the same, and is merged as any other; what it refuses."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import symmetry_models
import torch
import zoo
from hub.fixtures import hub, hub_home, start_hub
from hub.server import HubServer
from safetensors.torch import load_file, save_file

from hubmerge import MergeError, PlanError, align, merge
from hubmerge.align import ALIGNMENT_NAME, align_model
from hubmerge.alignment.stored import StoredWeights
from hubmerge.parents import open_parent
from hubmerge.symmetry import Matching, SymmetryError, match_weights, random_element, spec_of, transform
from hubmerge.symmetry.verify import answers, drawn_anew, example_inputs, largest_difference
from zoo_index.reference import ModelRef

__all__ = ["hub", "hub_home", "start_hub"]

pytestmark = pytest.mark.usefixtures("one_thread")


SAME_GROUPS = "only models with the same groups are aligned; compare their config.json"
AS_ONE = "make one model of the two first: `hubmerge merge` with merge_method: passthrough and this model alone"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with `base`, a tiny Llama, and `other`, the same one reordered and in bfloat16."""
    base = drawn_anew(symmetry_models.model("llama"), 0)
    base.save_pretrained(tmp_path / "base")
    spec = spec_of(base)
    element = {name: part for name, part in random_element(spec, 1).items() if spec.groups[name].kind.permutes}
    base.load_state_dict(transform(spec, base.state_dict(), {n: _plain(part) for n, part in element.items()}))
    base.to(torch.bfloat16).save_pretrained(tmp_path / "other", max_shard_size="4KB")
    return tmp_path


def _plain(part: Any) -> Any:
    return type(part)(part.order, part.factor / abs(part.factor))


def loaded(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def with_fewer_heads(folder: Path, out: Path) -> None:
    """The same tensors under a config that cuts them into half as many heads, each twice as wide."""
    shutil.copytree(folder, out)
    config = json.loads((out / "config.json").read_text())
    halves = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    (out / "config.json").write_text(json.dumps(config | halves))


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
            (
                "tensor 'lm_head.weight' is [20, 16] in ./base and [20, 32] in ./wide · ./wide · "
                "only models of the same shapes are aligned; in a recipe align: weights takes other widths, where it can"
            ),
        ),
        (("./base", "./gpt2", "out"), "./base is llama, ./gpt2 is gpt2 · ./gpt2 · align models of one family"),
        (
            ("./base", "./fewer", "out"),
            f"group 'kv0' is permutation of 2 in ./base and permutation of 1 in ./fewer · ./fewer · {SAME_GROUPS}",
        ),
        (("./base+./lora", "./other", "out"), f"a model with an adapter is not aligned · ./base+./lora · {AS_ONE}"),
        (("./base", "./other+./lora", "out"), f"a model with an adapter is not aligned · ./other+./lora · {AS_ONE}"),
        (
            ("./base", "./other", "file/out"),
            "the model cannot be aligned (File exists) · file · check the file or folder and its permissions",
        ),
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
    with_fewer_heads(models / "other", models / "fewer")
    (models / "file").write_text("")
    before = zoo.names(models)
    ended = zoo.run_hubmerge("symmetry", "align", *arguments, cwd=models)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"error: {fault}\n")
    assert zoo.names(models) == before


def test_a_float8_model_is_refused_on_either_side(models: Path) -> None:
    shutil.copytree(models / "base", models / "small")
    tensors = load_file(models / "base" / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.float8_e4m3fn)
    save_file(tensors, models / "small" / "model.safetensors", {"format": "pt"})
    small, base = str(models / "small"), str(models / "base")
    for pair in ((small, base), (base, small)):
        with pytest.raises(PlanError) as refused:
            align_model(*pair, models / "out")
        assert str(refused.value) == (
            f"tensor 'model.norm.weight' is stored as F8_E4M3 · {small} · save it in bfloat16 first: `hubmerge merge` with merge_method: "
            "passthrough and this model alone"
        )


def test_a_file_that_became_shorter_is_told_with_what_to_do_again(models: Path) -> None:
    parent, path = open_parent(ModelRef.parse(str(models / "base"))), models / "base" / "model.safetensors"
    last = max(parent.table, key=lambda name: parent.table[name].start)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MergeError) as ended:
        StoredWeights(parent, "merge again")[last]
    assert (
        str(ended.value) == f"model.safetensors ended inside tensor {last!r} · {path} · the file changed; merge again"
    )


def test_a_full_disk_is_told_and_leaves_nothing(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    before = zoo.names(models)
    with pytest.raises(MergeError) as refused:
        align_model(str(models / "base"), str(models / "other"), models / "out", restarts=0)
    assert str(refused.value) == f"the disk is full · {models}/out · free some space and align again"
    assert zoo.names(models) == before


def test_what_goes_along_is_what_goes_along_with_a_merge_and_the_card(models: Path) -> None:
    other = models / "other"
    along = ("README.md", "tokenizer.json", "configuration_own.py", "additional_chat_templates/rag.jinja")
    for name in (*along, "pytorch_model.bin", "optimizer.pt", "notes.txt"):
        (other / name).parent.mkdir(exist_ok=True)
        (other / name).write_text(name)
    align_model(str(models / "base"), str(other), models / "out", restarts=0)
    found = {path.relative_to(models / "out").as_posix() for path in (models / "out").rglob("*") if path.is_file()}
    weights = {"config.json", "generation_config.json", "model.safetensors.index.json"}
    weights |= {path.name for path in other.glob("*.safetensors")}
    assert found == {*along, *weights, ALIGNMENT_NAME}
    assert all((models / "out" / name).read_text() == name for name in along)


def test_models_on_the_hub_are_fetched_before_anything_is_matched(
    models: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (models / "other" / "README.md").write_text("---\nlicense: mit\n---\n")
    (models / "other" / "pytorch_model.bin").write_bytes(b"pickled" * 1000)
    (models / "base" / "tokenizer.json").write_text("{}")
    for name in ("base", "other"):
        hub.add(f"ada/{name}", models / name)
    hub.log.clear()
    asked: list[set[str | None]] = []

    def watched(*arguments: Any, **options: Any) -> Matching:
        asked.append({record.file for record in hub.log.requests()})
        return match_weights(*arguments, **options)

    monkeypatch.setattr(align, "match_weights", watched)
    align_model("ada/base", "ada/other", models / "out", restarts=0)
    fetched = {record.file for record in hub.log.requests()}
    assert asked == [fetched]
    written = set(zoo.names(models / "out")) - {ALIGNMENT_NAME}
    assert written == set(zoo.names(models / "other")) - {"pytorch_model.bin"}
    assert fetched - {None} == written | {"model.safetensors"}


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
