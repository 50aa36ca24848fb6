"""The card: what it says, what it never says, and how a person's work on it survives."""

from __future__ import annotations

import json

import pytest
import yaml
from card_builders import card_of, image_model, merge_of, pictures
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from cards import CardError, ResultsError, Suite, check_card, evaluate, write_card
from cards.card_file import is_untouched, rename_card
from cards.card_text import MAX_CARD_BYTES
from cards.markdown import code, fenced, text
from hubmerge.errors import ManifestError
from hubmerge.manifest import ParentRecord


@pytest.fixture
def merge(tmp_path):
    """A merge of two local parents from a base, beside an image folder; parents state Apache-2.0 and MIT."""
    for name, licence in (("base", "apache-2.0"), ("left", "apache-2.0"), ("right", "mit")):
        card_of(
            image_model(tmp_path / "models" / name, "dog"), f"license: {licence}\ndatasets: [zoo/animals]\nlanguage: en"
        )
    out = image_model(tmp_path / "zoo-ties", "cat")
    merge_of(
        out,
        [tmp_path / "models" / "left", tmp_path / "models" / "right"],
        base=tmp_path / "models" / "base",
        warnings=(f"parent {tmp_path}/models/left: its labels are in another order",),
    )
    pictures(tmp_path / "zoo", {"cat": 3, "dog": 1, "owl": 4})
    return out


def _evaluated(merge):
    models = merge.parent / "models"
    suite = Suite.model_validate(
        {"name": "animals", "tasks": [{"name": "all", "task": "image-classification", "data": "zoo"}]}
    )
    return evaluate([merge, models / "base", models / "left", models / "right"], suite.at(merge.parent))


def _card(merge, results=None):
    write_card(merge, results)
    return ModelCard.load(merge / "README.md")


def test_the_metadata_are_what_the_hub_reads(merge):
    data = _card(merge, _evaluated(merge)).data.to_dict()

    assert data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "image-classification"
    assert data["tags"] == ["merge", "hubmerge", "ties"]
    assert data["base_model_relation"] == "merge"
    assert data["license"] == "apache-2.0"
    assert data["datasets"] == ["zoo/animals"]
    assert data["language"] == ["en"]
    assert "base_model" not in data  # folders are no Hub ids
    (entry,) = data["model-index"]
    assert entry["name"] == "zoo-ties"
    assert entry["results"][0]["metrics"][0]["value"] == 0.375


def test_parents_on_the_hub_are_named_by_id_and_commit(merge):
    hub = ParentRecord(reference="org/animal", role="parent", commit="c0ffee" * 6 + "c0ff", headers={"m": "a" * 64})
    lora = hub.model_copy(update={"adapter": "org/lora", "adapter_commit": "beef" * 10, "parameters": {"weight": 0.25}})
    merge_of(merge, (), parents=(hub, lora), config_donor="org/animal")
    card = _card(merge)

    assert card.data.base_model == ["org/animal", "org/lora"]
    animal, lora_place = "https://huggingface.co/org/animal", "https://huggingface.co/org/lora"
    first = f"[commit `c0ffeec0ffee`]({animal}/tree/{'c0ffee' * 6}c0ff)"
    second = f"[commit `beefbeefbeef`]({lora_place}/tree/{'beef' * 10})"
    assert f"| [org/animal]({animal}) | parent | {first} | – |" in card.text
    assert f"[org/lora]({lora_place}) | parent | {first}, {second}" in card.text
    assert "The cards of org/animal and org/lora could not be read" in card.text


def test_no_local_path_is_in_the_card(merge):
    write_card(merge, _evaluated(merge))
    words = (merge / "README.md").read_text()
    assert str(merge.parent) not in words
    assert "model: ./left" in words
    assert "base_model: ./base" in words
    assert "- parent ./left: its labels are in another order" in words


def test_the_evaluation_stands_beside_the_parents_with_n_and_error(merge):
    words = _card(merge, _evaluated(merge)).text
    assert "| model | role | all: accuracy ↑ (n = 8) |" in words
    assert "| **zoo-ties** | this model | 0.38 ± 0.17 |" in words
    assert "| left | parent | 0.12 ± 0.12 |" in words
    assert "8 samples of zoo, labels cat, dog, owl; SHA-256 of the data `" in words
    assert "within noise: this data cannot tell the two apart" in words


