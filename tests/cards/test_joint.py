"""Several tasks measured as one: the union of their labels, ranks worked by hand, heads side by side, the ensemble."""

from __future__ import annotations

import math

import pytest
import torch
from card_builders import card_of, image_model, merge_of, pictures

from cards import EvaluationError, Suite, SuiteError, compare, evaluate, write_card
from cards.joint import ranks_of

# labels a to f from the highest score to the lowest, in this order: a d c f b e
SCORES = {"a": 6.0, "b": 2.0, "c": 4.0, "d": 5.0, "e": 1.0, "f": 3.0}
RANKS = {"a": 1, "d": 2, "c": 3, "f": 4, "b": 5, "e": 6}


def _suite(folder, *tasks, **joint):
    """Tasks `one` and `two` on the data of these names, with what `tasks` adds to each."""
    added = tasks or ({}, {})
    every = [
        {"name": name, "task": "image-classification", "data": name, **more}
        for name, more in zip(("one", "two"), added, strict=True)
    ]
    return Suite.model_validate({"name": "s", "tasks": every, "joint": joint}).at(folder)


def _values(model, name="joint"):
    return {task.metric: task.value for task in model.tasks if task.name == name}


@pytest.fixture
def zoo(tmp_path):
    """6 pictures of task one, 8 of task two; both have a label c."""
    pictures(tmp_path / "one", {"a": 2, "b": 3, "c": 1})
    pictures(tmp_path / "two", {"c": 1, "d": 2, "e": 1, "f": 4})
    return tmp_path


def test_hits_are_counted_over_all_rows_against_the_union_of_the_labels(zoo):
    (model,) = evaluate([image_model(zoo / "model", scores=SCORES)], _suite(zoo)).models

    hits = [task for task in model.tasks if task.name == "joint"]
    assert [task.metric for task in hits] == ["hits@1", "hits@3", "hits@5"]
    assert [task.value for task in hits] == [2 / 14, 6 / 14, 13 / 14]  # a; a, d and both c; all but e
    assert hits[1].stderr == pytest.approx(math.sqrt(6 / 14 * 8 / 14 / 14))
    assert {(task.n, task.labels, task.data, task.joint) for task in hits} == {
        (14, ("a", "b", "c", "d", "e", "f"), "one + two", ("one", "two"))
    }
    assert len({task.data_sha256 for task in model.tasks}) == 3
    assert [_values(model, name) for name in ("one", "two")] == [{"accuracy": 2 / 6}, {"accuracy": 0.0}]


def test_outputs_for_labels_of_no_task_do_not_compete(zoo):
    model = image_model(zoo / "model", scores={"zebra": 9.0} | SCORES)
    found = evaluate([model], _suite(zoo)).models[0]
    assert _values(found) == {"hits@1": 2 / 14, "hits@3": 6 / 14, "hits@5": 13 / 14}
    assert _values(found, "one") == {"accuracy": 0.0}  # alone, a task goes by all outputs


def test_labels_compete_that_a_sample_of_the_rows_left_out(zoo):
    suite = _suite(zoo, {"samples": 1}, {"samples": 1})
    (model,) = evaluate([image_model(zoo / "model", scores=SCORES)], suite).models
    (hit, *_) = (task for task in model.tasks if task.name == "joint")
    assert (hit.n, hit.labels) == (2, ("a", "b", "c", "d", "e", "f"))


def test_as_many_hits_as_there_are_labels_are_no_measure(zoo):
    pictures(zoo / "three", {"a": 1, "d": 1})
    suite = _suite(zoo, {"data": "three"}, {"data": "three"})
    (model,) = evaluate([image_model(zoo / "model", scores=SCORES)], suite).models
    assert _values(model) == {"hits@1": 0.5}


