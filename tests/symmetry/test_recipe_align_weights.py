"""A recipe's `align: weights` carried out: the bytes of the merge of models in one order, the plan, the manifest, what a kill leaves."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import symmetry_models
import torch
from bad.models import hubmerge as command
from safetensors.torch import load_file, save_file
from symmetry_models import reordered
from zoo import contents, names, run_python

import hubmerge
from hubmerge import AutoMergedModel, PlanError, build_plan, read_manifest, verify_merge
from hubmerge.alignment import stage
from hubmerge.alignment.words import how_aligned
from hubmerge.assemble import merge_plan
from hubmerge.errors import NumbersError
from hubmerge.io.finished import finish
from hubmerge.symmetry.verify import drawn_anew
from zoo_index.errors import HubmergeError

pytestmark = pytest.mark.usefixtures("one_thread")


def tuned(model: Any, seed: int) -> Any:
    """The model with a little noise on every number."""
    other = model.__class__(model.config).to(model.dtype)
    random = torch.Generator().manual_seed(seed)
    noise = {
        name: values + 0.05 * torch.randn(values.shape, generator=random).to(values.dtype)
        for name, values in model.state_dict().items()
    }
    other.load_state_dict(noise)
    return other


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base, a tiny Llama; a and b, near it; a-moved and b-moved, the same two in orders of their own."""
    place = tmp_path_factory.mktemp("models")
    base = drawn_anew(symmetry_models.model("llama"), 0).to(torch.float32)
    base.save_pretrained(place / "base")
    for seed, name in enumerate(("a", "b"), 1):
        own = tuned(base, seed)
        own.save_pretrained(place / name)
        reordered(own, seed).save_pretrained(place / f"{name}-moved", max_shard_size="8KB")
    return place


@pytest.fixture(autouse=True)
def in_their_folder(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)


def ties(suffix: str = "-moved", **changes: Any) -> dict[str, Any]:
    rows = [
        {"model": f"./a{suffix}", "parameters": {"weight": 0.5, "density": 0.5}},
        {"model": f"./b{suffix}", "parameters": {"weight": 0.5}},
    ]
    given = {"merge_method": "ties", "base_model": "./base", "models": rows, "align": "weights", **changes}
    return {key: value for key, value in given.items() if value is not None}


def of_two(method: str, suffix: str = "-moved", **changes: Any) -> dict[str, Any]:
    """base and b."""
    return {"merge_method": method, "models": [{"model": "./base"}, {"model": f"./b{suffix}"}], "align": "weights",
            **changes}  # fmt: skip


LINEAR = of_two("linear", parameters={"weight": 0.5})