def test_without_an_evaluation_the_card_says_so(merge):
    report = write_card(merge)
    assert "This model has not been evaluated yet." in (merge / "README.md").read_text()
    assert [(finding.level, finding.message) for finding in report.findings] == [("warning", "no evaluation")]


def test_a_missing_licence_is_loud_and_no_licence_is_made_up(merge):
    card_of(merge.parent / "models" / "left", "tags: [x]")
    card = _card(merge)
    assert "**left states no licence.** Nobody has given permission" in card.text
    assert "license" not in card.data.to_dict()
    assert ("warning", "no license") in [(finding.level, finding.message) for finding in check_card(merge)]


def test_a_parent_that_is_gone_is_said_to_be_unread_and_not_to_be_without_licence(merge):
    (merge.parent / "models" / "left").rename(merge.parent / "moved")
    words = _card(merge).text
    assert "**The licence of left is not known**, because its card could not be read" in words
    assert "states no licence" not in words


def test_a_complete_card_lacks_nothing(merge):
    assert write_card(merge, _evaluated(merge)).findings == ()


def test_the_code_in_the_card_runs(merge, monkeypatch):
    words = _card(merge).text
    block = words.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(merge.parent)
    names: dict[str, object] = {}
    exec(block, names)
    assert type(names["model"]).__name__ == "ResNetForImageClassification"
    assert "ImageProcessor" in type(names["processor"]).__name__


def test_the_recipe_in_the_card_is_the_recipe(merge):
    block = _card(merge).text.split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(block) == {
        "merge_method": "ties",
        "models": [{"model": f"./{name}", "parameters": {"weight": 0.5}} for name in ("left", "right")],
        "base_model": "./base",
    }


def test_the_same_facts_give_the_same_card(merge):
    results = _evaluated(merge)
    write_card(merge, results)
    first = (merge / "README.md").read_bytes()
    write_card(merge, results)
    assert (merge / "README.md").read_bytes() == first


def test_a_card_that_a_person_changed_is_kept(merge):
    write_card(merge)
    path = merge / "README.md"
    path.write_text(path.read_text().replace("## Limitations", "## What I think of it\n\n## Limitations"))
    with pytest.raises(CardError) as caught:
        write_card(merge)
    assert str(caught.value) == (
        f"README.md was written or changed by a person · {path} · keep it, or replace it with --overwrite"
    )
    write_card(merge, overwrite=True)
    assert is_untouched(path.read_text())


def test_a_folder_in_the_cards_place_is_named_and_stays(merge):
    path = merge / "README.md"
    path.mkdir()
    with pytest.raises(CardError) as caught:
        write_card(merge)
    assert str(caught.value) == f"README.md is a folder · {path} · move it away, and write the card anew"
    assert [finding.message for finding in check_card(merge)] == ["README.md is a folder"]
    with pytest.raises(CardError, match=r"the card cannot be written \(Is a directory\)"):
        write_card(merge, overwrite=True)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "/dev/null"])
def test_a_link_to_a_device_is_never_read_as_a_card(merge, device):
    path = merge / "README.md"
    path.symlink_to(device)
    with pytest.raises(CardError, match=r"README\.md is not a regular file"):
        write_card(merge)
    assert [finding.message for finding in check_card(merge)] == ["README.md is not a regular file"]
    write_card(merge, overwrite=True)
    assert not path.is_symlink()


def test_a_card_of_more_than_ten_million_bytes_is_not_read(merge):
    path = merge / "README.md"
    with path.open("wb") as file:
        file.truncate(MAX_CARD_BYTES + 1)
    (finding,) = check_card(merge)
    assert finding.message == "README.md has 10,000,001 bytes, and at most 10,000,000 are read"


def test_results_of_another_merge_are_refused_and_nothing_is_written(merge):
    results = _evaluated(merge)
    merge_of(merge, [merge], plan_hash="b" * 64)
    with pytest.raises(ResultsError, match="nothing about this merge"):
        write_card(merge, results)
    assert not (merge / "README.md").exists()


def test_a_folder_that_is_no_merge_gets_no_card(tmp_path):
    with pytest.raises(ManifestError, match="not a hubmerge merge"):
        write_card(image_model(tmp_path / "model"))