def test_one_label_is_nothing_to_tell_apart(zoo):
    pictures(zoo / "three", {"a": 1})
    suite = _suite(zoo, {"data": "three"}, {"data": "three"})
    with pytest.raises(SuiteError) as caught:
        evaluate([image_model(zoo / "model", scores=SCORES)], suite)
    assert str(caught.value) == "all rows have the label 'a' · joint · name other tasks"


def test_heads_stand_side_by_side_and_a_label_of_both_has_the_higher_output(zoo):
    image_model(zoo / "left", scores={"a": 6.0, "b": 2.0, "c": -1.0, "zebra": 9.0})
    image_model(zoo / "right", scores={"c": 4.0, "d": 5.0, "e": 1.0, "f": 3.0})
    merged = image_model(zoo / "merged", "cat")
    (model,) = evaluate([merged], _suite(zoo, {"head": "left"}, {"head": "right"})).models

    assert _values(model) == {"hits@1": 2 / 14, "hits@3": 6 / 14, "hits@5": 13 / 14}
    assert [_values(model, name) for name in ("one", "two")] == [{"accuracy": 0.0}, {"accuracy": 2 / 8}]
    assert [task.heads for task in model.tasks][:3] == [("left",), ("right",), ("left", "right")]


def test_a_merge_is_read_with_the_heads_of_its_parents_on_its_own_trunk(zoo):
    """Against one plain model for each head, built from the merge's trunk and that head."""
    from transformers import AutoImageProcessor, ResNetForImageClassification

    labels = {"left": ("a", "b", "c"), "right": ("f", "e", "d", "c")}
    parts = {}
    for seed, (name, own) in enumerate({"merged": ("a",), **labels}.items()):
        folder = image_model(zoo / name, own[0], own)
        torch.manual_seed(seed)
        model = ResNetForImageClassification.from_pretrained(folder)
        for tensor in model.parameters():
            torch.nn.init.normal_(tensor)
        model.save_pretrained(folder)
        parts[name] = model.eval()
    processor = AutoImageProcessor.from_pretrained(zoo / "merged")

    results = evaluate([zoo / "merged"], _suite(zoo, {"head": "left"}, {"head": "right"}), batch_size=3)

    ranks = []
    for file in sorted([*(zoo / "one").rglob("*.png"), *(zoo / "two").rglob("*.png")]):
        from PIL import Image

        pixels = processor(images=Image.open(file), return_tensors="pt")
        pooled = parts["merged"].resnet(**pixels).pooler_output
        outputs = {name: parts[name].classifier(pooled)[0] for name in labels}
        score: dict[str, float] = {}
        for name, own in labels.items():
            for label, value in zip(own, outputs[name].tolist(), strict=True):
                score[label] = max(value, score.get(label, -math.inf))
        ranks.append(sorted(score, key=score.__getitem__, reverse=True).index(file.parent.name) + 1)
    wanted = {f"hits@{k}": sum(rank <= k for rank in ranks) / 14 for k in (1, 3, 5)}
    assert _values(results.models[0]) == pytest.approx(wanted)
    assert len(set(ranks)) > 2


def test_the_ensemble_takes_from_every_model_the_labels_of_its_task(zoo):
    image_model(zoo / "left", scores={"a": 6.0, "b": 2.0, "c": -1.0, "f": 9.0})
    image_model(zoo / "right", scores={"c": 4.0, "d": 5.0, "e": 1.0, "f": 3.0, "a": 9.0})
    merged = image_model(zoo / "merged", scores=SCORES)
    lines = []
    results = evaluate([merged], _suite(zoo, ensemble=["left", "right"]), report=lines.append)

    alone, together = results.models
    assert (together.name, together.model) == ("ensemble", f"{zoo}/left, {zoo}/right")
    assert _values(together) == _values(alone)
    assert together.parameters == 2 * alone.parameters - 3 * (8 + 1)  # heads of 4 and 5 labels, and of 6
    columns, rows = results.table()
    assert [row[1:3] for row in rows] == [("0.33 ± 0.19", "0.0000 ± 0.0000"), ("–", "–")]
    assert rows[0][3:6] == rows[1][3:6] == ("0.143 ± 0.094", "0.43 ± 0.13", "0.929 ± 0.069")
    assert columns[3:6] == ("joint hits@1 (n=14)", "joint hits@3 (n=14)", "joint hits@5 (n=14)")
    assert lines[-5:-3] == ["ensemble: loading left", "ensemble: loading right"]


