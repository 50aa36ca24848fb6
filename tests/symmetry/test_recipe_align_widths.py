"""A recipe's `align` with parents of other widths: what is merged, what the plan and the manifest tell, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import symmetry_models
import torch
from safetensors.torch import load_file
from symmetry_models import reordered

import hubmerge
from hubmerge import build_plan, verify_merge
from hubmerge.alignment.carried import carried_by_weights
from hubmerge.alignment.words import how_aligned
from hubmerge.alignment_record import AlignedParentRecord
from hubmerge.plan_types import Plan
from hubmerge.symmetry import spec_of
from hubmerge.symmetry.verify import drawn_anew
from zoo_index.errors import HubmergeError

pytestmark = pytest.mark.usefixtures("one_thread")

Tensors = dict[str, torch.Tensor]

BASE = {"intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4}
WIDE = {**BASE, "intermediate_size": 32, "num_attention_heads": 8, "num_key_value_heads": 4}
NARROW = {**BASE, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}


def llama(**changes: Any) -> Any:
    own = symmetry_models.model("llama")
    return type(own)(type(own.config)(**{**own.config.to_dict(), **changes}))


def write_first(values: Tensors, to: Tensors) -> None:
    """Write the first units of one model over the first units of another, as far as both have them."""
    for name, own in values.items():
        there = tuple(slice(min(sizes)) for sizes in zip(own.shape, to[name].shape, strict=True))
        to[name][there] = own[there]


def of_widths(base: Any, **changes: Any) -> Any:
    """The model with the base's first units, and zeros for those that it has not."""
    other = llama(**changes)
    tensors: Tensors = {name: torch.zeros_like(values) for name, values in other.state_dict().items()}
    write_first(base.state_dict(), tensors)
    other.load_state_dict(tensors)
    return other


