"""Publishing on the Hub, through the real client and a Hub on this machine: what arrives, what it costs, what is refused."""

from __future__ import annotations

import hashlib
import json

import pytest
from card_builders import card_of, merge_of

from cards import PublishError, publish, write_card
from hubmerge.manifest import ParentRecord, read_manifest
from zoo_index.errors import HubError

FILES = ["README.md", "config.json", "hubmerge.json", "model.safetensors"]


def _names(hub, repo):
    return sorted(hub.repository(repo).head.tree)


def _titles(hub, repo):
    return [commit.title for commit in hub.repository(repo).history(hub.repository(repo).head)]


def _routes(hub):
    """What was asked, in order, without the parts that differ between runs."""
    return [
        f"{record.method} {record.path.split('?')[0].replace('/ada/zoo', '/REPO')}"
        for record in hub.log.requests(origin="api")
    ]


def _faults(*arguments, **options):
    with pytest.raises(PublishError) as caught:
        publish(*arguments, **options)
    return [str(fault) for fault in caught.value.faults]


def test_a_first_publish_is_one_private_repository_with_one_commit(ada, small_merge):
    plan = publish(small_merge, "ada/zoo")

    repository = ada.repository("ada/zoo")
    assert repository.private
    assert _names(ada, "ada/zoo") == [".gitattributes", *FILES]
    assert ada.content("ada/zoo", "model.safetensors") == (small_merge / "model.safetensors").read_bytes()
    assert (plan.state, plan.visibility, plan.kind) == ("new", "private", "dense")
    assert plan.commit == repository.head.id
    assert plan.url == f"{ada.url}/ada/zoo/commit/{plan.commit}"
    assert {file.name: file.lfs for file in plan.files} == {name: name == "model.safetensors" for name in FILES}


def test_what_a_first_publish_asks_of_the_hub(ada, small_merge):
    publish(small_merge, "ada/zoo")
    assert _routes(ada) == [
        "GET /api/models/REPO",
        "POST /api/validate-yaml",
        "POST /api/repos/create",
        "GET /api/models/REPO",
        "POST /api/validate-yaml",
        "POST /api/models/REPO/preupload/main",
        "POST /REPO.git/info/lfs/objects/batch",
        "POST /api/models/REPO/lfs/verify",
        "POST /api/models/REPO/commit/main",
        f"GET /api/models/REPO/revision/{ada.repository('ada/zoo').head.id}",
    ]
    assert [record.method for record in ada.log.requests(origin="cdn")] == ["PUT"]
    assert ada.log.tokens_abroad() == ()


def test_publishing_again_asks_once_and_sends_nothing(ada, small_merge):
    publish(small_merge, "ada/zoo")
    ada.log.clear()
    plan = publish(small_merge, "ada/zoo")
    assert (plan.state, plan.commit) == ("already published", None)
    assert _routes(ada) == ["GET /api/models/REPO"]