def test_a_model_of_a_part_of_the_labels_is_refused_or_wrong_about_the_others(zoo):
    model = image_model(zoo / "model", scores={"a": 3.0, "b": 2.0, "c": 1.0})
    with pytest.raises(EvaluationError) as caught:
        evaluate([model], _suite(zoo))
    assert str(caught.value) == (
        "the model has no label 'd', 'e', 'f'; its labels are a, b, c · model model, task 'two' · "
        "name the data's labels as the model does, or set id2label and label2id in the model's config.json"
    )

    wrong = {"unknown_labels": "wrong"}
    (found,) = evaluate([model], _suite(zoo, wrong, wrong)).models
    # a; a, b and both c: only three labels have a score, and yet no d, e or f is ever among the first five
    assert _values(found) == {"hits@1": 2 / 14, "hits@3": 7 / 14, "hits@5": 7 / 14}
    assert _values(found, "two") == {"accuracy": 0.0}
    note = "no output for the labels 'd', 'e', 'f': 7 of the rows count as wrong"
    assert [task.notes for task in found.tasks] == [(), (note,), (note,), (note,), (note,)]


def test_of_equal_scores_the_first_label_ranks_higher_and_no_score_is_behind_all():
    inf = math.inf
    scores = torch.tensor([[1.0, 2.0, 2.0, -inf], [1.0, 2.0, 2.0, -inf], [0.0, 0.0, 0.0, 0.0], [1.0, -inf, -inf, -inf]])
    assert ranks_of(scores, [1, 2, 3, 2]) == [1, 2, 4, 5]


def test_a_model_without_a_head_of_its_own_is_scored_with_the_heads_of_the_tasks(zoo):
    from transformers import ResNetForImageClassification

    whole = image_model(zoo / "left", scores=SCORES)
    image_model(zoo / "merged")
    ResNetForImageClassification.from_pretrained(whole).resnet.save_pretrained(zoo / "merged")
    head = {"head": "left"}
    (model,) = evaluate([zoo / "merged"], _suite(zoo, head, head)).models
    assert _values(model) == {"hits@1": 2 / 14, "hits@3": 6 / 14, "hits@5": 13 / 14}
    with pytest.raises(EvaluationError, match="would be random"):
        evaluate([zoo / "merged"], _suite(zoo))


def test_a_head_may_come_from_an_adapter_and_go_on_a_model_with_one(tmp_path):
    from card_builders import rows, text_model
    from peft import LoraConfig, get_peft_model
    from transformers import DistilBertForSequenceClassification

    whole = text_model(tmp_path / "base", "good")
    for name, bias in (("left", [3.0, 1.0]), ("right", [2.0, 4.0])):
        lora = LoraConfig(r=2, target_modules=["q_lin"], modules_to_save=["classifier", "pre_classifier"])
        adapted = get_peft_model(DistilBertForSequenceClassification.from_pretrained(whole), lora)
        adapted.base_model.model.classifier.modules_to_save.default.bias.data = torch.tensor(bias)
        adapted.save_pretrained(tmp_path / name)
    rows(tmp_path / "a.jsonl", {"text": "x", "label": "bad"}, {"text": "y", "label": "good"})
    tasks = [
        {"name": name, "task": "text-classification", "data": "a.jsonl", "max_length": 16, "head": f"base+{name}"}
        for name in ("left", "right")
    ]
    suite = Suite.model_validate({"name": "s", "tasks": tasks, "joint": {}}).at(tmp_path)

    (model,) = evaluate([f"{whole}+{tmp_path}/left"], suite).models
    assert model.tasks[0].outcomes.correct == "80"  # by the head of left, bad
    assert model.tasks[1].outcomes.correct == "40"  # by that of right, good
    # bad has 3 of left and 2 of right, good 1 and 4: both tasks together answer good
    assert (model.tasks[2].value, model.tasks[2].outcomes.correct) == (0.5, "50")
    assert model.tasks[2].heads == ("base+left", "base+right")