def noisy(model: Any, seed: int) -> Any:
    random = torch.Generator().manual_seed(seed)
    noise = {
        name: values + 0.05 * torch.randn(values.shape, generator=random) for name, values in model.state_dict().items()
    }
    model.load_state_dict(noise)
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base, a tiny Llama; wide, the same with units of zeros between, in an order of its own and in several files; narrow, the base's first
    units with a little noise, in the base's order and in one of its own; whole, those with the base's own for the units that it has not.
    """
    place = tmp_path_factory.mktemp("models")
    base = drawn_anew(llama(**BASE), 0).to(torch.float32)
    base.save_pretrained(place / "base")
    reordered(of_widths(base, **WIDE), 1).save_pretrained(place / "wide", max_shard_size="8KB")
    narrow = noisy(of_widths(base, **NARROW), 2)
    whole = llama(**BASE)
    tensors: Tensors = {name: values.clone() for name, values in base.state_dict().items()}
    write_first(narrow.state_dict(), tensors)
    whole.load_state_dict(tensors)
    whole.save_pretrained(place / "whole")
    reordered(narrow, 3).save_pretrained(place / "narrow")
    return place


@pytest.fixture(autouse=True)
def in_their_folder(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)


def recipe(method: str, *names: str, **changes: Any) -> dict[str, Any]:
    rows = [{"model": name if "/" in name else f"./{name}"} for name in names]
    return {"merge_method": method, "models": rows, "align": "weights", **changes}


def linear(*names: str, **changes: Any) -> dict[str, Any]:
    return recipe("linear", *names, **{"parameters": {"weight": 0.5}, **changes})


def load_model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def weights(folder: Path) -> Tensors:
    return {name: values for path in sorted(folder.glob("*.safetensors")) for name, values in load_file(path).items()}


def assert_same(left: Path, right: Path) -> None:
    ours, theirs = weights(left), weights(right)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(values, theirs[name]) for name, values in ours.items())


@pytest.mark.parametrize(
    "recipe",
    [
        linear("base", "wide"),
        recipe("ties", "wide", base_model="./base", parameters={"weight": 1, "density": 0.5}),
    ],
    ids=lambda recipe: recipe["merge_method"],
)
def test_a_copy_with_more_units_in_another_order_merges_with_the_base_to_the_base(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    hubmerge.merge(recipe, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["intermediate_size"], config["num_key_value_heads"]) == (24, 2)
    assert_same(tmp_path / "out", Path("base"))


def test_folded_by_weights_hidden_units_too_few_are_copies_and_the_merge_is_derived_again(tmp_path: Path) -> None:
    asked = linear("base", "narrow", align={"method": "weights", "widths": "fold"})
    (line, *_) = [line for line in str(hubmerge.build_plan(asked)).splitlines() if line.startswith("  ./narrow: ff{l}")]
    assert line == "  ./narrow: ff{l} 16 for 24 (2 groups), 8 copied from the most similar"
    manifest = hubmerge.merge(asked, tmp_path / "out")
    assert manifest.alignment is not None
    assert manifest.alignment.widths == "fold"
    found = manifest.alignment.parents[0].groups["ff0"]
    assert (found.size, found.units, found.left_out, found.apart + found.folded) == (24, 16, 0, 8)
    assert found.folded > 0
    assert all(check.passed for check in hubmerge.verify_merge(tmp_path / "out").checks)


def test_a_model_with_more_units_that_stands_in_the_base_s_order_merges_with_the_base_to_the_base(
    models: Path, tmp_path: Path
) -> None:
    """As one does that was pruned: nothing is to be moved, and the units too many are left out all the same."""
    base = load_model(models / "base")
    of_widths(base, **WIDE).save_pretrained(tmp_path / "wide")
    hubmerge.merge(linear("base", str(tmp_path / "wide")), tmp_path / "out")
    assert_same(tmp_path / "out", models / "base")


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_a_model_with_fewer_units_merges_as_one_that_has_the_base_s_own_in_their_place(
    method: str, tmp_path: Path
) -> None:
    def asked(name: str) -> dict[str, Any]:
        if method == "linear":
            return linear("base", name)
        return recipe("ties", name, base_model="./base", parameters={"weight": 1, "density": 0.5})

    hubmerge.merge(asked("narrow"), tmp_path / "aligned")
    plain = asked("whole")
    del plain["align"]
    hubmerge.merge(plain, tmp_path / "plain")
    assert_same(tmp_path / "aligned", tmp_path / "plain")


def test_the_plan_says_what_is_left_out_and_what_is_filled_in() -> None:
    plan = build_plan(linear("base", "wide", "narrow"))
    lines = str(plan).splitlines()
    told = lines[lines.index("aligned") :]
    assert told[2:7] == [
        "  units of res 16, kv{l} 2 (2 groups), ff{l} 24 (2 groups)",
        "  ./wide: kv{l} 4 for 2 (2 groups), 2 left out",
        "  ./wide: ff{l} 32 for 24 (2 groups), 8 left out",
        "  ./narrow: kv{l} 1 for 2 (2 groups), 1 filled in with ./base's own numbers (a delta of 0)",
        "  ./narrow: ff{l} 16 for 24 (2 groups), 8 filled in with ./base's own numbers (a delta of 0)",
    ]
    assert isinstance(plan, Plan)
    assert plan.alignment is not None
    sizes = [(g.parent, g.name, g.size, g.units) for g in plan.alignment.resized if g.name.endswith("0")]
    assert sizes == [(1, "kv0", 2, 4), (1, "ff0", 24, 32), (2, "kv0", 2, 1), (2, "ff0", 24, 16)]
    assert plan.to_dict()["alignment"]["resized"][0]["units"] == 4


@pytest.mark.parametrize("name", ["narrow", "whole"])
def test_another_activation_is_warned_of_once_whatever_the_widths(name: str, tmp_path: Path) -> None:
    other = shutil.copytree(name, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    told = f"./base and {other}: activation silu vs gelu: the layers compute another function, and a merge fits neither"
    plan = build_plan(linear("base", str(other)))
    assert [text for text in plan.warnings if "activation" in text] == [told]


def test_the_manifest_says_it_too_and_verify_derives_it_again(tmp_path: Path) -> None:
    def merged(name: str) -> tuple[AlignedParentRecord, str]:
        manifest = hubmerge.merge(linear("base", name), tmp_path / name)
        assert manifest.alignment is not None
        (parent,), (told,) = manifest.alignment.parents, how_aligned(manifest.alignment)
        return parent, told

    (wide, first), (narrow, second) = merged("wide"), merged("narrow")
    found = [
        {name: (group.units, group.apart, group.left_out) for name, group in parent.groups.items() if name[-1] != "1"}
        for parent in (wide, narrow)
    ]
    assert found == [
        {"res": (16, 0, 0), "kv0": (4, 0, 2), "ff0": (32, 0, 8)},
        {"res": (16, 0, 0), "kv0": (1, 1, 0), "ff0": (16, 8, 0)},
    ]
    assert (wide.share, wide.carried, narrow.share, narrow.carried) == (1, {}, 1, {})
    assert first.startswith(
        "./wide in the order of ./base: 68 of 68 units moved, 20 left out, cosine 1.00 on average, before "
    )
    assert " units moved, 18 without a partner, cosine 0.94 on average, before " in second
    checked = verify_merge(tmp_path / "wide", reload=False)
    assert checked.level == "exact"
    assert checked.checks[1].detail == "35 tensors derived again from the parents, aligned again: the same bytes"


def test_what_is_left_out_of_a_model_shows_in_the_norm_that_was_carried(tmp_path: Path) -> None:
    """The narrow model is the base: the other's heads and units that it has no place for are more than nothing."""
    manifest = hubmerge.merge(linear("narrow", "base"), tmp_path / "out")
    assert manifest.alignment is not None
    (parent,) = manifest.alignment.parents
    base, narrow = weights(Path("base")), weights(Path("whole"))
    assert narrow.keys() == base.keys()
    name = "model.layers.0.mlp.up_proj.weight"
    share = base[name][:16].norm() / base[name].norm()
    assert parent.carried[name] == pytest.approx(float(share), abs=1e-6)
    assert "model.embed_tokens.weight" not in parent.carried
    assert 0.5 < parent.share < 0.9
    assert f", 18 left out, {parent.share:.0%} of the weights' norm carried, " in how_aligned(manifest.alignment)[0]