@pytest.mark.parametrize(
    "recipe",
    [
        ties(),
        ties(merge_method="dare_ties", seed=3),
        of_two("linear", parameters={"weight": [0.2, 0.8]}),
        of_two("slerp", base_model="./base", parameters={"t": 0.3}),
    ],
    ids=lambda recipe: recipe["merge_method"],
)
def test_a_model_whose_units_were_moved_merges_to_the_bytes_of_the_one_it_was(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    hubmerge.merge(recipe, tmp_path / "aligned")
    as_they_were = json.loads(json.dumps(recipe).replace("-moved", ""))
    del as_they_were["align"]
    hubmerge.merge(as_they_were, tmp_path / "plain")
    left, right = (load_file(tmp_path / name / "model.safetensors") for name in ("aligned", "plain"))
    assert all(torch.equal(left[name].view(torch.int32), right[name].view(torch.int32)) for name in right)
    assert names(tmp_path) == ["aligned", "plain"]
    assert names(tmp_path / "aligned") == names(tmp_path / "plain")


def test_the_merge_has_the_type_that_the_recipe_asks_for(tmp_path: Path) -> None:
    hubmerge.merge({**LINEAR, "dtype": "bfloat16"}, tmp_path / "out")
    assert {values.dtype for values in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}


def test_the_manifest_names_the_recipe_s_models_and_says_what_moved(tmp_path: Path) -> None:
    manifest = hubmerge.merge(LINEAR, tmp_path / "out")
    assert manifest == read_manifest(tmp_path / "out")
    assert (manifest.format_version, manifest.reproducible) == (3, "tolerance")
    assert [parent.reference for parent in manifest.parents] == ["./base", "./b-moved"]
    record = manifest.alignment
    assert record is not None
    assert (record.family, record.base_model, record.method, record.calibration) == ("llama", "./base", "weights", None)
    (parent,) = record.parents
    assert parent.reference == "./b-moved"
    assert {name: (group.size, group.moved, group.apart) for name, group in parent.groups.items()} == {
        "res": (16, 16, 0), "kv0": (2, 2, 0), "ff0": (24, 24, 0), "kv1": (2, 2, 0), "ff1": (24, 24, 0),
    }  # fmt: skip
    assert min(group.similarity for group in parent.groups.values()) > 0.9
    assert how_aligned(record)[0].startswith("./b-moved in the order of ./base: 68 of 68 units moved, cosine 0.9")


def test_models_in_one_order_stay_in_it_and_the_record_says_so(tmp_path: Path) -> None:
    manifest = hubmerge.merge(of_two("linear", "", parameters={"weight": 0.5}), tmp_path / "out")
    assert manifest.alignment is not None
    assert how_aligned(manifest.alignment) == ("./b in the order of ./base: none of 68 units moved",)


def test_a_group_that_is_left_out_stays_as_it_is(tmp_path: Path) -> None:
    manifest = hubmerge.merge({**LINEAR, "align": {"without": ["ff{l}", "res"]}}, tmp_path / "out")
    assert manifest.alignment is not None
    assert sorted(manifest.alignment.parents[0].groups) == ["kv0", "kv1"]
    assert {manifest.alignment.kept[name] for name in ("ff0", "ff1", "res")} == {"align.without names it"}


def test_the_plan_says_what_is_aligned_by_what_and_what_it_takes() -> None:
    text = str(build_plan(LINEAR))
    told = text[text.index("aligned") : text.index("tensors")].splitlines()
    assert told[:5] == [
        "aligned",
        "  ./b-moved into the order of ./base, by the weights that connect them",
        "  units of res 16, kv{l} 2 (2 groups), ff{l} 24 (2 groups)",
        "  token stays as it is: what its entries are is given from outside",
        "  rope0, rope1, value0, value1 stay as they are: it is turned or mixed, not reordered",
    ]
    size = sum(path.stat().st_size for path in Path("b-moved").glob("*.safetensors"))
    assert told[5] == (
        f"  takes about 56.83 kB beside torch itself and less than a second of one core; the copies, {size / 1000:.2f} kB, "
        "lie in OUT.partial and are removed at the end"
    )
    found = build_plan(ties()).to_dict()["alignment"]
    assert (found["method"], found["base"], found["others"]) == ("weights", 2, [0, 1])
    assert build_plan(of_two("linear", align=None, parameters={"weight": 1})).to_dict()["alignment"] is None


def test_models_of_one_ancestor_are_most_likely_in_one_order_and_the_plan_says_so(tmp_path: Path) -> None:
    for name in ("a", "b"):
        own = tmp_path / name
        own.mkdir()
        (own / "config.json").symlink_to(Path("base/config.json").absolute())
        (own / "model.safetensors").symlink_to(Path(name, "model.safetensors").absolute())
        (own / "README.md").write_text("---\nbase_model: org/root\nbase_model_relation: finetune\n---\n")
    recipe = {**LINEAR, "models": [{"model": str(tmp_path / name)} for name in ("a", "b")]}
    note = (
        "align: all models come from org/root and most likely stand in one order already, so that there is little to gain; "
        "units that are much alike may be moved all the same"
    )
    plan = build_plan(recipe, strict=True)
    assert note in plan.notes
    assert note in plan.warnings


def test_the_same_merge_again_is_done_already_and_another_alignment_is_another_plan(tmp_path: Path) -> None:
    plan = build_plan(LINEAR)
    assert not merge_plan(plan, tmp_path / "out").already_done
    assert merge_plan(plan, tmp_path / "out").already_done
    assert plan.hash != build_plan({**LINEAR, "align": {"without": ["res"]}}).hash
    with pytest.raises(PlanError, match="exists and is a merge of another plan"):
        hubmerge.merge({**LINEAR, "align": {"without": ["res"]}}, tmp_path / "out")


def test_verify_aligns_again_and_notices_a_number_that_was_changed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    hubmerge.merge(LINEAR, out, digest=False)
    found = verify_merge(out, reload=False)
    assert found.level == "exact"
    assert found.checks[1].detail == "35 tensors derived again from the parents, aligned again: the same bytes"
    path = out / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-4] ^= 1
    raw[-3] ^= 0x80
    path.write_bytes(raw)
    assert verify_merge(out, reload=False).checks[1].passed is False


