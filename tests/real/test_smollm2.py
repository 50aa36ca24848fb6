"""A real language model on the Hub, from the first upload to a stranger's machine.

SmolLM2-135M-Instruct is published; two LoRA adapters are trained on two kinds of text; they are merged by their names,
scored beside base and parents, described, published, and loaded again where nothing but the Hub is known.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hub.server import HubServer
from real_texts import python_code, python_prose
from users import User, together

from cards.compare import Comparison, compare_tasks
from cards.results import ModelResult, Results
from hubmerge.manifest import Manifest, read_manifest

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings(
        "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
    ),  # PEFT's own use of it
]

BASE, LORAS, MERGED = "ada/smollm2-base", ("ada/lora-code", "ada/lora-prose"), "ada/merged"
ADAPTED = tuple(f"{BASE}+{lora}" for lora in LORAS)
TEXTS = ("code", "prose")
STEPS, PIECES, WEIGHT = 32, 12, 0.8
RECIPE = {
    "merge_method": "task_arithmetic",
    "base_model": BASE,
    "models": [{"model": model, "parameters": {"weight": WEIGHT}} for model in ADAPTED],
}
SUITE = {
    "name": "code-and-prose",
    "tasks": [
        {"name": text, "task": "perplexity", "metric": "perplexity", "data": f"{text}.jsonl", "max_length": 256}
        for text in TEXTS
    ],
}
PROMPT = "The assignment statement evaluates the expression list and"


@dataclass(frozen=True)
class Story:
    """ada's work, with what each command answered."""

    ada: User
    parameters: int
    plan: dict[str, Any]
    weights_sent_for_plan: int
    manifest: Manifest
    verification: dict[str, Any]
    results: Results
    lineage: dict[str, list[dict[str, Any]]]
    published: dict[str, Any]

    @property
    def out(self) -> Path:
        return self.ada.place / "out"

    def result(self, model: str) -> ModelResult:
        """The results of a model by how it was named to `hubmerge evaluate`."""
        return next(result for result in self.results.models if result.model == model)

    def compared(self, model: str, other: str, text: str) -> Comparison:
        """Perplexity of `model` against `other` on the held-out pieces of one text, paired window by window."""
        mine, theirs = (next(task for task in self.result(name).tasks if task.name == text) for name in (model, other))
        return compare_tasks(mine, theirs)


@pytest.fixture(scope="module")
def story(real_hub: HubServer, newcomer: Callable[..., User]) -> Story:
    ada = newcomer("ada")
    for name, text in zip(TEXTS, (python_code(PIECES), python_prose(PIECES)), strict=True):
        (ada.place / f"{name}.txt").write_text(text.train, encoding="utf-8")
        rows = "".join(json.dumps({"text": piece}) + "\n" for piece in text.held_out)
        (ada.place / f"{name}.jsonl").write_text(rows, encoding="utf-8")
    for file, content in (("recipe.yaml", RECIPE), ("suite.yaml", SUITE)):
        (ada.place / file).write_text(yaml.safe_dump(content), encoding="utf-8")

    parameters = ada.program("publish_smollm2", BASE, "base")["parameters"]
    together(partial(ada.program, "train_adapter", BASE, str(STEPS), text) for text in TEXTS)
    ada.hubmerge("zoo", "sync", "--repo", BASE, "--repo", LORAS[0], "--repo", LORAS[1])
    lineage = {lora: json.loads(ada.hubmerge("zoo", "show", lora, "--json"))["base_models"] for lora in LORAS}
    sent = real_hub.log.weight_bytes_sent()
    plan = json.loads(ada.hubmerge("plan", "recipe.yaml", "--json"))
    sent = real_hub.log.weight_bytes_sent() - sent
    ada.hubmerge("merge", "recipe.yaml", "out")
    verification = json.loads(ada.hubmerge("verify", "out", "--json"))
    ada.hubmerge("evaluate", "./out", BASE, *ADAPTED, "--suite", "suite.yaml", "--out", "results.json")
    ada.hubmerge("card", "out", "--results", "results.json")
    published = json.loads(ada.hubmerge("publish", "out", MERGED, "--json"))
    return Story(
        ada=ada,
        parameters=parameters,
        plan=plan,
        weights_sent_for_plan=sent,
        manifest=read_manifest(ada.place / "out"),
        verification=verification,
        results=Results.model_validate_json((ada.place / "results.json").read_text(encoding="utf-8")),
        lineage=lineage,
        published=published,
    )