def test_what_strangers_wrote_stays_text(merge):
    evil = "x](http://evil) <script>alert(1)</script> | {{ 7 * 7 }} `y`"
    config = json.loads((merge / "config.json").read_text())
    config["id2label"]["0"] = evil
    (merge / "config.json").write_text(json.dumps(config))
    merge_of(merge, [merge.parent / "models" / "left"], warnings=("a warning: <img src=x> {% include 'x' %} ```",))
    words = _card(merge).text

    assert "<script" not in words
    assert "<img" not in words
    assert r"x\](http://evil)" in words  # no link
    assert r"{{ 7 \* 7 }}" in words  # printed, not computed
    assert "{% include 'x' %}" in words


@given(st.text(max_size=60))
def test_no_text_becomes_markup(words):
    from markdown_it import MarkdownIt

    shown = MarkdownIt("commonmark").enable("table").render(f"- {text(words)}")
    assert shown.count("<") == shown.count("<ul>") + shown.count("<li>") + shown.count("</li>") + shown.count("</ul>")
    table = MarkdownIt("commonmark").enable("table").render(f"|a|b|\n|-|-|\n|{text(words)}|2|")
    assert table.count("<td>") == 2


@given(st.text(alphabet="`ab\n ", max_size=40))
def test_code_stays_inside_its_fence(words):
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").parse(f"{fenced(words, 'sh')}\n\nafter")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    if words.strip():
        inline = MarkdownIt("commonmark").parseInline(f"{code('a' + words + 'b')}")[0]
        assert [child.type for child in inline.children] == ["code_inline"]


def test_a_renamed_card_is_the_card_written_under_that_name(merge):
    results = _evaluated(merge)
    write_card(merge, results)
    old = (merge / "README.md").read_text()
    write_card(merge, results, name="other-name")
    assert rename_card(old, "zoo-ties", "other-name").replace("**zoo-ties**", "**other-name**").count("zoo-ties") == 0
    assert is_untouched(rename_card(old, "zoo-ties", "other-name"))
    assert rename_card(old, "zoo-ties", "zoo-ties") == old


def test_renaming_leaves_a_persons_words_alone(merge):
    write_card(merge)
    mine = (merge / "README.md").read_text().replace("## Limitations", "I like zoo-ties best.\n\n## Limitations")
    renamed = rename_card(mine, "zoo-ties", "other")
    assert "\n# other\n" in renamed
    assert 'model_id = "./other"' in renamed
    assert "I like zoo-ties best." in renamed
    assert not is_untouched(renamed)


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("library_name: transformers", "library_name: peft", "library_name is not transformers"),
        ("base_model_relation: merge\n", "", "base_model_relation is not merge"),
        ("- merge\n", "", "the tag merge is missing"),
        ("## Limitations", "[More Information Needed]", "[More Information Needed] is in the text"),
        ("## Limitations", "see /home/me/models/x", "the text holds a path /home/me/models/x"),
        ("## Limitations", "hf_" + "a1" * 15, "the text holds a token hf_a1a…"),
        ("left", "gauche", "the parent left is not named in the text"),
        ("---\n", "", "the card has no YAML metadata"),
        ("license: apache-2.0", "license: other", "license: other needs license_name and license_link"),
        ("license: apache-2.0", "license: [", "the card's metadata is not YAML"),
        ("license: apache-2.0", "model-index: [{name: x, results: [{}]}]", "the model-index is malformed"),
    ],
)
def test_the_check_finds_what_is_wrong(merge, old, new, finding):
    write_card(merge)
    path = merge / "README.md"
    path.write_text(path.read_text().replace(old, new))
    assert any(found.level == "error" and found.message.startswith(finding) for found in check_card(merge))


def test_a_missing_card_is_the_only_finding(merge):
    (finding,) = check_card(merge)
    assert (finding.level, finding.message) == ("error", "there is no README.md")


def test_a_local_parent_is_told_by_a_sample_of_its_weights(merge):
    record = ParentRecord(reference="./animal", role="parent", headers={"m": "a" * 64}, sample="5a" * 32)
    merge_of(merge, (), parents=(record,), config_donor="./animal")
    card = _card(merge)
    assert "| animal | parent | weights sample `5a5a5a5a5a5a` | – |" in card.text
    assert "It tells two trainings of one model apart." in card.text
    assert "header digest" not in card.text
