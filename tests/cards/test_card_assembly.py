"""The card of a merge of unlike models: what was matched, how far, on which data, at which cost, and what to expect."""

from __future__ import annotations

import pytest
from card_builders import merge_of, to_be_merged, written_card

from cards.content import gather
from cards.errors import PublishError
from cards.public import public_manifest
from hubmerge.assembly_record import (
    AssemblyRecord,
    CalibrationRecord,
    CarriedRecord,
    CostRecord,
    DepthRecord,
    GroupRecord,
    LayerRecord,
)
from hubmerge.assembly_words import group_rows, how_far
from hubmerge.manifest import ParentRecord, read_manifest


def record(**changes):
    """Two groups of one row: 3 of 4 pairs of similarity .5, and 1 of 1 of similarity .9; the merge costs half more."""
    given = {
        "family": "resnet",
        "order": ("./low", "./high"),
        "weights": (1.0, 1.0),
        "align": "activations",
        "widths": "union",
        "budget": 1.5,
        "min_similarity": 0.0,
        "fit": "least_squares",
        "inputs": "auto",
        "ridge": 0.001,
        "labels": "disjoint",
        "groups": {
            "mid0.0": GroupRecord(row="mid{s}.{b}", sizes=(4, 4), merged=5, matched=(3,), similarity=(0.5,)),
            "mid1.0": GroupRecord(row="mid{s}.{b}", sizes=(1, 2), merged=2, matched=(1,), similarity=(0.9,)),
            "res1": GroupRecord(row="res{s+1}", sizes=(4, 4), merged=8, matched=(0,), similarity=(0.0,)),
        },
        "base_cost": CostRecord(parameters=100, multiply_adds=1000),
        "cost": CostRecord(parameters=200, multiply_adds=1500),
        "cost_without_zeros": CostRecord(parameters=180, multiply_adds=1300),
        "calibration": CalibrationRecord(data="./images", kind="image", column="image", samples=600, sha256="ab" * 32),
    }
    return AssemblyRecord(**given | changes)


@pytest.fixture
def merge(tmp_path):
    return to_be_merged(tmp_path, "low", "high")


def card(merge, **changes):
    parents = [merge.parent / "low", merge.parent / "high"]
    assembly = record(order=tuple(map(str, parents)), **changes)
    merge_of(merge, parents, method="pleas", format_version=2, assembly=assembly)
    return written_card(merge)


def test_groups_of_one_row_are_one_line_with_the_mean_over_all_pairs():
    mid, res = group_rows(record())
    assert (mid.name, mid.groups, mid.units, mid.merged, mid.shared) == ("mid{s}.{b}", 2, (5, 6), 7, 4)
    assert mid.similarity == pytest.approx((3 * 0.5 + 0.9) / 4)
    assert (res.shared, res.similarity) == (0, None)


def test_the_terminal_is_told_how_far_the_models_came_together():
    assert how_far(record()) == (
        "mid{s}.{b} (2 groups): 5 and 6 units become 7, 4 pairs merged, correlation 0.60 on average",
        "res{s+1}: 4 and 4 units become 8, 0 pairs merged",
        "cost: 2.00 times the base's parameters, 1.50 times its multiply-adds",
    )


DEEPER = DepthRecord(
    layers=(
        LayerRecord(layer="l.0", partner="l.1", cka=0.5),
        LayerRecord(layer="l.1", partner="l.2", cka=0.7),
        LayerRecord(layer="m.0", partner="m.0"),
        LayerRecord(layer="m.1", partner=None),
    ),
    left_out=("l.0",),
)


def test_layers_of_a_model_of_another_depth_are_told_with_what_has_no_partner(merge):
    told = "layers: 3 pairs merged, CKA 0.60 on average where one of several was chosen; the base's alone: m.1; left out: l.0"
    assert how_far(record(depths=(DEEPER,)))[0] == told
    assert f"high has another depth than the base; {told}." in card(merge, depths=(DEEPER,))


def test_a_card_says_that_layers_were_merged_by_regmean(merge):
    written = card(merge, fit="regmean", inputs=None, follow="confident", non_diagonal=0.5)
    assert (
        "Every layer was merged by RegMean: it has the weights that come nearest to what each model's layer gives on its own inputs, of every "
        "row those of the models that are sure of their answer, products of two different inputs counted 0.5 times."
    ) in written
    assert "its layers were merged by RegMean, on data without labels." in written


