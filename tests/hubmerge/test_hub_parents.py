"""Parents on the Hub: pinned, planned from headers, fetched once, merged like folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hub.faults import ChangeBody, CutBody, Reply
from hub.fixtures import hub, hub_home, start_hub
from hub.server import HubServer
from zoo import packed, random_values, read_model, write_model

from hubmerge import build_plan, merge, verify_merge
from hubmerge.assemble import merge_plan
from hubmerge.errors import MergeError, MergeInterrupted, PlanError
from zoo_index import hub_calls
from zoo_index.errors import HubError, HubmergeError

__all__ = ["hub", "hub_home", "start_hub"]

LINEAR = {"merge_method": "linear", "models": [{"model": "ada/one"}, {"model": "ada/two"}]}
SHAPES = {"model.embed.weight": (200, 32), "model.layers.0.up.weight": (64, 32), "model.norm.weight": (32,)}


def tensors(seed: int) -> dict[str, np.ndarray]:
    return {name: random_values(shape, seed + i) for i, (name, shape) in enumerate(SHAPES.items())}


@pytest.fixture
def models(tmp_path: Path, hub: HubServer) -> dict[str, Path]:
    """Two models as folders here and as repositories there, with files that a merge does not need."""
    folders = {}
    for seed, name in enumerate(("one", "two")):
        folder = write_model(tmp_path / name, tensors(10 * seed), files={"tokenizer_config.json": "{}"})
        (folder / "pytorch_model.bin").write_bytes(b"pickled" * 1000)
        (folder / "original").mkdir()
        (folder / "original" / "consolidated.safetensors").write_bytes(packed(tensors(99)))
        hub.add(f"ada/{name}", folder)
        folders[name] = folder
    hub.log.clear()
    return folders


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, counted instead of made."""
    found: list[float] = []
    monkeypatch.setattr(hub_calls, "sleep", found.append)
    return found


def test_a_plan_reads_headers_and_no_weights(models: dict[str, Path], hub: HubServer) -> None:
    plan = build_plan(LINEAR)
    assert hub.log.weight_bytes_sent() == 0
    wanted = {(0, "model.safetensors"), (0, "tokenizer_config.json"), (1, "model.safetensors")}
    assert {(file.parent, file.name) for file in plan.downloads} == wanted
    size = (models["one"] / "model.safetensors").stat().st_size
    assert plan.bytes_to_download == 2 * size + len("{}")
    assert plan.parents[0].commit == hub.repository("ada/one").head.id
    assert f"downloads    {(2 * size + 2) / 1000:.2f} kB in 3 files: {(size + 2) / 1000:.2f} kB of ada/one" in str(plan)


def test_a_merge_of_hub_models_has_the_bytes_of_a_merge_of_the_same_folders(
    models: dict[str, Path], hub: HubServer, tmp_path: Path
) -> None:
    there = merge(LINEAR, tmp_path / "there")
    recipe = {"merge_method": "linear", "models": [{"model": str(folder)} for folder in models.values()]}
    here = merge(recipe, tmp_path / "here")
    assert there.files["model.safetensors"] == here.files["model.safetensors"]
    assert read_model(tmp_path / "there").keys() == SHAPES.keys()
    assert [parent.commit for parent in there.parents] == [hub.repository(f"ada/{n}").head.id for n in models]


def test_only_what_is_needed_is_fetched_and_only_once(models: dict[str, Path], hub: HubServer, tmp_path: Path) -> None:
    merge(LINEAR, tmp_path / "out")
    fetched = {record.file for record in hub.log.requests(method="GET") if record.file and record.sent}
    assert fetched == {"config.json", "tokenizer_config.json", "model.safetensors"}
    hub.log.clear()
    assert build_plan(LINEAR).downloads == ()
    merge(LINEAR, tmp_path / "again")
    assert hub.log.weight_bytes_sent() == 0
    assert len(hub.log) == 2 + 2, "one question for each parent and run"


def test_shards_of_which_no_slice_takes_a_tensor_are_not_fetched(hub: HubServer, tmp_path: Path) -> None:
    names = ["model.embed.weight", *(f"model.layers.{i}.up.weight" for i in range(3)), "model.norm.weight"]
    rows = {name: random_values((8, 8), i) for i, name in enumerate(names)}
    config = {"model_type": "llama", "num_hidden_layers": 3, "tie_word_embeddings": False}
    shards = [names[:2], names[2:3], names[3:]]
    hub.add("ada/cut", write_model(tmp_path / "cut", rows, config=config, shards=shards))
    slices = [
        {"sources": [{"model": "ada/cut", "layer_range": [0, 1]}]},
        {"sources": [{"model": "ada/cut", "layer_range": [2, 3]}]},
    ]
    recipe = {"merge_method": "passthrough", "slices": slices}
    assert [file.name[6:11] for file in build_plan(recipe).downloads] == ["00001", "00003"]
    merge(recipe, tmp_path / "out")
    out = read_model(tmp_path / "out")
    assert np.array_equal(out["model.layers.1.up.weight"], rows["model.layers.2.up.weight"])
    assert verify_merge(tmp_path / "out", reload=False).level == "exact"