def test_the_plan_of_real_parents_reads_no_weights(story: Story) -> None:
    assert story.parameters == 134_515_008
    assert story.weights_sent_for_plan == 0
    assert story.manifest.plan_hash == story.plan["hash"]


def test_every_tensor_of_the_model_is_accounted_for(story: Story) -> None:
    embeddings, layers, of_a_layer, norm = 1, 30, 9, 1
    assert sum(story.manifest.tensors.values()) == embeddings + layers * of_a_layer + norm


def test_the_merge_is_derived_again_from_the_hub_and_answers(story: Story) -> None:
    assert story.verification["level"] == "exact"
    assert [check["passed"] for check in story.verification["checks"]] == [True, True, True]


@pytest.mark.parametrize(("text", "adapted"), list(zip(TEXTS, ADAPTED, strict=True)), ids=TEXTS)
def test_training_improves_an_adapter_on_held_out_text_of_its_kind(story: Story, text: str, adapted: str) -> None:
    change = story.compared(adapted, BASE, text)
    assert change.paired
    assert change.stderr is not None
    assert change.difference < -change.stderr


@pytest.mark.parametrize("text", TEXTS)
def test_the_merge_is_better_than_the_base_on_both_texts(story: Story, text: str) -> None:
    change = story.compared("./out", BASE, text)
    assert change.paired
    assert change.stderr is not None
    assert change.difference < -change.stderr


@pytest.fixture(scope="module")
def in_float32(story: Story) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of the base, and of the base with each adapter merged into it by PEFT, all in float32."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    def loaded(adapter: Path | None) -> dict[str, torch.Tensor]:
        model = AutoModelForCausalLM.from_pretrained(story.ada.place / "base", dtype=torch.float32)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        return dict(model.state_dict())

    return {
        BASE: loaded(None),
        **{lora: loaded(story.ada.place / lora.removeprefix("ada/")) for lora in LORAS},
    }


def merged_tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("layer", [0, 13, 29])
@pytest.mark.parametrize("module", ["q_proj", "v_proj"])
def test_merged_tensors_are_those_of_peft_and_torch_in_float32(
    story: Story, in_float32: dict[str, dict[str, torch.Tensor]], layer: int, module: str
) -> None:
    name = f"model.layers.{layer}.self_attn.{module}.weight"
    base = in_float32[BASE][name].double()
    expected = base + sum(WEIGHT * (in_float32[lora][name].double() - base) for lora in LORAS)
    merged = merged_tensors(story.out)[name]
    assert merged.dtype == torch.bfloat16
    # bfloat16 has 8 bits: rounding is off by at most 1/256 of a number, and here and there both neighbours are as near
    assert torch.all((merged.double() - expected).abs() <= expected.abs() / 256 + 1e-7)
    assert (merged == expected.bfloat16()).double().mean() > 0.999
    assert not torch.equal(merged, base.bfloat16())


def test_what_no_adapter_touched_has_the_bytes_of_the_base(story: Story) -> None:
    base, merged = merged_tensors(story.ada.place / "base"), merged_tensors(story.out)
    assert base.keys() == merged.keys()
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    assert changed == {f"model.layers.{n}.self_attn.{m}_proj.weight" for n in range(30) for m in "qv"}


@pytest.mark.parametrize("lora", LORAS)
def test_an_adapter_is_known_to_come_from_the_base_by_its_config_and_by_its_card(story: Story, lora: str) -> None:
    found = {(edge["source"], edge["parent"], edge["relation"]) for edge in story.lineage[lora]}
    assert {("adapter_config", BASE, "adapter"), ("card", BASE, "adapter")} <= found


def test_the_card_names_base_adapters_and_licence_and_holds_the_measured_numbers(
    story: Story, real_hub: HubServer
) -> None:
    card = real_hub.content(MERGED, "README.md").decode()
    front = yaml.safe_load(card.split("---\n")[1])
    assert set(front["base_model"]) == {BASE, *LORAS}
    assert (front["base_model_relation"], front["license"]) == ("merge", "apache-2.0")
    (entry,) = front["model-index"]
    told = [metric["value"] for result in entry["results"] for metric in result["metrics"]]
    assert told == pytest.approx([task.value for task in story.result("./out").tasks], rel=1e-5)
    for repo in (BASE, *LORAS):
        assert real_hub.repository(repo).head.id[:12] in card


