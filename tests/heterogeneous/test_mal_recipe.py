"""Recipes that merge single layers into a base: what they say, what a plan tells from headers alone, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad.models import recipe_faults
from mal_recipes import DATA, PROBE, data, mal
from pleas_models import SIDE, bert, resnet, saved, vit
from zoo import run_python, write_adapter

import hubmerge
from hubmerge.errors import HubmergeError, PlanError
from hubmerge.heterogeneous.mal_plan_types import MalPlan
from hubmerge.mal_stages import FACTORS, MalParameters, mal_stages_of
from hubmerge.recipe import Recipe
from hubmerge.recipe_zoo import ZooQuery

pytestmark = pytest.mark.usefixtures("in_mal_zoo")


def planned(*donors: str, **changes: Any) -> MalPlan:
    plan = hubmerge.build_plan(mal(*donors, **changes))
    assert isinstance(plan, MalPlan)
    return plan


def refusal(*donors: str, **changes: Any) -> str:
    with pytest.raises(HubmergeError) as refused:
        hubmerge.build_plan(mal(*donors, **changes))
    return str(refused.value)


def test_what_a_recipe_leaves_out_is_as_in_memory() -> None:
    given = mal_stages_of(Recipe.parse(mal(parameters=None)))
    assert given.parameters == MalParameters(
        tau=0.1, eps=0.05, rounds=1, choose="largest", factors=FACTORS, min_cka=0.0
    )
    assert (given.calibration, given.probe, given.min_similarity, given.without) == (None, None, 0.0, ())
    assert given.tried == (0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05)


def test_everything_a_recipe_says_is_read_and_written_out_again() -> None:
    own = {"tau": 0.2, "eps": 0.0, "rounds": 3, "choose": "best", "factors": [0.5, 0, 0.25], "min_cka": 0.1}
    raw = mal(
        parameters=own,
        align={"min_similarity": 0.3, "without": ["res1"]},
        calibration=DATA,
        probe=PROBE,
        zoo="zoo.duckdb",
    )
    recipe = Recipe.parse(raw)
    assert Recipe.parse(recipe.to_dict()) == recipe
    given = mal_stages_of(recipe)
    assert given.choices == {**own, "min_similarity": 0.3, "without": ["res1"]}
    assert given.tried == (0.5, 0.25)
    assert given.probe is not None
    assert (given.probe.data, given.probe.labels) == ("./data.npz", "digit")
    assert recipe.zoo == ZooQuery(catalog="zoo.duckdb")


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"base_model": None}, [("mal merges layers into a base model, and none is named · base_model · "
                                "add base_model: the model whose architecture, widths and head stay")]),
        ({"models": [{"model": "./base"}]}, [("mal takes layers of at least 1 donor, and there is none beside the base · models · "
                                             "list donors under models, or find them in a catalog: zoo: {text: words}")]),
        ({"models": None}, [("no models are listed · models · write one `- model: org/name` line for each, or find them in a "
                             "catalog: zoo: {text: words}")]),
        ({"models": [{"model": "./a"}, {"model": "./a"}]}, ["./a is listed twice · models · list each donor once"]),
        ({"fit": "none"}, ["mal takes no fit · fit · remove it: layers are mixed, and none is fitted"]),
        ({"labels": "shared"}, ["mal takes no labels · labels · remove it: the merge has the base model's head"]),
        ({"align": "weights"}, [("mal matches units by activations, not by weights · align.method · "
                                "remove it; without calibration units are matched on noise")]),
        ({"align": {"widths": "union", "ratio": 0.5}},
         [f"mal keeps the base model's shape, and takes no align.{name} · align.{name} · "
          "remove it, or write merge_method: pleas, which merges whole models" for name in ("ratio", "widths")]),
        ({"parameters": {"factors": 0.5}}, [("factors must be a list of shares, got 0.5 · parameters.factors · "
                                            "write factors: [0.1, 0.3]")]),
        ({"parameters": {"factors": [0.5, 2]}}, [("factors are shares from 0 to 1, got 2 · parameters.factors · "
                                                 "write factors: [0.1, 0.3]")]),
        ({"parameters": {"tau": [0.1, 0.2]}}, [("tau is one number for a whole model under mal, neither gradient nor filters · "
                                               "parameters.tau · write tau: 0.5")]),
        ({"parameters": {"rounds": 0}}, [("rounds must be in [1, inf), got 0 · parameters.rounds · "
                                         "rounds: how often all donors and layers have their turn")]),
        ({"parameters": {"choose": "best"}}, [("the best share is told by a loss, and there is no probe to measure it on · "
                                              "parameters.choose · add probe: {data: file.npz, labels: column}")]),
        ({"parameters": {"eps": 0.1}}, [("eps limits the loss on a probe, and there is none · parameters.eps · "
                                        "add probe: {data: file.npz, labels: column}, or remove eps")]),
        ({"parameters": {"taw": 0.1}}, ["unknown parameter 'taw' · parameters.taw · did you mean tau?"]),
        ({"probe": {"data": "data.npz"}}, ["labels is missing · probe.labels · see docs/recipe.md"]),
        ({"zoo": 3}, ["zoo is a catalog's file or a mapping, got 3 · zoo · see docs/recipe.md"]),
        ({"merge_method": "pleas", "zoo": "zoo.duckdb", "calibration": "x.npz", "base_model": None, "parameters": None},
         ["pleas takes no zoo · zoo · list the models under models, or write merge_method: mal"]),
    ],
)  # fmt: skip
def test_faults_say_what_where_and_what_to_do(changes: dict[str, Any], faults: list[str]) -> None:
    assert sorted(recipe_faults(mal(**changes))) == sorted(faults)


def test_a_plan_says_who_gives_what_could_be_paired_what_is_tried_and_what_stays() -> None:
    plan = planned(calibration=DATA, probe=PROBE)
    lines = str(plan).splitlines()
    assert lines[:17] == [
        "mal: Merge single layers of any number of donors into a base model, each as far as its output bears it.",
        "",
        "base",
        "  ./base  embedding_size 4, hidden_sizes 4 6; 2 layers",
        "donors",
        "  ./wide  embedding_size 6, hidden_sizes 6 9; 2 layers",
        "  ./deep  embedding_size 4, hidden_sizes 4 6; 4 layers",
        "",
        "layers of                         base  wide  deep",
        "  resnet.encoder.stages.0.layers     1     1     1",
        "  resnet.encoder.stages.1.layers     1     1     3",
        "  resnet.encoder.stages.1.layers.0 can only go with 0 of deep",
        "  which layer goes with which, of those that can, is told by the CKA of their outputs while it merges",
        "",
        "stays        ./base's architecture, widths, depth, config and head, and every layer that nothing is accepted for",
        (
            "tried        1 round of 2 donors and 2 layers, 4 turns, 2 shares (0.3 to 0.1): at most 8 runs of a layer on 8 samples, "
            "and as many of the whole model on the probe"
        ),
        (
            "taken        the largest at which the layer's output drifts by at most 0.6 of its size and the loss on the probe is at most "
            "1.05 times the control's; else the layer is left alone"
        ),
    ]
    facts = dict(line.split(maxsplit=1) for line in lines[17:])
    assert facts["probe"] == (
        "8 inputs of ./data.npz, column pixel_values, drawn with seed 0; their sha256 is recorded; labels in column digit"
    )
    assert facts["interrupted"] == "the same command goes on after the last decision"
    assert facts["plan"] == plan.hash[:12]
    assert (plan.turns, plan.runs, plan.warnings) == (4, 8, ())


def test_without_data_there_is_noise_and_the_best_share_is_said_so() -> None:
    assert "calibration  none: 64 samples of noise, drawn with seed 0; BatchNorm's statistics are merged" in str(
        planned()
    )
    best = planned(probe=PROBE, parameters={"choose": "best"})
    assert (
        "taken        that at which the layer's output drifts by at most 0.1 of its size and the loss on the probe falls the most"
        in str(best)
    )


def test_a_base_that_is_listed_too_is_the_base() -> None:
    plan = planned("./deep", "./base")
    assert (plan.base, plan.order, [parent.role for parent in plan.parents]) == (1, (1, 0), ["parent", "base"])


def test_a_plan_is_json_and_a_table() -> None:
    plan = planned("./deep")
    facts = json.loads(json.dumps(plan.to_dict()))
    assert facts["donors"] == [
        {
            "reference": "./deep",
            "stages": [
                {"stage": "resnet.encoder.stages.0.layers", "layers": [0], "of_donor": [0], "possible": [[0]], "why": [""]},
                {"stage": "resnet.encoder.stages.1.layers", "layers": [0], "of_donor": [0, 1, 2], "possible": [[0]], "why": [""]},
            ],
        }
    ]  # fmt: skip
    assert (facts["turns"], facts["runs_at_most"], facts["choices"]["tau"]) == (2, 4, 0.6)
    assert plan.to_pandas()["stage"].tolist() == ["resnet.encoder.stages.0.layers", "resnet.encoder.stages.1.layers"]


def test_a_plan_loads_neither_torch_nor_transformers(mal_zoo: Path) -> None:
    (mal_zoo / "recipe.yaml").write_text(json.dumps(mal(calibration=DATA, probe=PROBE)))
    code = (
        "import sys; sys.argv[1:] = ['plan', 'recipe.yaml']\n"
        "from hubmerge.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as ended: assert not ended.code\n"
        "print(*sorted({'torch', 'transformers', 'numba', 'datasets', 'scipy.linalg'} & set(sys.modules)), file=sys.stderr)"
    )
    ended = run_python(code, cwd=mal_zoo)
    assert (ended.returncode, ended.stderr) == (0, "\n")
    assert ended.stdout.startswith("mal: Merge single layers")


def test_the_hash_tells_choices_apart() -> None:
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"align": {"without": ["res1"]}},
        {"parameters": {"tau": 0.5}},
        {"seed": 1},
    )
    hashes = [planned("./deep", **own).hash for own in changes]
    assert len(set(hashes)) == 4
    assert planned("./deep").hash == hashes[0]


def test_donors_of_another_family_are_refused_and_all_are_named() -> None:
    assert refusal("./vit") == "the base is resnet, this model is vit · ./vit · merge models of one family"
    assert refusal("./vit", "./nothing").count("·") >= 2


def test_donors_whose_layers_are_built_otherwise_are_refused(tmp_path: Path) -> None:
    resnet(tmp_path / "bottleneck", 0, ("d", "e"), layer_type="bottleneck")
    assert refusal(f"{tmp_path}/bottleneck") == (
        f"none of its layers can go with one of ./base's: no layer of its stage has the same structure · {tmp_path}/bottleneck · "
        "choose a donor whose layers are built like the base's; `hubmerge symmetry show` tells"
    )


def test_a_stream_under_a_norm_has_one_width_but_what_is_inside_may_differ(tmp_path: Path) -> None:
    base = str(vit(tmp_path / "base", 0, ("x", "y")))
    other = str(vit(tmp_path / "other", 1, ("x", "y"), intermediate_size=20, num_hidden_layers=3))
    assert [stage.paired for stage in planned(other, base_model=base).stages_of[0]] == [1]
    wide = str(vit(tmp_path / "wide", 2, ("x", "y"), hidden_size=16))
    assert refusal(wide, base_model=base) == (
        f"none of its layers can go with one of {base}'s: group 'res' stands under a norm of all its units, and has 8 here and 16 there · "
        f"{wide} · choose a donor with 8 units there; its hidden units, heads and depth may be others"
    )


def test_donors_that_cannot_be_given_what_the_base_is_given_are_refused(tmp_path: Path) -> None:
    base = str(vit(tmp_path / "base", 0, ("x", "y")))
    small = str(vit(tmp_path / "small", 1, ("x", "y"), image_size=8))
    assert refusal(small, base_model=base) == (
        f"the base reads 5 places of a picture, this model 2 · {small} · "
        "both models are run on the same data; choose a donor of the base's image_size and patch_size"
    )
    first = str(bert(tmp_path / "first", 0, ("<unk>", "one", "two")))
    other = str(bert(tmp_path / "second", 1, ("<unk>", "two", "one")))
    assert refusal(other, base_model=first).startswith(f"{first} and {other} have different vocabularies")


def test_donors_that_turn_positions_at_other_speeds_are_refused(tmp_path: Path) -> None:
    own = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 8}
    base, other = (
        str(saved("Llama", "ForCausalLM", tmp_path / str(theta), 0, {**own, "rope_parameters": {"rope_theta": theta, "rope_type": "default"}}, ()))
        for theta in (10000.0, 500000.0)
    )  # fmt: skip
    assert refusal(other, base_model=base) == (
        f"{base} and {other} turn positions at other speeds (rope_theta 10000.0 vs 500000.0), which no matching of heads brings together · "
        "models · take parents of the same rope parameters"
    )


def test_adapters_and_unknown_groups_are_refused(mal_zoo: Path) -> None:
    name = "resnet.encoder.stages.0.layers.0.layer.0.convolution"
    factors = {
        f"{name}.lora_A.weight": np.ones((2, 4, 3, 3), "float32"),
        f"{name}.lora_B.weight": np.ones((4, 2, 1, 1), "float32"),
    }
    write_adapter(mal_zoo / "lora", factors)
    assert refusal("./base+./lora").startswith(
        "a model with an adapter is not put together with others · ./base+./lora"
    )
    assert refusal("./wide", align={"without": ["res1", "res2"]}) == (
        "none of its layers can go with one of ./base's: group 'res1' is not matched, and has 4 entries here and 6 there · ./wide · "
        "leave res1, res2 out of align.without"
    )
    assert refusal(align={"without": ["res9"]}) == (
        "./base has no group 'res9' · align.without · `hubmerge symmetry show ./base` lists them"
    )


def test_a_probe_that_cannot_be_used_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    assert refusal(probe={**PROBE, "labels": "nothing"}) == (
        "data.npz has no column 'nothing' · probe.labels · the columns are pixel_values, digit"
    )
    assert refusal(probe={**PROBE, "data": "./no.npz"}).startswith("./no.npz does not exist · probe.data · ")
    data(tmp_path, classes=5)
    assert refusal(probe={**PROBE, "data": f"{tmp_path}/data.npz"}) == (
        "column 'digit' holds 3, and the base has 3 classes · probe.labels · labels are the numbers of the base's classes, from 0"
    )


def test_labels_that_are_no_whole_numbers_or_too_few_are_refused_by_the_plan(tmp_path: Path) -> None:
    pictures = np.zeros((8, 1, SIDE, SIDE), np.float32)

    def told(digits: np.ndarray) -> str:
        np.savez(tmp_path / "data.npz", pixel_values=pictures, digit=digits)
        return refusal(probe={**PROBE, "data": f"{tmp_path}/data.npz"})

    fractions = "data.npz has no whole numbers in column 'digit' · probe.labels · name another column"
    assert told(np.arange(8) % 3 / 2) == fractions  # int() of 0, .5 and 1 would be classes
    assert told(np.full(8, np.nan)) == fractions
    assert told(np.full(8, np.inf)) == fractions
    assert told(np.arange(5) % 3) == (
        "columns 'pixel_values' and 'digit' have different numbers of rows · probe.labels · give every row its label"
    )
    np.savez(
        tmp_path / "data.npz", pixel_values=pictures, digit=np.arange(8) % 3 * 1.0
    )  # as tables keep them beside gaps
    plan = planned(probe={**PROBE, "data": f"{tmp_path}/data.npz"})
    assert plan.probe is not None


def test_a_base_without_classes_takes_no_probe(tmp_path: Path) -> None:
    words = ("<unk>", "one", "two")
    base, other = (str(bert(tmp_path / str(i), i, words)) for i in (0, 1))
    (tmp_path / "rows.jsonl").write_text('{"text": "one", "digit": 0}\n')
    assert refusal(other, base_model=base, probe={"data": f"{tmp_path}/rows.jsonl", "labels": "digit"}) == (
        f"{base} (BertForMaskedLM) does not tell classes apart, and labels are numbers of classes · probe.labels · "
        "leave the labels out, or take a base that is a classifier"
    )


def test_what_a_donor_computes_otherwise_is_a_warning_and_strict_an_error(tmp_path: Path) -> None:
    base, other = (str(vit(tmp_path / act, 0, ("x", "y"), hidden_act=act)) for act in ("gelu", "relu"))
    plan = planned(other, base_model=base)
    assert plan.warnings == (f"{base} and {other} differ: activation gelu vs relu; the merge has the base's function",)
    with pytest.raises(PlanError):
        hubmerge.build_plan(mal(other, base_model=base), strict=True)