def test_a_merge_is_verified_against_the_commits_it_was_made_from(
    models: dict[str, Path], hub: HubServer, tmp_path: Path
) -> None:
    merge(LINEAR, tmp_path / "out")
    hub.commit("ada/one", {"model.safetensors": packed(tensors(77))})
    assert verify_merge(tmp_path / "out", reload=False).level == "exact"
    merged_anew = merge(LINEAR, tmp_path / "anew")
    assert merged_anew.parents[0].commit == hub.repository("ada/one").head.id


def test_weights_of_the_right_size_with_other_bytes_are_refused_and_not_kept(
    models: dict[str, Path], hub: HubServer, tmp_path: Path
) -> None:
    plan = build_plan(LINEAR)
    hub.inject(ChangeBody(lambda body: body[:-1] + b"?"), path="ada/one/", origin="cdn")
    with pytest.raises(HubError, match=r"^model\.safetensors does not have the digest that the Hub tells · ada/one@"):
        merge_plan(plan, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
    merge_plan(plan, tmp_path / "out")
    assert verify_merge(tmp_path / "out", reload=False).level == "exact"


def test_a_config_with_other_bytes_is_refused_and_not_kept(models: dict[str, Path], hub: HubServer) -> None:
    hub.inject(ChangeBody(lambda body: body[:-2] + b"?}"), path="resolve-cache.*ada/one.*config.json", method="GET")
    with pytest.raises(HubError, match=r"^config\.json does not have the digest that the Hub tells · ada/one@"):
        build_plan(LINEAR)
    build_plan(LINEAR)


def interrupting() -> Callable[[int], None]:
    """A progress that is Ctrl-C when the second tensor is done."""
    done: list[int] = []

    def progress(count: int) -> None:
        done.append(count)
        if len(done) == 2:
            raise KeyboardInterrupt

    return progress


def test_a_merge_of_hub_models_that_was_interrupted_goes_on_and_fetches_nothing_again(
    models: dict[str, Path], hub: HubServer, tmp_path: Path
) -> None:
    with pytest.raises(MergeInterrupted, match="the same command goes on from there"):
        merge_plan(build_plan(LINEAR, jobs=1), tmp_path / "out", progress=interrupting())
    hub.log.clear()
    merged = merge_plan(build_plan(LINEAR), tmp_path / "out")
    assert hub.log.weight_bytes_sent() == 0
    assert merged.written is not None
    assert merged.written.found == 200 * 32 * 4
    assert merged.manifest == merge(LINEAR, tmp_path / "at once")


def test_what_is_left_of_a_merge_is_kept_when_a_hub_model_has_a_new_commit(
    models: dict[str, Path], hub: HubServer, tmp_path: Path
) -> None:
    with pytest.raises(MergeInterrupted):
        merge_plan(build_plan(LINEAR, jobs=1), tmp_path / "out", progress=interrupting())
    hub.add("ada/two", write_model(tmp_path / "two", tensors(77)))
    with pytest.raises(PlanError, match=r"is left from another merge \(plan .*--fresh discards it"):
        merge(LINEAR, tmp_path / "out")
    assert merge(LINEAR, tmp_path / "out", fresh=True) == merge(LINEAR, tmp_path / "at once")


def test_a_file_that_was_exchanged_between_plan_and_merge_is_refused(
    models: dict[str, Path], hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = packed({name: values[:1] for name, values in tensors(5).items()})
    plan = build_plan(LINEAR)
    hub.inject(ChangeBody(lambda _: other), path="model.safetensors", method="GET", times=None)
    with pytest.raises(HubmergeError):
        merge_plan(plan, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(
    models: dict[str, Path], hub: HubServer, tmp_path: Path, waits: list[float], status: int
) -> None:
    hub.inject(Reply(status), path="/api/models/ada/one", times=2)
    merge(LINEAR, tmp_path / "out")
    assert waits == [1.0, 2.0]


def test_the_wait_is_the_one_the_hub_asks_for(
    models: dict[str, Path], hub: HubServer, tmp_path: Path, waits: list[float]
) -> None:
    hub.inject(Reply.rate_limited(retry_after="7"), path="/api/models/ada/one", times=1)
    hub.inject(Reply.rate_limited(reset=55), path="/api/models/ada/two", times=1)
    merge(LINEAR, tmp_path / "out")
    assert waits == [7.0, 56.0]


def test_a_hub_that_stays_busy_is_one_error_and_leaves_nothing(
    models: dict[str, Path], hub: HubServer, tmp_path: Path, waits: list[float]
) -> None:
    hub.inject(Reply(503), path="/api/models/ada/one", times=None)
    with pytest.raises(HubError) as caught:
        merge(LINEAR, tmp_path / "out")
    assert str(caught.value) == (
        "the Hub fails (503), also after 5 tries · ada/one · try again later; what was fetched is kept"
    )
    assert len(waits) == 4
    assert not list(tmp_path.glob("out*"))


def test_a_download_that_breaks_off_is_resumed(
    models: dict[str, Path], hub: HubServer, tmp_path: Path, waits: list[float]
) -> None:
    hub.inject(CutBody(1000), path="ada", origin="cdn", times=1)
    hub.inject(CutBody(1000), path="model.safetensors", origin="api", method="GET", times=1)
    merge(LINEAR, tmp_path / "out")
    assert verify_merge(tmp_path / "out", reload=False).level == "exact"


REFUSED = [
    ({"gated": "manual"}, "the model is gated, and you have not been given access · ada/two · accept its terms at "),
    ({"private": True}, "there is no such model on the Hub, or it is private · ada/two · check the spelling; "),
    ({"disabled": True}, "the model was disabled on the Hub · ada/two · choose another"),
]


@pytest.mark.parametrize(("edits", "message"), REFUSED, ids=["gated", "private", "disabled"])
def test_a_model_one_may_not_have_is_named_with_what_to_do(
    models: dict[str, Path], hub: HubServer, tmp_path: Path, edits: dict[str, object], message: str
) -> None:
    hub.edit("ada/two", **edits)
    with pytest.raises(HubError) as caught:
        merge(LINEAR, tmp_path / "out")
    assert str(caught.value).startswith(message)
    assert not list(tmp_path.glob("out*"))


def test_a_missing_model_and_a_missing_revision_are_told_together(models: dict[str, Path], hub: HubServer) -> None:
    recipe = {"merge_method": "linear", "models": [{"model": "ada/nobody"}, {"model": "ada/two@v9"}]}
    with pytest.raises(HubmergeError) as caught:
        build_plan(recipe)
    assert [fault.message for fault in caught.value.faults] == [
        "there is no such model on the Hub, or it is private",
        "the model has no such revision",
    ]


def test_a_model_without_safetensors_is_refused_before_anything_is_fetched(hub: HubServer) -> None:
    hub.add("ada/pickled", {"config.json": "{}", "pytorch_model.bin": b"pickled"})
    with pytest.raises(HubmergeError) as caught:
        build_plan({"merge_method": "passthrough", "models": [{"model": "ada/pickled"}]})
    assert caught.value.message == "only pickled weights (pytorch_model.bin), which can run code when read"
    assert hub.log.bytes_sent("pytorch_model.bin") == 0


def test_a_moved_model_is_merged_and_its_new_name_said(models: dict[str, Path], hub: HubServer, tmp_path: Path) -> None:
    hub.move("ada/one", "acme/one")
    plan = build_plan(LINEAR)
    assert "ada/one was moved on the Hub and is now acme/one; write that name" in plan.warnings
    merge(LINEAR, tmp_path / "out")


def test_a_private_model_is_merged_with_the_token_and_the_token_stays_at_home(
    models: dict[str, Path], hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.edit("ada/two", private=True)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    manifest = merge(LINEAR, tmp_path / "out")
    assert hub.log.tokens_abroad() == ()
    assert hub.token not in manifest.to_json()


def test_offline_the_cache_is_enough(
    models: dict[str, Path], hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    online = merge(LINEAR, tmp_path / "online")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.log.clear()
    offline = merge(LINEAR, tmp_path / "offline")
    assert len(hub.log) == 0
    assert offline.files["model.safetensors"] == online.files["model.safetensors"]


def test_an_adapter_on_the_hub_is_added_to_its_base(models: dict[str, Path], hub: HubServer, tmp_path: Path) -> None:
    a, b = random_values((2, 32), 1), random_values((64, 2), 2)
    name = "base_model.model.model.layers.0.up.lora_{}.weight"
    files = {
        "adapter_config.json": '{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "ada/one"}',
        "adapter_model.safetensors": packed({name.format("A"): a, name.format("B"): b}),
    }
    hub.add("ada/lora", files)
    recipe = {"merge_method": "passthrough", "models": [{"model": "ada/one+ada/lora"}]}
    manifest = merge(recipe, tmp_path / "out")
    merged = read_model(tmp_path / "out")["model.layers.0.up.weight"]
    expected = tensors(0)["model.layers.0.up.weight"].astype(np.float64) + 2.0 * (b.astype(np.float64) @ a)
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-6)
    assert manifest.parents[0].adapter_commit == hub.repository("ada/lora").head.id


def test_a_full_cache_disk_is_said_before_the_first_download(
    models: dict[str, Path], hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    plan = build_plan(LINEAR)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10, 10))
    with pytest.raises(HubmergeError, match="10 B are free"):
        merge_plan(plan, tmp_path / "out")
    assert hub.log.weight_bytes_sent() == 0


def test_merge_errors_of_the_hub_are_hubmerge_errors() -> None:
    assert issubclass(HubError, HubmergeError)
    assert issubclass(MergeError, HubmergeError)