def test_the_published_files_are_those_of_the_merge_in_one_private_commit(story: Story, real_hub: HubServer) -> None:
    repository = real_hub.repository(MERGED)
    assert repository.private
    tree = repository.head.tree
    for name, digest in story.manifest.files.items():
        assert (tree[name].sha256, tree[name].size) == (digest.sha256, digest.size)
    assert story.published["target"] == MERGED


def test_adapters_merged_as_adapters_and_published_are_in_peft_what_is_made_of_them_by_hand(
    story: Story, real_hub: HubServer, in_float32: dict[str, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    models = [{"model": lora, "parameters": {"weight": WEIGHT}} for lora in LORAS]
    recipe = {"merge_method": "task_arithmetic", "models": models, "output": {"kind": "adapter"}}
    (story.ada.place / "adapters.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    story.ada.hubmerge("merge", "adapters.yaml", "lora")
    story.ada.hubmerge("card", "lora")
    story.ada.hubmerge("publish", "lora", "ada/merged-lora", "--as", "adapter")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes(real_hub.content("ada/merged-lora", name))

    def base() -> Any:
        return AutoModelForCausalLM.from_pretrained(story.ada.place / "base", dtype=torch.float32).eval()

    by_hand, tokens = base(), torch.arange(100, 140)[None]
    with torch.no_grad():
        before = by_hand(tokens).logits
        for name, values in by_hand.state_dict().items():
            changes = (in_float32[lora][name] - in_float32[BASE][name] for lora in LORAS)
            values.add_(sum(changes), alpha=WEIGHT)
        wanted, got = by_hand(tokens).logits, PeftModel.from_pretrained(base(), tmp_path)(tokens).logits
    torch.testing.assert_close(got, wanted, atol=1e-3, rtol=1e-4)
    assert (wanted - before).abs().max() > 1


@pytest.fixture(scope="module")
def strangers(story: Story, real_hub: HubServer, newcomer: Callable[..., User]) -> dict[str, User]:
    """Two people with an empty cache who may read what ada published."""
    return {library: newcomer(f"reads-with-{library}", real_hub.read_token) for library in ("transformers", "hubmerge")}


@pytest.fixture(scope="module")
def written(strangers: dict[str, User]) -> dict[str, dict[str, Any]]:
    answers = together(partial(user.program, "write_text", name, MERGED, PROMPT) for name, user in strangers.items())
    return dict(zip(strangers, answers, strict=True))


def test_a_stranger_with_plain_transformers_generates_text_from_the_hub_alone(
    written: dict[str, dict[str, Any]],
) -> None:
    answer = written["transformers"]
    assert (answer["class"], answer["dtype"], answer["finite"]) == ("LlamaForCausalLM", "torch.bfloat16", True)
    assert len(answer["text"].split()) > 5


def test_auto_merged_model_loads_the_same_model_from_the_hub(written: dict[str, dict[str, Any]]) -> None:
    assert written["hubmerge"] == written["transformers"]


def test_the_perplexity_of_what_was_published_is_the_one_in_the_results(
    story: Story, strangers: dict[str, User]
) -> None:
    reader = strangers["transformers"]
    for name in ("suite.yaml", *(f"{text}.jsonl" for text in TEXTS)):
        (reader.place / name).write_bytes((story.ada.place / name).read_bytes())
    reader.hubmerge("evaluate", MERGED, "--suite", "suite.yaml", "--out", "results.json")
    there = Results.model_validate_json((reader.place / "results.json").read_text(encoding="utf-8"))
    assert [task.value for task in there.models[0].tasks] == [task.value for task in story.result("./out").tasks]


def test_the_tokens_are_in_nothing_that_was_written_or_printed(
    story: Story, strangers: dict[str, User], written: dict[str, dict[str, Any]], real_hub: HubServer
) -> None:
    users = (story.ada, *strangers.values())
    assert real_hub.log.tokens_abroad() == ()
    for token in (real_hub.token, real_hub.read_token):
        for user in users:
            assert not [text for text in user.printed if token in text]
            assert not [file for file in files_of(user) if holds(file, token)]
        assert not [name for name in real_hub.repository(MERGED).head.tree if token in published_text(real_hub, name)]


def files_of(user: User) -> Iterator[Path]:
    for folder in (user.place, user.home):
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def holds(file: Path, token: str) -> bool:
    if not file.stat().st_size:
        return False
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return mapped.find(token.encode()) >= 0


def published_text(hub: HubServer, name: str) -> str:
    return hub.content(MERGED, name).decode(errors="replace")
