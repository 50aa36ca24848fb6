"""Labels of models that were trained apart: the same, in another order, side by side, or not to be told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from apart_models import batches, logits, model

from hubmerge.errors import PlanError
from hubmerge.heterogeneous import merge_models
from hubmerge.heterogeneous.labels import Labels, MergedLabels, merged_labels
from hubmerge.heterogeneous.maps import Selection

PLAIN: dict[str, Any] = {"fit": None, "renormalise": False}


def joined(*names: list[str], labels: Labels | None = None) -> MergedLabels:
    return merged_labels([{"id2label": dict(enumerate(each))} for each in names], labels)


def units(found: MergedLabels) -> list[list[int]]:
    return [part.unit.tolist() for part in found.maps["label"] if isinstance(part, Selection)]


def refused(*names: list[str], labels: Labels | None = None) -> str:
    with pytest.raises(PlanError) as caught:
        joined(*names, labels=labels)
    return str(caught.value)


@pytest.mark.parametrize("labels", [None, "shared"])
def test_the_same_labels_are_one_head_in_the_bases_order(labels: Labels | None) -> None:
    assert joined(["a", "b"], ["a", "b"], labels=labels) == MergedLabels(("a", "b"), {})
    found = joined(["a", "b", "c"], ["c", "a", "b"], ["a", "b", "c"], labels=labels)
    assert found.names == ("a", "b", "c")
    assert units(found) == [[0, 1, 2], [1, 2, 0], [0, 1, 2]]


def test_other_labels_are_put_one_after_the_other() -> None:
    found = joined(["a", "b"], ["c"])
    assert found.names == ("a", "b", "c")
    assert units(found) == [[0, 1, -1], [-1, -1, 0]]


def test_labels_kept_apart_although_they_are_the_same_get_their_models_place() -> None:
    found = joined(["a", "b"], ["b", "a"], labels="disjoint")
    assert found.names == ("a (1)", "b (1)", "b (2)", "a (2)")
    assert units(found) == [[0, 1, -1, -1], [-1, -1, 0, 1]]


def test_keys_may_be_texts_and_in_any_order() -> None:
    found = merged_labels([{"id2label": {"10": "k", "9": "j"}}, {"id2label": {9: "j", 10: "k"}}], None)
    assert found == MergedLabels(("j", "k"), {})


def test_labels_that_are_but_numbers_need_a_word() -> None:
    assert refused(["LABEL_0", "LABEL_1"], ["a", "b"]) == (
        "the models' labels have no names of their own, so it is not known whether they mean the same · labels · "
        "write labels: shared, or labels: disjoint"
    )
    assert joined(["LABEL_0", "LABEL_1"], ["a", "b"], labels="shared").maps == {}  # number by number
    assert merged_labels([{"num_labels": 2}, {}], "shared").names == ("LABEL_0", "LABEL_1")


def test_labels_of_which_only_some_are_the_same_need_a_word() -> None:
    assert refused(["a", "b"], ["b", "c"]) == (
        "the models share the label 'b' but not all · labels · write labels: disjoint to keep them apart"
    )
    assert joined(["a", "b"], ["b", "c"], labels="disjoint").names == ("a (1)", "b (1)", "b (2)", "c (2)")


def test_labels_that_only_two_of_three_models_share_need_a_word() -> None:
    text = "the models share the label 'x' but not all · labels · write labels: disjoint to keep them apart"
    assert refused(["x", "y"], ["p"], ["x", "y"]) == text
    assert refused(["p"], ["x"], ["x", "z"]) == text
    assert joined(["x"], ["p", "q"], ["z"]).names == ("x", "p", "q", "z")


def test_shared_labels_must_be_as_many_and_the_same() -> None:
    assert refused(["a", "b"], ["a", "b", "c"], labels="shared") == (
        "the models have 2 and 3 labels · labels · write labels: disjoint"
    )
    assert refused(["a", "b"], ["a", "c"], labels="shared") == (
        "the label 'b' is not in all models · labels · give the labels the same names in id2label"
    )


def test_a_name_for_two_classes_is_no_guide() -> None:
    assert joined(["a", "a", "b"], ["a", "a", "b"]).maps == {}
    assert refused(["a", "a", "b"], ["b", "a", "a"]) == (
        "the label 'a' stands for two classes of a model · labels · give them names of their own"
    )
    assert "label 'a'" in refused(["a", "a", "b"], ["a", "b", "b"])


def test_none_leaves_the_head_alone() -> None:
    assert joined(["a"], ["b", "c"], labels="none") == MergedLabels((), {})


def test_heads_of_the_same_labels_in_another_order_meet_by_name() -> None:
    base = model("vit", 0, id2label={0: "x", 1: "y", 2: "z"})
    other = model("vit", 0, id2label={0: "z", 1: "x", 2: "y"})
    with torch.no_grad():
        other.classifier.weight.copy_(base.classifier.weight[[2, 0, 1]])
        other.classifier.bias.copy_(base.classifier.bias[[2, 0, 1]])
    batch = batches("vit")[0]
    done = merge_models([base, other], [batch], **PLAIN)
    assert done.model.config.id2label == {0: "x", 1: "y", 2: "z"}
    torch.testing.assert_close(logits(done.model, batch), logits(base, batch))


def test_heads_that_are_kept_apart_share_nothing_and_say_so() -> None:
    parents = [model("vit", seed) for seed in (0, 1)]
    done = merge_models(parents, batches("vit"), labels="disjoint", residual="keep", **PLAIN)
    own = done.model.state_dict()["classifier.weight"]
    assert torch.equal(own, torch.cat([parent.state_dict()["classifier.weight"] for parent in parents]))
    told = done.report.groups["label"]
    assert (told.sizes, told.merged, told.matched, told.similarity) == ((3, 3), 6, (0,), (0.0,))