def test_verify_notices_that_units_came_into_another_order(tmp_path: Path) -> None:
    out = tmp_path / "out"
    hubmerge.merge(LINEAR, out)
    content = json.loads((out / "hubmerge.json").read_text())
    content["alignment"]["parents"][0]["order_sha256"] = "0" * 64
    (out / "hubmerge.json").write_text(json.dumps(content))
    check = verify_merge(out, reload=False).checks[1]
    assert check.detail == (
        f"the units of ./b-moved come into another order than they were merged in · {out} · "
        "merge again; on another machine or with another torch, units can be matched otherwise"
    )


def test_a_recipe_with_an_alignment_is_loaded_as_the_merge_that_it_makes(tmp_path: Path) -> None:
    hubmerge.merge(LINEAR, tmp_path / "out")
    loaded = AutoMergedModel.from_pretrained(LINEAR).state_dict()
    merged = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(loaded[name], values) for name, values in merged.items())


def killed(work: Any) -> None:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def die(*_: object, **__: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def test_after_a_kill_the_copies_that_were_finished_are_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubmerge.merge(ties(), tmp_path / "clean")
    plan = build_plan(ties())
    first = finish

    def merge_and_die_in_the_second_copy() -> None:
        calls: list[int] = []
        monkeypatch.setattr(stage, "finish", lambda *given: die() if calls else (calls.append(1), first(*given)))
        merge_plan(plan, tmp_path / "out")

    killed(merge_and_die_in_the_second_copy)
    assert names(tmp_path / "out.partial") == [".hubmerge-plan", "aligned"]
    told: list[str] = []
    merge_plan(plan, tmp_path / "out", note=told.append)
    assert told == [
        "./a-moved was aligned before: its copy is used again",
        "bringing ./b-moved into the order of ./base",
    ]
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")


def test_a_kill_while_the_weights_are_written_is_gone_on_with_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubmerge.merge(ties(), tmp_path / "clean")
    plan = build_plan(ties(), jobs=1)

    def merge_and_die() -> None:
        monkeypatch.setattr("hubmerge.carry_out.write_weights", die)
        merge_plan(plan, tmp_path / "out")

    killed(merge_and_die)
    told: list[str] = []
    merge_plan(plan, tmp_path / "out", note=told.append)
    assert told == [f"./{name}-moved was aligned before: its copy is used again" for name in "ab"]
    assert contents(tmp_path / "out") == contents(tmp_path / "clean")


def test_a_copy_of_a_model_that_was_changed_since_is_made_anew(tmp_path: Path, models: Path) -> None:
    own = tmp_path / "b"
    own.mkdir()
    for name, content in contents(models / "b").items():
        (own / name).write_bytes(content)
    recipe = {**LINEAR, "models": [{"model": "./base"}, {"model": str(own)}]}
    plan = build_plan(recipe)

    def merge_and_die() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("hubmerge.carry_out.write_weights", die)
            merge_plan(plan, tmp_path / "out")

    killed(merge_and_die)
    tensors = load_file(own / "model.safetensors")
    save_file({name: values + 1 for name, values in tensors.items()}, own / "model.safetensors", {"format": "pt"})
    told: list[str] = []
    merge_plan(build_plan(recipe), tmp_path / "out", note=told.append)
    assert told[0] == f"bringing {own} into the order of ./base"


def refused(recipe: dict[str, Any]) -> list[str]:
    with pytest.raises(HubmergeError) as error:
        build_plan(recipe)
    return [str(fault) for fault in error.value.faults]


def test_models_that_cannot_come_into_one_order_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    config = json.loads(Path("base/config.json").read_text())
    gpt, odd = tmp_path / "gpt", tmp_path / "odd"
    symmetry_models.model("gpt2").save_pretrained(gpt)
    odd.mkdir()
    (odd / "config.json").write_text(json.dumps({**config, "model_type": "toy", "architectures": ["Toy"]}))
    (odd / "model.safetensors").symlink_to(Path("base/model.safetensors").absolute())
    both = refused({**LINEAR, "models": [{"model": name} for name in ("./base", str(gpt), str(odd))]})
    assert both[0] == f"./base is llama, {gpt} is gpt2 · {gpt} · align models of one family"
    assert both[1].startswith(f"no symmetry table for architecture 'toy' · {odd} · ")
    assert refused({**LINEAR, "align": {"without": ["resi"]}}) == [
        "./base has no group 'resi' · align.without · `hubmerge symmetry show ./base` lists them"
    ]


def test_other_numbers_of_tokens_are_refused_with_what_makes_them_one(tmp_path: Path) -> None:
    own = symmetry_models.model("llama").config
    model = type(symmetry_models.model("llama"))
    model(type(own)(**{**own.to_dict(), "vocab_size": own.vocab_size + 1})).save_pretrained(tmp_path / "more")
    recipe = {**LINEAR, "models": [{"model": "./base"}, {"model": str(tmp_path / "more")}]}
    (fault,) = refused(recipe)
    assert fault.endswith(
        f"{tmp_path / 'more'} · bring them to one vocabulary first: merge_method: passthrough with the other alone, base_model: ./base "
        "and tokenizer_source: base"
    )


def test_a_model_with_an_adapter_is_refused(tmp_path: Path) -> None:
    from zoo import write_adapter

    lora = {f"model.layers.0.self_attn.q_proj.lora_{x}.weight": torch.zeros(shape).numpy()
            for x, shape in (("A", (2, 16)), ("B", (16, 2)))}  # fmt: skip
    write_adapter(tmp_path / "lora", lora, target_modules=["q_proj"])
    recipe = {**LINEAR, "models": [{"model": "./base"}, {"model": f"./b+{tmp_path / 'lora'}"}]}
    assert refused(recipe) == [
        (
            f"a model with an adapter is not aligned · ./b+{tmp_path / 'lora'} · "
            "make one model of the two first: `hubmerge merge` with merge_method: passthrough and this model alone"
        )
    ]


def test_a_disk_without_room_for_the_copies_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = build_plan(LINEAR)
    assert plan.alignment is not None
    free = plan.bytes_written + plan.alignment.copied - 1
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))
    with pytest.raises(PlanError, match=r"the merge needs .*, .* are free"):
        merge_plan(plan, tmp_path / "out")