def test_a_card_says_what_was_aligned_how_far_on_which_data_and_at_which_cost(merge):
    text = card(merge)
    assert "\n\n\n" not in text
    assert (
        "Models that were trained apart have their units in other orders, so they were put into that of low first: the units of "
        "high were taken by how they correlate on the calibration data."
    ) in text
    assert "| units | groups | low | high | merge | pairs merged | mean correlation |" in text
    assert "| `mid{s}.{b}` | 2 | 5 | 6 | 7 | 4 | 0.60 |" in text
    assert "| `res{s+1}` | 1 | 4 | 4 | 8 | 0 | – |" in text
    assert "600 rows of ./images, column `image`, without labels; SHA-256 `abababababababab`." in text
    assert "Its classes are those of all models, one model's after the other's." in text
    assert (
        "It costs 2.00 times the parameters of low and 1.50 times its multiply-adds, of which 0.20 multiply zeros between units of "
        "different models."
    ) in text
    assert "Models that were trained apart lose something when they become one" in text
    assert "put the calibration data beside it as ./images" in text
    assert "its layers were fitted by least squares, on data without labels" in text


def test_the_summary_of_a_transport_tells_its_target_from_the_models_own_base(merge):
    low, high, target = (str(merge.parent / name) for name in ("low", "high", "target"))
    parents = tuple(
        ParentRecord(reference=name, role=role, headers={"model.safetensors": "0" * 64})
        for name, role in ((low, "parent"), (high, "base"), (target, "base"))
    )
    carried = CarriedRecord(base=high, share=1.0, tensors={})
    assembly = record(order=(target, low), fit="none", inputs=None, transport=(carried,))
    merge_of(merge, (), parents=parents, method="transport", format_version=2, assembly=assembly, config_donor=target)
    text = written_card(merge)
    assert "It was made by adding to target what low learned on top of high, with the method transport." in text


def test_what_was_not_done_is_not_said(merge):
    plain = record().cost.model_copy(update={"multiply_adds": 1300})
    text = card(merge, fit="none", inputs=None, ridge=None, calibration=None, labels=None, align="weights", cost=plain)
    assert "least squares" not in text
    assert "alibration" not in text
    assert "multiply zeros" not in text
    assert "No training took place." in text
    assert "mean cosine" in text


def test_every_way_to_match_has_its_sentence(merge):
    begun = "Models that were trained apart have their units in other orders, so"
    seen = "by how they correlate on the calibration data"
    assert f"{seen} and by the weights that connect them. Pairs became one unit. All units" in card(
        merge, align="balanced"
    )
    assert (
        f"were taken {seen}. Pairs became one unit. Units without a partner joined the one that they were most like, or were copied. "
    ) in card(merge, widths="fold", budget=None)
    assert f"{begun} those of low and high were contracted {seen}, the most alike first, within a model too." in card(
        merge, align="zip"
    )
    assert (
        f"{begun} those of high were carried to those of low {seen}, each in parts to several (optimal transport with a "
        "regularisation of 0.03)."
    ) in card(merge, align="optimal_transport", regularisation=0.03)
    assert "(optimal transport with no regularisation)" in card(merge, align="optimal_transport", regularisation=0.0)


def test_where_units_are_mixed_the_card_says_of_how_many_one_is_made(merge):
    mixed = GroupRecord(
        row="ff{l}",
        sizes=(4, 6),
        merged=4,
        matched=(6,),
        similarity=(0.4,),
        support=(1.0, 1.5),
        largest_support=(1.0, 3.0),
    )
    text = card(merge, align="zip", groups={"ff0": mixed, "head0": record().groups["res1"]})
    assert (
        "| units | groups | low | high | merge | shared with the base | mean correlation | made of units of one model |"
        in text
    )
    assert "| `ff{l}` | 1 | 4 | 6 | 4 | 6 | 0.40 | 1.5 |" in text
    assert "| `res{s+1}` | 1 | 4 | 4 | 8 | 0 | – | 1.0 |" in text
    assert how_far(record(align="zip", groups={"ff0": mixed}))[0] == (
        "ff{l}: 4 and 6 units become 4, 6 units sharing one with the base's, correlation 0.40 on average, each a mean of 1.5 of one model's"
    )


def test_no_local_path_is_left_in_what_is_published(merge):
    card(merge, calibration=record().calibration.model_copy(update={"data": str(merge.parent / "images")}))
    public = public_manifest(read_manifest(merge))
    assert public.assembly.order == ("./low", "./high")
    assert public.assembly.calibration.data == "./images"
    assert str(merge.parent) not in (merge / "README.md").read_text()


def test_data_named_by_its_path_is_named_without_it_in_warnings_too(merge):
    data = str(merge.parent / "images")
    parents = [merge.parent / "low", merge.parent / "high"]
    calibration = record().calibration.model_copy(update={"data": data})
    warnings = (f"calibration: {data} has 32 of the 256 samples that were asked for",)
    manifest = merge_of(merge, parents, assembly=record(calibration=calibration), warnings=warnings)
    assert public_manifest(manifest).warnings == (
        "calibration: ./images has 32 of the 256 samples that were asked for",
    )


def test_it_is_not_published_as_a_recipe(merge):
    card(merge)
    with pytest.raises(PublishError) as refused:
        gather(merge, "recipe", name="both", place="ada/both")
    assert str(refused.value) == (
        "a merge by pleas is not published as a recipe alone: making it again takes its calibration data · "
        f"{merge} · publish it with --as dense"
    )
