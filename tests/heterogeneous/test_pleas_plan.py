"""The plan of a merge of unlike models: what it tells from headers alone, and which models it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pleas_models import SIDE, bert, images, planned, pleas, resnet, saved, vit
from zoo import run_python, write_adapter

import hubmerge
from hubmerge import PlanError
from hubmerge.errors import HubmergeError

pytestmark = pytest.mark.usefixtures("in_pleas_zoo")


def refusal(*names: str, **changes: Any) -> str:
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan(pleas(*names, **changes))
    return str(refused.value)


def test_a_plan_says_what_becomes_of_the_units_what_it_costs_and_on_which_data() -> None:
    plan = planned(align={"widths": "union", "ratio": 0.5}, labels="disjoint", parameters={"weight": 0.5})
    lines = str(plan).splitlines()
    assert lines[:15] == [
        "pleas: Match the units of models trained apart, merge the pairs, and fit every layer to the parents' by least squares.",
        "",
        "parents",
        "  ./low  (base: its order of units, config)  embedding_size 4, hidden_sizes 4 6",
        "  ./high  (parent)  embedding_size 4, hidden_sizes 4 6",
        "  all models: weight 0.5",
        "",
        "units of    low  high  merged  apart",
        "  res1        4     4       6      4",
        "  mid0.0      4     4       6      4",
        "  mid1.0      6     6       9      6",
        "  res2        6     6       9      6",
        "  apart: at least so many stay one model's; the most alike are merged, and no pair less alike than 0",
        "",
        "config       ./low's with embedding_size 6, hidden_sizes[0] 6, hidden_sizes[1] 9",
    ]
    facts = dict(line.split(maxsplit=1) for line in lines[15:])
    assert facts["labels"] == "5, one model's after the other's: a, b, c, d, e"
    assert facts["matched"] == "by the correlations of their activations on the calibration data"
    assert facts["calibration"] == (
        "8 inputs of ./images.npz, column pixel_values, drawn with seed 0; their sha256 is recorded"
    )
    assert facts["downloads"] == "nothing: all of it is on this disk"
    assert facts["interrupted"] == "it is not gone on with: the same command begins anew"
    assert facts["plan"] == plan.hash[:12]
    assert plan.warnings == ()


def test_costs_count_pixels_and_zeros() -> None:
    """Worked by hand: 16 pixels become 8, 4, 4 and 2 a side (stem, pooling, first and second stage)."""
    plan = planned(align={"widths": "union", "ratio": 0.5}, labels="disjoint")

    def multiply_adds(one: int, two: int, classes: int) -> int:
        stem, first = 8 * 8 * 49 * one, 4 * 4 * 2 * 9 * one * one
        second = 2 * 2 * (9 * one * two + 9 * two * two + one * two)
        return stem + first + second + two * classes

    assert plan.base_cost.multiply_adds == multiply_adds(4, 6, 3)
    assert plan.cost.multiply_adds == multiply_adds(6, 9, 5)
    assert plan.exact
    # of 6 units 2 are shared and 2 are each model's, so of 36 pairs 8 have no model in common; of 9 units 3, 3 and 3
    zeros = 4 * 4 * 2 * 9 * (2 * 2 * 2) + 2 * 2 * (9 * 2 * 2 * 3 + 9 * 2 * 3 * 3 + 2 * 2 * 3)
    assert plan.cost.multiply_adds - plan.blocks.multiply_adds == zeros + 3 * 3 + 3 * 2


def test_a_budget_is_kept_by_the_dense_cost() -> None:
    plan = planned(align={"widths": "union", "budget": 1.4}, labels="disjoint")
    assert {group.name: group.merged for group in plan.groups} == {"res1": 5, "mid0.0": 5, "mid1.0": 8, "res2": 8}
    assert (plan.cost.multiply_adds, plan.base_cost.multiply_adds) == (26824, 19426)  # 1.38 times; units in whole ones


def test_a_wider_model_s_units_are_left_out_or_make_room() -> None:
    plan = planned("./low", "./wide", labels="disjoint")
    assert [(group.name, group.sizes, group.merged, group.apart, group.left_out(1)) for group in plan.groups] == [
        ("res1", (4, 6), 4, 0, 2), ("mid0.0", (4, 6), 4, 0, 2), ("mid1.0", (6, 9), 6, 0, 3), ("res2", (6, 9), 6, 0, 3),
    ]  # fmt: skip
    assert "units of    low  wide  merged  apart  left out" in str(plan)
    union = planned("./low", "./wide", labels="disjoint", align={"widths": "union"})
    assert [group.merged for group in union.groups] == [6, 6, 9, 9]
    assert union.notes == (
        "widths: union without budget or ratio makes the merge as wide as its widest model, and no wider",
    )
    assert refusal("./low", "./wide", labels="disjoint", align={"widths": "union", "budget": 1.1}) == (
        "the narrowest merge of these parents costs 1.77 times the base, the budget is 1.1 · align.budget · "
        "raise the budget, or keep the widths of the base"
    )


def test_the_base_is_first_wherever_the_recipe_has_it() -> None:
    plan = planned("./wide", "./low", base_model="./low", labels="disjoint", models=[
        {"model": "./wide", "parameters": {"weight": 3}}, {"model": "./low"},
    ])  # fmt: skip
    assert (plan.base, plan.order, plan.stages.weights) == (1, (1, 0), (3.0, 1.0))
    assert plan.groups[0].sizes == (4, 6)
    assert plan.labels is not None
    assert plan.labels.names == ("a", "b", "c", "d", "e")


def test_groups_of_one_row_and_one_size_are_one_line(tmp_path: Path) -> None:
    for i in (0, 1):
        vit(tmp_path / str(i), i, ("x", "y"), num_hidden_layers=3)
    images(tmp_path)
    plan = planned(f"{tmp_path}/0", f"{tmp_path}/1", calibration={"data": f"{tmp_path}/images.npz"})
    text = str(plan)
    assert "head{l} (3 groups)" in text
    assert "ff{l} (3 groups)" in text
    assert [*plan.kept] == ["res"]
    assert "res is turned as a whole by the weights that read and write it, the norms' gains absorbed; " in text


def test_a_plan_is_json() -> None:
    facts = json.loads(json.dumps(planned(labels="disjoint").to_dict()))
    assert facts["method"] == "pleas"
    assert facts["groups"][0] == {
        "name": "res1", "row": "res{s+1}", "sizes": [4, 4], "merged": 4, "apart_at_least": 0, "left_out": 0,
    }  # fmt: skip
    assert facts["stages"]["calibration"]["kind"] == "pixels"
    assert facts["parents"][1]["widths"] == {"embedding_size": "4", "hidden_sizes": "4 6"}


def test_the_hash_tells_recipes_apart_and_nothing_else() -> None:
    first = planned(labels="disjoint").hash
    assert planned(labels="disjoint").hash == first
    assert planned(labels="disjoint", dtype="bfloat16").hash != first
    assert planned(labels="disjoint", align={"without": ["res1"]}).hash != first


def test_a_plan_loads_neither_torch_nor_transformers(pleas_zoo: Path) -> None:
    (pleas_zoo / "recipe.yaml").write_text(json.dumps(pleas(labels="disjoint")))
    code = (
        "import sys; sys.argv[1:] = ['plan', 'recipe.yaml']\n"
        "from hubmerge.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as ended: assert not ended.code\n"
        "print(*sorted({'torch', 'transformers', 'numba', 'datasets', 'scipy.linalg'} & set(sys.modules)), file=sys.stderr)"
    )
    ended = run_python(code, cwd=pleas_zoo)
    assert (ended.returncode, ended.stderr) == (0, "\n")
    assert ended.stdout.startswith("pleas: Match the units")


def test_unlike_models_that_nothing_puts_together_are_refused_by_name(tmp_path: Path) -> None:
    vit(tmp_path / "vit", 0, ("d", "e"))
    assert refusal("./low", f"{tmp_path}/vit") == (
        f"./low is resnet, {tmp_path}/vit is vit · models · merge models of one architecture"
    )
    own = {"hidden_sizes": [4, 4, 4, 4], "depths": [1, 1, 1, 1], "num_channels": 1}
    saved("ConvNext", "ForImageClassification", tmp_path / "convnext", 0, own, ("d", "e"))
    assert refusal("./low", f"{tmp_path}/convnext").startswith(
        f"no symmetry table for architecture 'convnext' · {tmp_path}/convnext · there are tables for bert, "
    )


def test_sizes_that_no_matching_bridges_are_refused(tmp_path: Path) -> None:
    vit(tmp_path / "narrow", 0, ("x", "y"))
    vit(tmp_path / "wide", 1, ("x", "y"), hidden_size=16)
    assert refusal(f"{tmp_path}/narrow", f"{tmp_path}/wide") == (
        "group 'res' (permutation) has 8 and 16 entries · models · "
        "a norm divides by all its units together, so it is matched only where align: {residual: activations} asks for it; "
        "merge_method: transport carries what a model learned to another width"
    )
    assert refusal("./low", "./wide", labels="disjoint", align="identity") == (
        "group 'res1' (permutation+scales) has 4 and 6 entries · models · "
        "align: identity leaves units in the order they have: write align: activations"
    )
    assert refusal("./high", "./wide", align="weights", fit="none", calibration=None) == (
        "tensor 'classifier.1.weight' is [2, 6] in ./high and [2, 9] in ./wide · align · "
        "models of different widths are matched by activations"
    )


def test_an_adapter_is_to_be_merged_first(pleas_zoo: Path) -> None:
    name = "resnet.encoder.stages.0.layers.0.layer.0.convolution"
    factors = {
        f"{name}.lora_A.weight": np.ones((2, 4, 3, 3), "float32"),
        f"{name}.lora_B.weight": np.ones((4, 2, 1, 1), "float32"),
    }
    write_adapter(pleas_zoo / "lora", factors)
    assert refusal("./low+./lora", "./high").endswith(
        "make one model of the two first: `hubmerge merge` with merge_method: passthrough and this model alone"
    )


def test_groups_are_kept_by_name_and_an_unknown_one_is_refused() -> None:
    kept = planned(labels="disjoint", align={"without": ["mid{s}.{b}"]})
    assert kept.kept == dict.fromkeys(("mid0.0", "mid1.0"), "align.without names it")
    assert "mid0.0, mid1.0 keep the order: align.without names it" in str(kept)
    assert refusal(labels="disjoint", align={"without": ["res9"]}) == (
        "./low has no group 'res9' · align.without · `hubmerge symmetry show ./low` lists them"
    )
    assert refusal(labels="disjoint", align={"without": ["res1"], "widths": "union", "ratio": 0.5}) == (
        "group 'res1' would grow from 4 to 6 units, and none of it are matched · align · match it, or write widths: base"
    )


def test_classes_come_together_by_their_names_or_by_a_word(tmp_path: Path) -> None:
    decided = planned()
    assert decided.labels is not None
    assert (decided.joins_labels, len(decided.labels.names)) == (True, 5)
    assert refusal(labels="shared") == "the models have 3 and 2 labels · labels · write labels: disjoint"
    assert refusal(labels="none") == (
        "./low has a classifier, and labels: none says that there is none · labels · "
        "write labels: shared or labels: disjoint, or save the models without their heads"
    )
    saved("ResNet", "Model", tmp_path / "body", 0, {"embedding_size": 4, "hidden_sizes": [4, 6], "depths": [1, 1],
          "layer_type": "basic", "num_channels": 1}, ())  # fmt: skip
    saved("ResNet", "Model", tmp_path / "other", 1, {"embedding_size": 4, "hidden_sizes": [4, 6], "depths": [1, 1],
          "layer_type": "basic", "num_channels": 1}, ())  # fmt: skip
    assert planned(f"{tmp_path}/body", f"{tmp_path}/other").labels is None
    assert refusal(f"{tmp_path}/body", f"{tmp_path}/other", labels="shared") == (
        "the models have no classifier, and labels: shared says how classes come together · labels · "
        "remove labels, or merge models with their heads"
    )


def test_words_that_stand_for_other_ids_are_refused_where_all_models_read_them(tmp_path: Path) -> None:
    words = ("<unk>", "one", "two", "and")
    first, same = bert(tmp_path / "first", 0, words), bert(tmp_path / "same", 1, words)
    other = bert(tmp_path / "other", 2, ("<unk>", "two", "one", "and"))
    (tmp_path / "texts.txt").write_text("one and two\ntwo and one\n")
    data = {"data": f"{tmp_path}/texts.txt", "samples": 2}
    assert planned(str(first), str(same), calibration=data).tokenizer_donor == 0
    assert refusal(str(first), str(other), calibration=data) == (
        f"{first} and {other} have different vocabularies, and the same text is other tokens to each, so that they do not see the same "
        "data · calibration · write align: weights and fit: none without calibration, "
        f"or bring them to one vocabulary first: merge_method: passthrough with the other alone, base_model: {first} and tokenizer_source: base"
    )


def test_data_that_the_models_cannot_be_given_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    data = images(tmp_path, channels=3)
    assert refusal(labels="disjoint", calibration={"data": str(data)}) == (
        "row 0 of images.npz has 3 channels, and the model takes 1 · calibration.data · "
        "pixels are finite numbers (channels, height, width), all of one size"
    )


def test_models_that_take_two_things_at_once_are_merged_without_data(tmp_path: Path) -> None:
    own = {"d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 1, "num_heads": 2, "vocab_size": 8}
    for i in (0, 1):
        saved("T5", "ForConditionalGeneration", tmp_path / str(i), i, own, ())
    names = (f"{tmp_path}/0", f"{tmp_path}/1")
    assert refusal(*names) == (
        f"{tmp_path}/0 (T5ForConditionalGeneration) takes a text to read and one to go on with, and calibration data is of one kind · "
        "calibration · write align: weights and fit: none, which need no data"
    )
    assert planned(*names, align="weights", fit="none", calibration=None).calibration is None


def test_fewer_samples_than_asked_for_are_a_note_and_never_a_fault_and_take_no_memory() -> None:
    plan, enough, four = (
        hubmerge.build_plan(
            pleas(labels="disjoint", calibration={"data": "./images.npz", "samples": asked}), strict=True
        )
        for asked in (100, 8, 4)
    )
    assert plan.peak_memory == enough.peak_memory > four.peak_memory
    assert plan.notes == ("calibration: ./images.npz has 8 of the 100 samples that were asked for",)


def test_pictures_of_unknown_size_make_sizes_estimates(pleas_zoo: Path, tmp_path: Path) -> None:
    """An image processor that keeps a picture's own size leaves open how often a convolution is used."""
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    Image.new("L", (SIDE, SIDE)).save(tmp_path / "pictures" / "one.png")
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": False,
        "image_mean": [0.5],
        "image_std": [0.5],
    }
    for i, classes in enumerate((("a", "b"), ("c", "d"))):
        folder = resnet(tmp_path / str(i), i, classes)
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    given = {"data": f"{tmp_path}/pictures", "samples": 1}
    plan = planned(f"{tmp_path}/0", f"{tmp_path}/1", calibration=given, align={"widths": "union", "budget": 1.5})
    assert not plan.exact
    assert "about" in str(plan)
    assert plan.notes == (
        "sizes under a budget depend on the size of the inputs, which is not known yet: those here are estimates",
    )


def test_an_ordinary_plan_does_not_know_of_this(pleas_zoo: Path) -> None:
    assert (
        "hubmerge.heterogeneous.plan"
        not in run_python(
            "import hubmerge, sys; print(*[name for name in sys.modules if name.startswith('hubmerge.heterogeneous')])",
            cwd=pleas_zoo,
        ).stdout
    )
    assert sys.modules["hubmerge.heterogeneous.plan"]


def test_strict_makes_an_error_of_a_warning(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as refused:
        hubmerge.build_plan(pleas(labels="disjoint", parameters={"density": 0.5}), strict=True)
    assert "density" in str(refused.value)


def test_what_the_base_computes_otherwise_is_a_warning(tmp_path: Path) -> None:
    names = [str(vit(tmp_path / act, 0, ("a", "b"), hidden_act=act)) for act in ("gelu", "relu")]
    (warning,) = planned(*names).warnings
    assert warning == f"{names[0]} and {names[1]} differ: activation gelu vs relu; the merge has the base's function"