def test_a_head_that_reads_something_else_is_refused(zoo):
    image_model(zoo / "wide", scores=SCORES, width=16)
    head = {"head": "wide"}
    with pytest.raises(EvaluationError) as caught:
        evaluate([image_model(zoo / "model")], _suite(zoo, head, head))
    assert str(caught.value) == (
        "the head of wide reads 16 numbers, and the model has 8 · model model, task 'one' · "
        "leave this model out, or the task's head"
    )


def test_a_head_of_another_architecture_is_refused(zoo):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    config = ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
        num_channels=1,
        id2label=dict(enumerate(SCORES)),
        label2id={label: index for index, label in enumerate(SCORES)},
    )
    ViTForImageClassification(config).save_pretrained(zoo / "vit")
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(zoo / "vit")
    head = {"head": "vit"}
    with pytest.raises(EvaluationError, match="the head of vit belongs to a ViTForImageClassification, and this is a"):
        evaluate([image_model(zoo / "model")], _suite(zoo, head, head))


def test_a_card_says_what_an_ensemble_is_of_and_which_model_lacks_labels(zoo):
    parents = [zoo / "models" / name for name in ("left", "right")]
    for parent, scores in zip(parents, ({"a": 3.0, "b": 2.0, "c": 1.0}, SCORES), strict=True):
        card_of(image_model(parent, scores=scores), "license: mit")
    out = image_model(zoo / "out", scores=SCORES)
    merge_of(out, parents)
    wrong = {"unknown_labels": "wrong"}
    write_card(out, evaluate([out, *parents], _suite(zoo, wrong, wrong, ensemble=["models/left", "models/right"])))
    card = (out / "README.md").read_text()
    assert "| ensemble | ensemble of left, right | – | – | 0.143 ± 0.094 | 0.43 ± 0.13 | 0.929 ± 0.069 |" in card
    assert "- left, two: no output for the labels 'd', 'e', 'f': 7 of the rows count as wrong" in card


def test_hits_are_compared_pair_by_pair_and_stand_in_card_and_model_index(zoo):
    parents = [zoo / "models" / name for name in ("left", "right")]
    for parent in parents:
        card_of(image_model(parent, scores=dict.fromkeys(SCORES, 0.0)), "license: mit")
    out = image_model(zoo / "out", scores=SCORES)
    merge_of(out, parents)
    results = evaluate([out, *parents], _suite(zoo))

    # a alone is right by chance of the order: the same two rows of 14, so that nothing differs
    first = next(row for row in compare(results, results.models[0]) if row.metric == "hits@1")
    third = next(row for row in compare(results, results.models[0]) if row.metric == "hits@3")
    assert (first.difference, first.stderr, first.paired) == (0.0, 0.0, True)
    assert (third.difference, third.paired) == (pytest.approx((6 - 7) / 14), True)  # a, b, c against a, c, d
    entry = results.model_index(results.models[0], "m")[0]["results"][-1]
    assert (entry["dataset"]["name"], entry["dataset"]["type"]) == ("joint", "one + two")
    assert [metric["name"] for metric in entry["metrics"]] == ["Hits@1", "Hits@3", "Hits@5"]

    write_card(out, results)
    card = (out / "README.md").read_text()
    assert "joint: hits@3 ↑ (n = 14)" in card
    assert "Hits@k is the share of samples whose true label is among the k of highest score." in card
    assert "every row of one, two against all of these labels, without a word of which task it is from" in card
    assert "joint, hits@3: 0.43 ± 0.13, against 0.50 ± 0.13 for left" in card
