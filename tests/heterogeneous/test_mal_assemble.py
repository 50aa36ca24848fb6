"""A base and its zoo: donors in another order, of noise, of other widths and depths; what is kept, repeated and refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from apart_models import CONFIGS, batches, logits, model, reordered

from hubmerge.errors import PlanError
from hubmerge.heterogeneous import Decision, assemble_from_zoo
from hubmerge.heterogeneous.mal_decisions import decisions_from_json, decisions_to_json
from hubmerge.heterogeneous.mal_pairs import align_layers
from hubmerge.symmetry.verify import answers, largest_difference


def same_tensors(one: Any, other: Any) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def probe(name: str) -> list[dict[str, torch.Tensor]]:
    """The batches with the answers of the base: its loss on them is low."""
    return [{**batch, "labels": logits(model(name, 0), batch).argmax(-1)} for batch in batches(name)]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_donor_that_is_the_base_in_another_order_is_taken_whole_and_changes_nothing(name: str) -> None:
    base = model(name, 0)
    donor, _ = reordered(base, 1)
    done = assemble_from_zoo(base, [donor], batches(name), renormalise=False)
    assert all(decision.factor == 0.5 and decision.accepted for decision in done.decisions)
    assert all(decision.cka == pytest.approx(1) for decision in done.decisions)
    assert max(decision.drift for decision in done.decisions) < 1e-5
    for batch in batches(name):
        assert largest_difference(answers(base, batch), answers(done.model, batch)) < 1e-5


def test_a_donor_in_another_order_is_as_good_as_the_control_where_statistics_are_estimated_anew() -> None:
    base = model("resnet basic", 0)
    donor, _ = reordered(base, 1)
    done = assemble_from_zoo(base, [donor], batches("resnet basic"))
    for batch in batches("resnet basic"):
        assert largest_difference(answers(done.control, batch), answers(done.model, batch)) < 1e-4
        assert largest_difference(answers(base, batch), answers(done.control, batch)) > 1e-2


def test_a_donor_of_noise_is_refused_and_leaves_the_base_bit_for_bit() -> None:
    base, noise = model("vit", 0), model("vit", 1)
    done = assemble_from_zoo(base, [noise], batches("vit"), factors=(0.25, 0.5))
    assert [decision.accepted for decision in done.decisions] == [False, False]
    assert all(decision.drift > 0.1 for decision in done.decisions)
    assert all("more than 0.1" in decision.why for decision in done.decisions)
    assert same_tensors(done.model, base)


def test_a_donor_of_noise_is_refused_by_the_loss_where_drift_lets_it_pass() -> None:
    base, noise = model("vit", 0), model("vit", 1)
    done = assemble_from_zoo(base, [noise], batches("vit"), tau=10, eps=0.0, probe=probe("vit"), factors=(0.5,))
    assert not any(decision.accepted for decision in done.decisions)
    assert all("the loss is" in decision.why for decision in done.decisions)


@pytest.mark.parametrize("renormalise", [True, False])
def test_factor_0_is_the_base_bit_for_bit(renormalise: bool) -> None:
    base, donor = model("resnet basic", 0), model("resnet basic", 1)
    done = assemble_from_zoo(base, [donor], batches("resnet basic"), factors=(0,), renormalise=renormalise)
    assert {decision.why for decision in done.decisions} == {"no factor above 0 is to be tried"}
    assert same_tensors(done.model, base)


def test_what_is_not_in_a_layer_that_was_taken_is_the_bases() -> None:
    base, donor = model("vit", 0), model("vit", 1)
    done = assemble_from_zoo(base, [donor], batches("vit"), tau=10, min_cka=0.0)
    ours, theirs = base.state_dict(), done.model.state_dict()
    changed = {name.split(".")[1] for name in ours if not torch.equal(ours[name], theirs[name])}
    assert changed == {"layers"}
    assert done.model.config.to_dict() == base.config.to_dict()


@pytest.mark.parametrize("sizes", [[8, 20], [8, 8], [10, 12]])
def test_donors_of_other_widths_are_merged_at_the_bases(sizes: list[int]) -> None:
    base = model("resnet basic", 0)
    donor = model("resnet basic", 1, hidden_sizes=sizes, embedding_size=sizes[0])
    done = assemble_from_zoo(base, [donor], batches("resnet basic"), tau=1)
    assert all(decision.accepted for decision in done.decisions)
    assert all(decision.drift <= 1 for decision in done.decisions)
    shapes = {name: values.shape for name, values in base.state_dict().items()}
    assert {name: values.shape for name, values in done.model.state_dict().items()} == shapes


def test_rows_of_units_without_a_partner_stay_the_bases() -> None:
    base, donor = model("vit", 0, intermediate_size=24), model("vit", 1, intermediate_size=10)
    alignment = align_layers(base, donor, batches("vit"), without=("res", "head{l}"))
    (pair, _), ours, theirs = alignment.pairs, base.state_dict(), donor.state_dict()
    merged = alignment.merged(pair, ours, theirs, 0.3)
    unit = alignment.maps["ff0"][1].unit  # type: ignore[union-attr]
    assert sorted(unit[unit >= 0]) == list(range(10))
    name = "vit.layers.0.mlp.fc1.weight"
    alone = torch.from_numpy(unit < 0)
    assert torch.equal(merged[name][alone], ours[name][alone])
    wanted = 0.7 * ours[name][~alone] + 0.3 * theirs[name][torch.from_numpy(unit[unit >= 0])]
    assert torch.allclose(merged[name][~alone], wanted)


def test_units_of_a_wider_donor_that_nothing_reads_are_dropped() -> None:
    base = model("vit", 0)
    wide = model("vit", 1, intermediate_size=32)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    own = {name: values.clone() for name, values in base.state_dict().items()}
    for i in range(2):
        for name in (f"vit.layers.{i}.mlp.fc1.weight", f"vit.layers.{i}.mlp.fc1.bias"):
            own[name] = torch.cat([own[name][order], wide.state_dict()[name][24:]])
        name = f"vit.layers.{i}.mlp.fc2.weight"
        own[name] = torch.cat([own[name][:, order], torch.zeros(16, 8)], 1)
    wide.load_state_dict(own)
    done = assemble_from_zoo(base, [wide], batches("vit"))
    assert all(decision.factor == 0.5 for decision in done.decisions)
    assert max(decision.drift for decision in done.decisions) < 1e-6


def test_the_first_layers_of_a_deeper_donor_go_with_those_of_the_base() -> None:
    deep = model("vit", 0, num_hidden_layers=3)
    base = model("vit", 0)
    base.load_state_dict({name: deep.state_dict()[name] for name in base.state_dict()})
    donor, _ = reordered(deep, 1)
    done = assemble_from_zoo(base, [donor], batches("vit"))
    assert [(decision.layer, decision.donor_layer) for decision in sorted(done.decisions, key=lambda d: d.layer)] == [
        ("vit.layers.0", "vit.layers.0"),
        ("vit.layers.1", "vit.layers.1"),
    ]
    assert all(decision.factor == 0.5 and decision.drift < 1e-5 for decision in done.decisions)


def test_layers_of_a_deeper_base_without_a_partner_stay_and_say_so() -> None:
    base, donor = model("resnet basic", 0, depths=[1, 3]), model("resnet basic", 1)
    done = assemble_from_zoo(base, [donor], batches("resnet basic"), tau=1)
    left = [decision for decision in done.decisions if decision.donor_layer is None]
    assert [decision.why for decision in left] == ["its layers are paired with others"]
    before, after = base.get_submodule(left[0].layer), done.model.get_submodule(left[0].layer)
    convolutions = "layer.0.convolution.weight", "layer.1.convolution.weight"
    assert all(torch.equal(before.state_dict()[name], after.state_dict()[name]) for name in convolutions)


def test_a_layer_with_a_shortcut_goes_with_none_that_has_no_shortcut() -> None:
    base = model("resnet basic", 0, embedding_size=6)
    done = assemble_from_zoo(base, [model("resnet basic", 1)], batches("resnet basic"))
    first = next(decision for decision in done.decisions if decision.position == 0)
    assert first.why == "no layer of its stage has the same structure"


def test_a_donor_with_fewer_stages_leaves_the_last_ones_alone() -> None:
    donor = model("resnet basic", 1, hidden_sizes=[8], depths=[1])
    done = assemble_from_zoo(model("resnet basic", 0), [donor], batches("resnet basic"))
    assert [decision.why for decision in done.decisions if decision.position] == ["the donor has no such stage"] * 2


def test_layers_are_tried_by_similarity_times_cka_and_donors_take_turns() -> None:
    base = model("vit", 0)
    zoo = [model("vit", 1), reordered(base, 2)[0]]
    done = assemble_from_zoo(base, zoo, batches("vit"), rounds=2)
    assert [decision.gain for decision in done.decisions[:4]] == sorted(
        (decision.gain for decision in done.decisions[:4]), reverse=True
    )
    assert [decision.donor for decision in done.decisions[:4]] == [1, 1, 0, 0]
    assert [decision.round for decision in done.decisions] == [1] * 4 + [2] * 4
    assert all(d.gain == pytest.approx(d.similarity * d.cka) for d in done.decisions)


def test_drift_is_held_against_the_base_also_in_later_rounds() -> None:
    base, donor = model("vit", 0), model("vit", 1)
    once = assemble_from_zoo(base, [donor], batches("vit"), tau=0.2)
    often = assemble_from_zoo(base, [donor], batches("vit"), tau=0.2, rounds=6)
    assert any(decision.accepted for decision in once.decisions)
    assert not any(decision.accepted for decision in often.decisions[-2:])
    assert all(decision.drift <= 0.2 for decision in often.decisions if decision.accepted)


@pytest.mark.parametrize("data", [True, False])
def test_the_same_twice_is_the_same_bytes_and_no_model_is_changed(data: bool) -> None:
    base, zoo = model("resnet basic", 0), [model("resnet basic", 1), model("resnet basic", 2, depths=[1, 3])]
    before = copy.deepcopy([base, *zoo])
    given = batches("resnet basic") if data else None
    base.train()
    first, second = (assemble_from_zoo(base, zoo, given, tau=0.3) for _ in range(2))
    assert (base.training, zoo[0].training) == (True, False)
    assert not first.model.training
    assert first.decisions == second.decisions
    assert any(decision.accepted for decision in first.decisions)
    assert same_tensors(first.model, second.model)
    assert all(same_tensors(one, other) for one, other in zip(before, [base, *zoo]))


def test_without_data_the_statistics_of_batch_norm_are_not_estimated_on_noise() -> None:
    base = model("resnet basic", 0)
    done = assemble_from_zoo(base, [reordered(base, 1)[0]])
    assert all(decision.factor == 0.5 and decision.drift < 1e-5 for decision in done.decisions)
    assert same_tensors(done.control, base)


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_decisions_that_are_given_back_are_applied_and_only_the_rest_is_searched(kept: int) -> None:
    base, donor = model("resnet basic", 0), model("resnet basic", 1)
    settings: dict[str, Any] = {"tau": 0.3, "rounds": 2}
    whole = assemble_from_zoo(base, [donor], batches("resnet basic"), **settings)
    text = decisions_to_json(whole.decisions[:kept])
    again = assemble_from_zoo(base, [donor], batches("resnet basic"), **settings, decisions=decisions_from_json(text))
    assert again.decisions == whole.decisions
    assert same_tensors(again.model, whole.model)


def test_a_search_that_is_interrupted_goes_on_with_the_decisions_it_told() -> None:
    base, donor = model("vit", 0), model("vit", 1)
    whole = assemble_from_zoo(base, [donor], batches("vit"), rounds=2)
    told: list[Decision] = []

    def interrupted(decision: Decision) -> None:
        told.append(decision)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assemble_from_zoo(base, [donor], batches("vit"), rounds=2, on_decision=interrupted)
    again = assemble_from_zoo(base, [donor], batches("vit"), rounds=2, decisions=told)
    assert again.decisions == whole.decisions
    assert same_tensors(again.model, whole.model)


def test_applied_decisions_are_believed() -> None:
    base, donor = model("vit", 0), model("vit", 1)
    own = assemble_from_zoo(base, [donor], batches("vit"), tau=0.0).decisions
    forced = tuple(Decision(**{**vars(decision), "accepted": True, "factor": 1.0}) for decision in own)
    done = assemble_from_zoo(base, [donor], batches("vit"), tau=0.0, decisions=forced)
    assert done.decisions == forced
    assert not same_tensors(done.model, base)


def test_losses_of_base_control_and_merge_are_told_and_the_best_never_raises_it() -> None:
    base, donor = model("resnet basic", 0), model("resnet basic", 1)
    done = assemble_from_zoo(base, [donor], batches("resnet basic"), tau=10, probe=probe("resnet basic"), choose="best")
    assert done.losses is not None
    losses = [done.losses.control, *(decision.loss for decision in done.decisions if decision.accepted)]
    assert losses == sorted(losses, reverse=True)
    assert done.losses.merged == losses[-1]
    assert done.losses.base < done.losses.control  # the labels are the base's own answers


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"tau": -1}, "tau must be 0 or more, got -1 · tau · 0.1 is a tenth of a layer's output"),
        ({"factors": (0.5, 2)}, "factors are from 0 to 1, got 2 · factors · 0.5 is half the donor's"),
        ({"eps": -0.1}, "eps must be 0 or more, got -0.1 · eps · 0.05 lets the loss rise by 5 %"),
        ({"rounds": 0}, "rounds must be 1 or more, got 0 · rounds · write rounds=1"),
        ({"choose": "best"}, "the best factor is told by a probe · choose · give a probe, batches with labels"),
        ({"batches": []}, "there are no batches · batches · leave batches out to use noise"),
    ],
)
def test_arguments_out_of_their_range_are_refused(arguments: dict[str, Any], text: str) -> None:
    given = {"batches": batches("vit"), **arguments}
    with pytest.raises(PlanError) as caught:
        assemble_from_zoo(model("vit", 0), [model("vit", 1)], given.pop("batches"), **given)
    assert str(caught.value) == text


def test_donors_of_other_families_and_other_inputs_are_refused() -> None:
    base = model("vit", 0)
    with pytest.raises(PlanError) as caught:
        assemble_from_zoo(base, [model("vit", 1), model("resnet basic", 0)], batches("vit"))
    assert str(caught.value) == "the base is vit, this model is resnet · donors[1] · merge models of one family"
    with pytest.raises(PlanError) as caught:
        assemble_from_zoo(model("gpt2", 0), [model("gpt2", 1, vocab_size=21)], batches("gpt2"))
    assert str(caught.value) == (
        "the base reads 20 tokens, this model 21 · donors[0] · both models are run on the same data; choose another donor"
    )


def test_decisions_of_other_models_are_refused() -> None:
    base, donor = model("vit", 0), model("vit", 1)
    own = assemble_from_zoo(base, [donor], batches("vit")).decisions
    for given in (own[::-1], (*own, own[0])):
        with pytest.raises(PlanError) as caught:
            assemble_from_zoo(base, [donor], batches("vit"), decisions=given)
        assert "which is not its turn here · decisions · give decisions of the same models" in str(caught.value)


def test_a_text_that_is_no_list_of_decisions_is_refused() -> None:
    for text in ("[", "3", '[{"round": 1}]'):
        with pytest.raises(PlanError) as caught:
            decisions_from_json(text)
        assert str(caught.value).startswith("this is no list of decisions (")