def test_in_memory_a_model_is_brought_to_the_base_s_widths_by_one_call() -> None:
    base, wide = llama(**BASE), llama(**WIDE)
    tensors = [weights(Path("base")), weights(Path("wide"))]
    carried = carried_by_weights((spec_of(base), spec_of(wide)), *tensors)
    found = carried.tensors(tensors[1], tensors[0])
    assert all(torch.equal(values, tensors[0][name]) for name, values in found.items())


def refused(asked: dict[str, Any]) -> list[str]:
    with pytest.raises(HubmergeError) as error:
        build_plan(asked)
    return [str(fault) for fault in error.value.faults]


def saved(model: Any, folder: Path) -> str:
    model.save_pretrained(folder)
    return str(folder)


def test_a_stream_of_another_width_is_refused_with_what_takes_it(tmp_path: Path) -> None:
    other = saved(llama(**{**BASE, "hidden_size": 24}), tmp_path / "other")
    (fault,) = refused(linear("base", other))
    assert fault == (
        f"group 'res' stands under a norm of all its units (rms), and has 16 units in ./base and 24 in {other} · {other} · "
        "merge_method: transport carries what a model learned on top of a base of another width; or take a model with 16 units there; "
        "its hidden units and its number of heads may be others"
    )


def test_heads_of_another_size_are_refused_where_positions_turn_them(tmp_path: Path) -> None:
    other = saved(llama(**{**BASE, "head_dim": 8}), tmp_path / "other")
    (fault,) = refused(linear("base", other))
    assert fault == (
        f"a head has 4 features in ./base and 8 in {other}, and rotary planes of heads of another size turn at other speeds · {other} · "
        "take a model with heads of 4 features; their number may be another"
    )


def test_heads_of_another_size_are_refused_where_their_features_are_in_no_order(tmp_path: Path) -> None:
    own = symmetry_models.model("bert")
    ours = saved(own, tmp_path / "ours")
    config = type(own.config)(**{**own.config.to_dict(), "num_attention_heads": 2})
    other = saved(type(own)(config), tmp_path / "other")
    (fault,) = refused(linear(ours, other))
    assert fault == (
        f"a head has 4 features in {ours} and 8 in {other}, and they are in no order of their own, so that none can be left out · {other} · "
        "merge_method: mal matches such heads on data; or take a model with heads of 4 features; their number may be another"
    )


def test_a_group_that_shall_stay_as_it_is_may_not_have_other_units() -> None:
    faults = refused(linear("base", "wide", align={"without": ["ff{l}"]}))
    assert faults == [
        "align.without keeps 'ff0' as it stands, and it has 24 units in ./base and 32 in ./wide · ./wide · take it out of align.without"
    ]


def test_other_labels_are_refused_with_what_keeps_both(tmp_path: Path) -> None:
    own = symmetry_models.model("bert classifier")
    ours = saved(own, tmp_path / "ours")
    other = saved(type(own)(type(own.config)(**{**own.config.to_dict(), "num_labels": 5})), tmp_path / "other")
    assert refused(linear(ours, other)) == [
        f"group 'label' (labels) has 3 entries in {ours} and 5 in {other} · {other} · merge_method: pleas keeps both heads with labels: disjoint"
    ]
