"""What the test Hub tells about one repository: facts, files, commits, as the real client reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import get_args

import pytest
from huggingface_hub import HfApi, RepoFolder
from huggingface_hub.errors import BadRequestError, EntryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import ExpandModelProperty_T

from hub.small_models import model_files, packed


def test_expand_gives_what_was_asked_and_nothing_else(family, api):
    info = api.model_info("acme/merged", expand=["baseModels", "safetensors", "createdAt"])

    assert (info.sha, info.tags, info.downloads) == (None, None, None)
    numbers = {name: family.repository(name).number for name in ("ada/base", "ada/tuned")}
    models = [{"_id": number, "id": name} for name, number in numbers.items()]
    assert info.base_models == {"relation": "merge", "models": models}
    assert (info.safetensors.parameters, info.safetensors.total) == ({"F32": 6}, 6)


@pytest.mark.parametrize("name", get_args(ExpandModelProperty_T))
def test_every_expand_the_client_offers_is_answered(family, api, name):
    assert api.model_info("ada/tuned", expand=[name]).id == "ada/tuned"
    assert len(list(api.list_models(expand=[name]))) == 4


def test_an_expand_nobody_offers_is_400(family, api):
    with pytest.raises(BadRequestError, match='got "hidden_size"'):
        api.model_info("ada/base", expand=["hidden_size"])


def test_children_are_counted_over_all_relations(family, api):
    counts = {name: api.model_info(name, expand=["childrenModelCount"]) for name in ("ada/base", "ada/tuned")}
    assert {name: info.children_model_count for name, info in counts.items()} == {"ada/base": 3, "ada/tuned": 1}


def test_facts_come_from_card_config_and_headers(hub, api):
    card = "library_name: transformers\nlicense: mit\nnew_version: ada/next\nlanguage: [en, de]"
    tokenizer = json.dumps({"eos_token": "</s>", "chat_template": "{{ messages }}", "mask_token": "<mask>"})
    hub.add("ada/model", {**model_files(card), "tokenizer_config.json": tokenizer})
    info = api.model_info("ada/model")

    assert (info.library_name, info.pipeline_tag, info.mask_token) == ("transformers", "text-generation", "<mask>")
    assert (info.transformers_info.auto_model, info.transformers_info.processor) == (
        "AutoModelForCausalLM",
        "AutoTokenizer",
    )
    assert info.tags == [
        "transformers",
        "safetensors",
        "llama",
        "text-generation",
        "en",
        "de",
        "license:mit",
        "region:us",
    ]
    tokens = {"eos_token": "</s>", "chat_template": "{{ messages }}"}
    assert info.config == {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tokenizer_config": tokens}
    assert info.card_data.new_version == "ada/next"
    assert info.author == "ada"


def test_an_adapter_s_config_is_summarised_but_its_parent_is_read_from_the_card_only(hub, api):
    config = json.dumps({"base_model_name_or_path": "ada/base", "task_type": "CAUSAL_LM", "r": 8})
    hub.add("ada/base", model_files())
    hub.add("ada/lora", {"adapter_config.json": config})

    info = api.model_info("ada/lora", expand=["config", "baseModels", "tags"])
    assert info.config == {"peft": {"base_model_name_or_path": "ada/base", "task_type": "CAUSAL_LM"}}
    assert (info.base_models, info.tags) == (None, ["region:us"])


def test_evaluation_results_come_from_their_files_and_the_card(hub, api):
    entry = "- dataset: {id: cais/hle, task_id: default}\n  value: 20.5\n"
    index = (
        "model-index: [{name: m, results: [{task: {type: text-generation}, dataset: {type: d, name: D},"
        " metrics: [{type: accuracy, value: 0.5}]}]}]"
    )
    hub.add("ada/model", {**model_files(index), ".eval_results/hle.yaml": entry})
    info = api.model_info("ada/model", expand=["evalResults", "model-index", "tags"])

    assert [(result.dataset_id, result.value) for result in info.eval_results] == [("cais/hle", 20.5)]
    assert info.model_index[0]["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.5}]
    assert "model-index" in info.tags


def test_file_metadata_tells_lfs_from_git(hub, api):
    hub.add("ada/model", model_files())
    files = {sibling.rfilename: sibling for sibling in api.model_info("ada/model", files_metadata=True).siblings}

    weights = files["model.safetensors"]
    assert (weights.size, weights.lfs.size, weights.lfs.pointer_size) == (len(packed()), len(packed()), 127)
    assert weights.lfs.sha256 == hub.repository("ada/model").head.tree["model.safetensors"].sha256
    assert (files["config.json"].lfs, len(files["config.json"].blob_id)) == (None, 40)


def test_the_security_scan_is_reported_when_asked_for(hub, api):
    hub.add("ada/model")
    assert api.model_info("ada/model").security_repo_status is None
    status = api.model_info("ada/model", securityStatus=True).security_repo_status
    assert status == {"scansDone": True, "filesWithIssues": []}


def test_git_names_are_git_s_own(hub, api):
    """Worked out with `git hash-object` and `git mktree`: a file "hello\\n" and a folder that holds it as x.txt."""
    hub.add("ada/model", {"d/x.txt": "hello\n"})
    folder, file = api.get_paths_info("ada/model", ["d", "d/x.txt"])

    assert file.blob_id == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert folder.tree_id == "9fa6a6d71d42445400aef1e5fda85a9cd64eb517"


def test_an_older_revision_is_as_it_was(hub, api):
    old = hub.add("ada/model", {"a.txt": "a"}).head.id
    hub.commit("ada/model", {"b.txt": "b", "a.txt": None})

    assert [s.rfilename for s in api.model_info("ada/model", revision=old).siblings] == [".gitattributes", "a.txt"]
    assert api.model_info("ada/model").sha != old
    assert api.resolve_revision("ada/model").resolved == api.model_info("ada/model").sha
    with pytest.raises(RevisionNotFoundError):
        api.model_info("ada/model", revision="v9")


def test_a_tree_is_listed_folder_by_folder_or_whole(hub, api):
    hub.add("ada/model", {"a.txt": "a", "d/b.txt": "b", "d/e/c.txt": "c"})

    def names(**where):
        return [(row.path, isinstance(row, RepoFolder)) for row in api.list_repo_tree("ada/model", **where)]

    assert names() == [(".gitattributes", False), ("a.txt", False), ("d", True)]
    assert names(path_in_repo="d") == [("d/b.txt", False), ("d/e", True)]
    whole = [".gitattributes", "a.txt", "d", "d/b.txt", "d/e", "d/e/c.txt"]
    assert [path for path, _ in names(recursive=True)] == whole
    with pytest.raises(EntryNotFoundError):
        names(path_in_repo="a.txt")


def test_a_long_tree_comes_in_pages(start_hub):
    hub = start_hub(tree_page=4)
    hub.add("ada/model", {f"{number}.txt": str(number) for number in range(9)})

    assert len(list(HfApi(hub.url).list_repo_tree("ada/model", recursive=True))) == 10
    assert len(hub.log) == 3


def test_the_last_commit_of_each_path_is_known(hub, api):
    hub.add("ada/model", {"a.txt": "a", "d/b.txt": "b"})
    hub.commit("ada/model", {"d/b.txt": "changed"}, title="Change b")

    last = {row.path: row.last_commit.title for row in api.list_repo_tree("ada/model", recursive=True, expand=True)}
    assert last == {
        ".gitattributes": "initial commit",
        "a.txt": "Upload the files",
        "d": "Change b",
        "d/b.txt": "Change b",
    }


def test_paths_that_do_not_exist_are_left_out(hub, api):
    hub.add("ada/model", {"a.txt": "a"})
    (found,) = api.get_paths_info("ada/model", ["a.txt", "b.txt"], expand=True)
    assert (found.path, found.security.safe) == ("a.txt", True)


def test_commits_are_listed_newest_first_over_pages(start_hub):
    hub = start_hub(commit_page=2)
    hub.add("ada/model", {"a.txt": "0"})
    for number in range(3):
        hub.commit("ada/model", {"a.txt": str(number + 1)}, title=f"Change {number}")
    commits = HfApi(hub.url).list_repo_commits("ada/model", formatted=True)

    titles = ["Change 2", "Change 1", "Change 0", "Upload the files", "initial commit"]
    assert [commit.title for commit in commits] == titles
    assert (commits[0].authors, commits[0].formatted_title) == (["ada"], "Change 2")
    dates = [commit.created_at for commit in commits]
    assert dates == sorted(set(dates), reverse=True)
    assert len(hub.log) == 3


def test_dates_and_counts_can_be_set(hub, api):
    modified = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
    hub.add("ada/model", created=datetime(2024, 1, 1, tzinfo=UTC), modified=modified, downloads=7, likes=8)
    info = api.model_info("ada/model")

    assert (info.last_modified, info.created_at.year, info.downloads, info.likes) == (modified, 2024, 7, 8)
    with pytest.raises(TypeError, match="a repository has no setting 'stars'"):
        hub.edit("ada/model", stars=5)


def test_a_name_is_found_in_any_case_and_without_its_namespace_where_the_hub_says_so(hub, api):
    hub.add("openai-community/gpt2", {"a.txt": "a"})
    hub.redirect("gpt2", "openai-community/gpt2")

    assert api.model_info("gpt2").id == "openai-community/gpt2"
    assert api.model_info("OpenAI-Community/GPT2").id == "openai-community/gpt2"
    assert api.list_repo_files("gpt2") == [".gitattributes", "a.txt"]
    assert len(api.list_repo_refs("gpt2").branches) == 1
    assert api.hf_hub_download("gpt2", "a.txt").endswith("a.txt")


def test_users_and_organisations_are_known(hub, api):
    assert api.get_user_overview("ada").username == "ada"
    assert [user.username for user in api.list_organization_members("acme")] == ["ada"]
