"""A merge published as a recipe of a few kilobytes: what it holds, and that it becomes the same model again."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml
from hub_merges import RECIPE, llama, merge_on_hub
from safetensors.torch import save_file

from cards import PublishError, publish, push_to_hub
from hubmerge import AutoMergedModel, VerifyError, merge, read_manifest
from hubmerge.errors import PlanError
from hubmerge.manifest import Manifest
from hubmerge.materialization import materialize

WEIGHTS = "model.safetensors"


@pytest.fixture
def out(ada, tmp_path):
    return merge_on_hub(ada, tmp_path)


def _same(one, other):
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(values, second[name]) for name, values in first.items())


def test_a_recipe_repository_holds_everything_but_the_weights(ada, out):
    plan = publish(out, "ada/zoo", as_="recipe")
    names = sorted(ada.repository("ada/zoo").head.tree)
    assert names == [
        ".gitattributes",
        "README.md",
        "config.json",
        "generation_config.json",
        "hubmerge.json",
        "recipe.yaml",
        "tokenizer_config.json",
    ]
    assert plan.size < 20_000
    assert not any(file.lfs for file in plan.files)


def test_its_recipe_names_every_parent_at_its_commit(ada, out):
    publish(out, "ada/zoo", as_="recipe")
    commits = {name: ada.repository(f"acme/{name}").head.id for name in ("base", "poet", "clerk")}
    recipe = yaml.safe_load(ada.content("ada/zoo", "recipe.yaml"))
    assert recipe["base_model"] == f"acme/base@{commits['base']}"
    assert [entry["model"] for entry in recipe["models"]] == [
        f"acme/poet@{commits['poet']}",
        f"acme/clerk@{commits['clerk']}",
    ]


def test_the_pinned_recipe_gives_the_bytes_of_the_merge(ada, out, tmp_path):
    publish(out, "ada/zoo", as_="recipe")
    again = merge(yaml.safe_load(ada.content("ada/zoo", "recipe.yaml")), tmp_path / "again")
    assert again.files == read_manifest(out).files


def test_its_card_says_that_hubmerge_loads_it(ada, out):
    publish(out, "ada/zoo", as_="recipe")
    card = ada.content("ada/zoo", "README.md").decode()
    assert "library_name: hubmerge\n" in card
    assert "This repository holds a recipe and no weights." in card
    assert 'model_id = "ada/zoo"\nmodel = hubmerge.AutoMergedModel.from_pretrained(model_id, dtype="auto")' in card
    assert "AutoModelForCausalLM" not in card


def test_it_loads_into_the_model_of_the_merge(ada, out):
    publish(out, "ada/zoo", as_="recipe")
    loaded = AutoMergedModel.from_pretrained("ada/zoo", dtype=torch.float32, device_map="cpu")
    assert _same(loaded, AutoMergedModel.from_pretrained(out))
    assert not loaded.training


def test_what_was_loaded_once_loads_without_the_network(ada, out, monkeypatch):
    publish(out, "ada/zoo", as_="recipe")
    AutoMergedModel.from_pretrained("ada/zoo")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ada.log.clear()
    assert _same(AutoMergedModel.from_pretrained("ada/zoo"), AutoMergedModel.from_pretrained(out))
    assert len(ada.log) == 0


def test_the_parents_are_taken_at_the_commits_of_the_merge(ada, out):
    publish(out, "ada/zoo", as_="recipe")
    changed = {name: values.detach() for name, values in llama(9).state_dict().items()}
    path = out.parent / "changed.safetensors"
    save_file(changed, path, metadata={"format": "pt"})
    ada.commit("acme/poet", {WEIGHTS: path.read_bytes()})
    assert _same(AutoMergedModel.from_pretrained("ada/zoo"), AutoMergedModel.from_pretrained(out))


def test_it_becomes_a_checkpoint_of_the_same_bytes(ada, out, tmp_path):
    publish(out, "ada/zoo", as_="recipe")
    made = materialize("ada/zoo", tmp_path / "dense")
    assert made.files == read_manifest(out).files
    assert (tmp_path / "dense" / WEIGHTS).read_bytes() == (out / WEIGHTS).read_bytes()
    assert materialize("ada/zoo", tmp_path / "dense") == made


def _with_manifest(ada, change):
    value = json.loads(ada.content("ada/zoo", "hubmerge.json"))
    change(value)
    ada.commit("ada/zoo", {"hubmerge.json": json.dumps(value)})


def test_weights_that_come_out_otherwise_are_refused_and_nothing_is_left(ada, out, tmp_path):
    publish(out, "ada/zoo", as_="recipe")
    _with_manifest(ada, lambda value: value["files"][WEIGHTS].update(sha256="0" * 64))
    commit = ada.repository("ada/zoo").head.id
    hint = "it was made by another version of hubmerge, or the repository was changed by hand"
    with pytest.raises(VerifyError) as caught:
        AutoMergedModel.from_pretrained("ada/zoo")
    what = f"merging again does not give what was published: {WEIGHTS} has another sha256"
    assert str(caught.value) == f"{what} · ada/zoo@{commit} · {hint}"
    with pytest.raises(VerifyError, match=r"does not give what was published: model\.safetensors"):
        materialize("ada/zoo", tmp_path / "dense")
    assert not (tmp_path / "dense").exists()


def test_a_recipe_of_a_merge_without_digests_is_published_with_them(ada, out):
    recorded = read_manifest(out)
    files = {**recorded.model_dump(mode="json")["files"], WEIGHTS: {"size": recorded.files[WEIGHTS].size}}
    (out / "hubmerge.json").write_text(json.dumps({**recorded.model_dump(mode="json"), "files": files}))
    assert read_manifest(out).undigested == (WEIGHTS,)
    publish(out, "ada/zoo", as_="recipe")
    assert (
        json.loads(ada.content("ada/zoo", "hubmerge.json"))["files"][WEIGHTS]["sha256"]
        == recorded.files[WEIGHTS].sha256
    )


def test_a_recipe_whose_manifest_has_no_digest_of_the_weights_is_refused(ada, out, tmp_path):
    publish(out, "ada/zoo", as_="recipe")
    _with_manifest(ada, lambda value: value["files"][WEIGHTS].update(sha256=None))
    commit = ada.repository("ada/zoo").head.id
    for use in (AutoMergedModel.from_pretrained, lambda name: materialize(name, tmp_path / "dense")):
        with pytest.raises(VerifyError) as caught:
            use("ada/zoo")
        assert str(caught.value) == (
            f"its manifest records no sha256 of {WEIGHTS} · ada/zoo@{commit} · "
            "it was merged with --no-digest; `hubmerge publish` adds the digests"
        )
    assert not (tmp_path / "dense").exists()


@pytest.mark.parametrize("linked", [False, True])
def test_an_older_folder_stays_when_its_replacement_comes_out_otherwise(ada, out, tmp_path, linked):
    publish(out, "ada/zoo", as_="recipe")
    older, dense = tmp_path / "older", tmp_path / "dense"
    shutil.copytree(out, older)
    manifest = json.loads((older / "hubmerge.json").read_text())
    (older / "hubmerge.json").write_text(json.dumps({**manifest, "plan_hash": "b" * 64}))
    if linked:
        dense.symlink_to(older)
    else:
        older.rename(dense)
    before = {path.name: path.read_bytes() for path in dense.iterdir()}
    beside = sorted(path.name for path in tmp_path.iterdir())
    _with_manifest(ada, lambda value: value["files"][WEIGHTS].update(sha256="0" * 64))
    with pytest.raises(VerifyError, match=r"does not give what was published: model\.safetensors"):
        materialize("ada/zoo", dense, overwrite=True)
    assert {path.name: path.read_bytes() for path in dense.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == beside
    assert dense.is_symlink() == linked


def test_a_recipe_of_somebodys_folders_reads_no_folder_here(ada, out):
    publish(out, "ada/zoo", as_="recipe")
    mine = str(out.parent / "parents" / "poet")
    _with_manifest(ada, lambda value: value["recipe"]["models"][0].update(model=mine))
    with pytest.raises(PlanError) as caught:
        AutoMergedModel.from_pretrained("ada/zoo")
    assert str(caught.value).startswith(f"the recipe names a folder ({mine}) · ada/zoo@")


def test_a_recipe_whose_parents_are_at_no_commit_is_refused(ada, out):
    publish(out, "ada/zoo", as_="recipe")
    _with_manifest(ada, lambda value: value["parents"][0].update(reference="acme/other"))
    with pytest.raises(PlanError) as caught:
        AutoMergedModel.from_pretrained("ada/zoo")
    assert str(caught.value).startswith("the manifest does not say at which commit acme/poet was taken · ada/zoo@")


def test_a_repository_without_a_manifest_cannot_be_materialized(ada, out, tmp_path):
    with pytest.raises(PlanError, match=r"there is no hubmerge\.json, so this is no merge"):
        materialize("acme/base", tmp_path / "dense")


def test_a_dense_publish_on_top_of_a_recipe_takes_the_recipe_away_and_back_again(ada, out):
    publish(out, "ada/zoo", as_="recipe")
    assert publish(out, "ada/zoo").deleted == ("recipe.yaml",)
    assert WEIGHTS in ada.repository("ada/zoo").head.tree
    plan = publish(out, "ada/zoo", as_="recipe")
    assert plan.deleted == (WEIGHTS,)
    assert WEIGHTS not in ada.repository("ada/zoo").head.tree


def test_a_recipe_in_a_folder_is_published_as_what_it_is(ada, out, tmp_path):
    publish(out, tmp_path / "bare", as_="recipe")
    assert not (tmp_path / "bare" / WEIGHTS).exists()
    plan = publish(tmp_path / "bare", "ada/zoo")
    assert plan.kind == "recipe"
    assert publish(out, "ada/zoo", as_="recipe").state == "already published"


def test_a_manifest_alone_is_enough_to_publish_a_recipe(ada, out):
    manifest = read_manifest(out)
    assert isinstance(manifest, Manifest)
    push_to_hub(manifest, "ada/zoo", commit_message="From a manifest")
    assert ada.repository("ada/zoo").private
    assert ada.repository("ada/zoo").head.title == "From a manifest"
    assert publish(out, "ada/other", as_="recipe").size > 0
    for name in ("config.json", "hubmerge.json", "recipe.yaml", "tokenizer_config.json"):
        assert ada.content("ada/zoo", name) == ada.content("ada/other", name)


def test_a_loaded_model_is_published_as_the_merge_it_is(ada, out):
    model = AutoMergedModel.from_pretrained(RECIPE)
    plan = push_to_hub(model, "ada/zoo", private=False)
    assert (plan.kind, plan.visibility) == ("dense", "public")
    assert ada.content("ada/zoo", WEIGHTS) == (out / WEIGHTS).read_bytes()

    published = AutoMergedModel.from_pretrained("ada/zoo")
    assert push_to_hub(published, "ada/zoo", private=False).state == "already published"


def test_a_model_that_was_trained_since_is_no_merge_any_more(ada, out):
    model = AutoMergedModel.from_pretrained(out)
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1
    with pytest.raises(PublishError) as caught:
        push_to_hub(model, "ada/zoo")
    assert str(caught.value) == (
        "tensor 'lm_head.weight' is not what was merged any more: the model was changed after loading · ada/zoo · "
        "use the model's own push_to_hub, which publishes it as a new model"
    )
    assert ("models", "ada/zoo") not in ada.state.repositories


def test_a_model_from_elsewhere_is_no_merge(ada):
    with pytest.raises(PublishError, match="a LlamaForCausalLM that was not loaded by AutoMergedModel is no merge"):
        push_to_hub(llama(0), "ada/zoo")


def test_a_config_that_comes_out_otherwise_is_found_out(ada, out):
    publish(out, "ada/zoo", as_="recipe")
    _with_manifest(ada, lambda value: value["files"]["config.json"].update(sha256="0" * 64))
    with pytest.raises(VerifyError, match=r"config\.json has another sha256"):
        AutoMergedModel.from_pretrained("ada/zoo")


def test_publishing_reads_no_weights_and_loading_reads_every_parent_once(ada, out, hub_home):
    shutil.rmtree(hub_home / "hub")
    ada.log.clear()
    publish(out, "ada/zoo", as_="recipe")
    assert ada.log.weight_bytes_sent() == 0
    ada.log.clear()
    publish(out, "ada/zoo", as_="recipe")
    assert len(ada.log) == 1

    ada.log.clear()
    AutoMergedModel.from_pretrained("ada/zoo")
    weights = sum(values.numel() * 4 for values in llama(0).state_dict().values())
    assert ada.log.weight_bytes_sent() == 3 * weights
    assert ada.log.tokens_abroad() == ()