def test_a_plan_reads_headers_only_and_loads_no_torch() -> None:
    loaded = "'torch' in sys.modules, 'transformers' in sys.modules"
    program = f"import sys; from hubmerge import build_plan; print(build_plan({LINEAR!r}).alignment.method, {loaded})"
    assert run_python(program, cwd=Path.cwd()).stdout == "weights False False\n"


def test_the_command_says_what_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(LINEAR))
    assert command("merge", tmp_path / "recipe.json", tmp_path / "out") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith(
        "  ./b-moved in the order of ./base: 68 of 68 units moved, cosine 0.98 on average, before 0."
    )


def test_a_merge_after_an_alignment_is_not_loaded_from_its_recipe_alone(tmp_path: Path) -> None:
    hubmerge.merge(LINEAR, tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").unlink()
    with pytest.raises(PlanError) as error:
        AutoMergedModel.from_pretrained(tmp_path / "out")
    assert str(error.value) == (
        f"a merge by linear after an alignment is not loaded from its recipe alone · {tmp_path / 'out'} · "
        "ask for its weights, or run `hubmerge merge` with its recipe"
    )


def test_a_number_that_is_not_finite_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    own = tmp_path / "b"
    own.mkdir()
    (own / "config.json").symlink_to(Path("b/config.json").absolute())
    tensors = load_file("b/model.safetensors")
    tensors["model.norm.weight"][3] = torch.nan
    save_file(tensors, own / "model.safetensors", {"format": "pt"})
    with pytest.raises(NumbersError) as error:
        hubmerge.merge({**LINEAR, "models": [{"model": "./base"}, {"model": str(own)}]}, tmp_path / "out")
    assert str(error.value) == (
        f"tensor 'model.norm.weight' of {own} has a number that is not finite · {own} · "
        "the model is damaged; fetch or save it again; nothing was left behind"
    )
    assert names(tmp_path) == ["b"]


def test_a_model_that_takes_two_things_at_once_is_not_matched_on_data(tmp_path: Path) -> None:
    model = symmetry_models.model("t5")
    for name in ("one", "two"):
        model.save_pretrained(tmp_path / name)
    (tmp_path / "texts.txt").write_text("a\n")
    recipe = {**LINEAR, "align": "activations", "calibration": str(tmp_path / "texts.txt")}
    recipe["models"] = [{"model": str(tmp_path / name)} for name in ("one", "two")]
    assert refused(recipe) == [
        (
            f"{tmp_path / 'one'} (T5ForConditionalGeneration) takes a text to read and one to go on with, and calibration data is of one "
            "kind · calibration · write align: weights without calibration, which needs no data"
        )
    ]