def test_digests_that_a_merge_left_out_are_made_and_published(ada, small_merge):
    path = small_merge / "hubmerge.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["model.safetensors"]["sha256"] = None
    path.write_text(json.dumps(manifest))
    publish(small_merge, "ada/zoo")

    published = json.loads(ada.content("ada/zoo", "hubmerge.json"))["files"]["model.safetensors"]
    weights = (small_merge / "model.safetensors").read_bytes()
    assert published == {"size": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
    assert publish(small_merge, "ada/zoo").state == "already published"


def test_a_newer_card_is_sent_alone(ada, small_merge):
    publish(small_merge, "ada/zoo")
    card = small_merge / "README.md"
    card.write_text(card.read_text() + "\nMore words.\n")
    ada.log.clear()
    plan = publish(small_merge, "ada/zoo", message="Say more")

    assert plan.state == "updates"
    assert {file.name: file.change for file in plan.files if file.change != "unchanged"} == {"README.md": "changed"}
    assert "More words." in ada.content("ada/zoo", "README.md").decode()
    assert not ada.log.requests(origin="cdn")
    assert ada.repository("ada/zoo").head.title == "Say more"


def test_the_card_names_the_repository_and_holds_no_path(ada, small_merge, tmp_path):
    publish(small_merge, "ada/zoo")
    card = ada.content("ada/zoo", "README.md").decode()
    assert "\n# zoo\n" in card
    assert 'model_id = "ada/zoo"' in card
    for name in FILES:
        assert str(tmp_path).encode() not in ada.content("ada/zoo", name)
        assert ada.token.encode() not in ada.content("ada/zoo", name)


def test_a_dry_run_tells_everything_and_changes_nothing(ada, small_merge):
    plan = publish(small_merge, "ada/zoo", dry_run=True)

    assert _routes(ada) == ["GET /api/models/REPO", "POST /api/validate-yaml"]
    assert ada.state.repositories == {}
    weights = (small_merge / "model.safetensors").read_bytes()
    lines = str(plan).splitlines()
    assert lines[0].startswith("zoo -> ada/zoo (new, private), 4 files, ")
    assert f"  model.safetensors  {len(weights):>15,}  added      LFS  {hashlib.sha256(weights).hexdigest()}" in lines
    (metadata,) = (line for line in lines if line.startswith("  metadata: "))
    for fact in (
        "base_model_relation: merge",
        "library_name: transformers",
        "license: mit",
        "tags: [merge, hubmerge, ties]",
    ):
        assert fact in metadata
    assert "  commit: Publish a merge by ties (dense)" in lines
    assert json.loads(json.dumps(plan.to_json()))["visibility"] == "private"


def test_public_is_asked_for(ada, small_merge):
    assert publish(small_merge, "ada/zoo", public=True).visibility == "public"
    assert not ada.repository("ada/zoo").private


def test_a_public_repository_is_not_written_to_by_accident(ada, small_merge):
    ada.add("ada/zoo")
    assert _faults(small_merge, "ada/zoo") == [
        (
            "the repository is public, and publishing is private unless asked otherwise · ada/zoo · "
            "publish with --public, or make the repository private in its settings"
        )
    ]
    assert publish(small_merge, "ada/zoo", public=True).state == "updates"


def test_a_private_repository_stays_private_and_the_plan_says_so(ada, small_merge):
    ada.add("ada/zoo", private=True)
    plan = publish(small_merge, "ada/zoo", public=True)
    assert ada.repository("ada/zoo").private
    assert [check.message for check in plan.checks if check.name == "visibility"] == [
        "the repository is private and stays so: its visibility is changed in its settings only"
    ]
    again = publish(small_merge, "ada/zoo", public=True)
    assert again.state == "already published"
    assert [check.status for check in again.checks if check.name == "visibility"] == ["warn"]


def test_a_repository_of_something_else_is_refused_with_a_choice(ada, small_merge):
    ada.add("ada/zoo", {"pytorch_model.bin": b"\0weights", "thesis.md": "years of work"}, private=True)
    before = ada.repository("ada/zoo").head.id
    assert _faults(small_merge, "ada/zoo") == [
        (
            "the repository holds something else, and no merge · ada/zoo · propose it with --create-pr, "
            "replace what competes with it by --overwrite, or choose another name"
        )
    ]
    assert ada.repository("ada/zoo").head.id == before

    plan = publish(small_merge, "ada/zoo", overwrite=True)
    assert "  pytorch_model.bin: deleted, it would compete with these files" in str(plan).splitlines()
    assert "  kept as they are: .gitattributes, thesis.md" in str(plan).splitlines()
    assert (plan.deleted, plan.kept) == (("pytorch_model.bin",), (".gitattributes", "thesis.md"))
    assert _names(ada, "ada/zoo") == [".gitattributes", *FILES, "thesis.md"]


def test_a_pull_request_is_proposed_once(ada, small_merge):
    ada.add("ada/zoo", {"thesis.md": "years of work"}, private=True)
    head = ada.repository("ada/zoo").head.id
    plan = publish(small_merge, "ada/zoo", create_pr=True)
    assert plan.state == "proposes"
    assert plan.url == f"{ada.url}/ada/zoo/discussions/1"
    assert ada.repository("ada/zoo").head.id == head
    assert ada.content("ada/zoo", "config.json", "refs/pr/1") == (small_merge / "config.json").read_bytes()

    again = publish(small_merge, "ada/zoo", create_pr=True)
    assert again.state == "already published"
    assert f"it is proposed already, at {ada.url}/ada/zoo/discussions/1" in [check.message for check in again.checks]
    assert len(ada.repository("ada/zoo").discussions) == 1


def test_a_pull_request_needs_a_repository(ada, small_merge):
    assert _faults(small_merge, "ada/zoo", create_pr=True) == [
        "there is no such repository, or it is hidden · ada/zoo · publish without --create-pr to make it"
    ]


def test_stale_weights_of_an_earlier_publish_go_in_the_same_commit(ada, small_merge):
    publish(small_merge, "ada/zoo")
    single = small_merge / "model.safetensors"
    for number in (1, 2):
        (small_merge / f"model-0000{number}-of-00002.safetensors").write_bytes(single.read_bytes())
    single.unlink()
    merge_of(small_merge, [small_merge.parent / "models" / "parent"], plan_hash="b" * 64)
    plan = publish(small_merge, "ada/zoo")
    assert plan.deleted == ("model.safetensors",)
    assert "model.safetensors" not in _names(ada, "ada/zoo")
    assert len(_titles(ada, "ada/zoo")) == 3


def test_a_moved_repository_is_named(ada, small_merge):
    ada.add("ada/old", private=True)
    ada.move("ada/old", "ada/new")
    assert _faults(small_merge, "ada/old") == ["the repository is called ada/new now · ada/old · publish to ada/new"]


def test_a_forbidding_licence_stops_it_before_the_first_write(ada, small_merge, tmp_path):
    card_of(tmp_path / "models" / "parent", "license: cc-by-nd-4.0")
    (fault,) = _faults(small_merge, "ada/zoo")
    assert fault.startswith("a parent's licence forbids passing on derived models")
    assert _routes(ada) == ["GET /api/models/REPO"]


def test_a_licence_that_wants_a_decision_wants_it_before_everyone_sees_the_merge(ada, small_merge, tmp_path):
    card_of(tmp_path / "models" / "parent", "tags: [x]")
    write_card(small_merge)
    assert publish(small_merge, "ada/zoo", dry_run=True).failed == ()
    (fault,) = _faults(small_merge, "ada/zoo", public=True)
    assert fault == (
        "the licences of the parents want a person's decision before everyone can see the merge · "
        "read the licence part of the card, then publish with --yes"
    )
    assert publish(small_merge, "ada/zoo", public=True, yes=True).state == "new"


def test_a_gated_parent_wants_a_yes(ada, small_merge):
    parent = ada.add("acme/gated", {"README.md": "---\nlicense: mit\n---\n"}, gated="manual")
    _take_from_the_hub(small_merge, "acme/gated", parent.head.id)
    assert _faults(small_merge, "ada/zoo") == [
        (
            "acme/gated is gated: who may have the merge's weights has not accepted its terms · acme/gated · "
            f"read them at {ada.url}/acme/gated; gate the repository too in its settings; then publish with --yes"
        )
    ]
    assert publish(small_merge, "ada/zoo", yes=True).state == "new"


def _take_from_the_hub(out, name, commit):
    record = ParentRecord(reference=name, role="parent", commit=commit, headers={"model.safetensors": "0" * 64})
    recipe = {"merge_method": "linear", "models": [{"model": name}]}
    merge_of(out, [], parents=(record,), recipe=recipe, method="linear", config_donor=name)
    write_card(out, overwrite=True)


def test_a_card_that_the_hub_refuses_is_known_before_the_repository_is_made(ada, small_merge):
    card = small_merge / "README.md"
    card.write_text(card.read_text().replace("license: mit", "license: my-own"))
    (fault,) = _faults(small_merge, "ada/zoo")
    assert fault.startswith('the Hub refuses the card: "license" must be one of [')
    assert fault.endswith(" · README.md · mend it")
    assert ada.state.repositories == {}


def test_the_token_itself_is_never_published(ada, small_merge):
    card = small_merge / "README.md"
    card.write_text(card.read_text() + f"\nUse {ada.token}.\n")
    faults = _faults(small_merge, "ada/zoo")
    assert any(fault.startswith("README.md holds a token: the one you are logged in with") for fault in faults)
    assert not any(ada.token in fault for fault in faults)
    assert _faults(small_merge, "ada/zoo", message=f"with {ada.token}")[-1].startswith("the commit's message holds")
    assert ada.state.repositories == {}


def test_without_a_token_the_error_says_how_to_log_in(hub, small_merge):
    assert _faults(small_merge, "ada/zoo") == [
        (
            "publishing on the Hub needs an access token · ada/zoo · "
            "log in with `hf auth login`, or set HF_TOKEN to a token that may write"
        )
    ]


def test_a_token_that_may_only_read_is_refused_and_nothing_is_made(hub, small_merge):
    with pytest.raises(HubError, match="the Hub refuses \\(403: Forbidden: you must use a write token"):
        publish(small_merge, "ada/zoo", token=hub.read_token)
    assert hub.state.repositories == {}


@pytest.mark.parametrize("private", [True, False])
def test_a_name_of_somebody_else_is_refused(hub, small_merge, private):
    hub.add("bob/zoo", private=private)
    before = hub.repository("bob/zoo").head.id
    with pytest.raises((HubError, PublishError)) as caught:
        publish(small_merge, "bob/zoo", token=hub.token, public=True)
    assert "the rights to write under the namespace" in str(caught.value)
    assert hub.repository("bob/zoo").head.id == before


def test_the_published_manifest_can_be_read_back(ada, small_merge, tmp_path):
    publish(small_merge, "ada/zoo")
    (tmp_path / "hubmerge.json").write_bytes(ada.content("ada/zoo", "hubmerge.json"))
    assert read_manifest(tmp_path).files == read_manifest(small_merge).files
