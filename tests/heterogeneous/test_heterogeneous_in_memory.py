"""What a merge in memory does to its surroundings: nothing to the parents, the same bytes twice, and a model that can be used."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from apart_models import batches, logits, model

from hubmerge.heterogeneous import merge_models
from hubmerge.heterogeneous.batches import in_folds
from hubmerge.heterogeneous.norms import renormalise


def state(own: Any) -> dict[str, torch.Tensor]:
    return {name: values.clone() for name, values in own.state_dict().items()}


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def test_the_parents_keep_their_weights_their_modes_and_no_hooks() -> None:
    parents = [model("resnet basic", 0), model("resnet basic", 1).train()]
    parents[1].resnet.embedder.eval()
    before = [state(parent) for parent in parents]
    modes = [[module.training for module in parent.modules()] for parent in parents]
    done = merge_models(parents, batches("resnet basic"), labels="shared")
    for parent, own, mode in zip(parents, before, modes, strict=True):
        assert_same(state(parent), own)
        assert [module.training for module in parent.modules()] == mode
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in parent.modules())
    assert not any(module.training for module in done.model.modules())


def test_a_model_in_training_gives_the_merge_of_the_model_at_rest() -> None:
    parents = [model("bert", seed) for seed in (0, 1)]  # with dropout of .1
    rested = merge_models(parents, batches("bert"))
    trained = merge_models([parent.train() for parent in parents], batches("bert"))
    assert_same(state(trained.model), state(rested.model))


@pytest.mark.parametrize("name", ["resnet basic", "vit", "llama"])
def test_the_same_merge_has_the_same_bytes(name: str) -> None:
    parents, data = [model(name, seed) for seed in (0, 1)], batches(name)
    first, second = (merge_models(parents, data, labels="shared", widths="union", ratio=0.5) for _ in range(2))
    assert_same(state(first.model), state(second.model))
    assert first.report == second.report


def test_a_model_that_is_both_parents_is_merged_with_itself() -> None:
    one, data = model("vit", 0), batches("vit")
    done = merge_models([one, one], data, labels="shared", ridge=1e-3)
    for name, values in one.state_dict().items():
        torch.testing.assert_close(done.model.state_dict()[name], values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "pair"), [
    ("gpt2", ("transformer.wte.weight", "lm_head.weight")),
    ("bert", ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")),
    ("qwen2", ("model.embed_tokens.weight", "lm_head.weight")),
    ("t5", ("shared.weight", "lm_head.weight")),
])  # fmt: skip
def test_a_tied_head_stays_the_embedding(name: str, pair: tuple[str, str]) -> None:
    parents, data = [model(name, seed) for seed in (0, 1)], batches(name)
    done = merge_models(parents, data, without=(), min_similarity=0.3)  # some of the stream's units stay the base's
    own, base = done.model.state_dict(), parents[0].state_dict()
    assert own[pair[0]].data_ptr() == own[pair[1]].data_ptr()
    kept = (own[pair[0]] == base[pair[0]]).all(0)  # what is written to a unit of the base alone is the base's, whole
    assert 0 < int(kept.sum()) < len(kept)


def test_labels_in_the_batches_are_let_through() -> None:
    parents, data = [model("vit", seed) for seed in (0, 1)], batches("vit")
    with_labels = [{**batch, "labels": torch.zeros(12, dtype=torch.long)} for batch in data]
    plain, other = (merge_models(parents, each, labels="shared") for each in (data, with_labels))
    assert_same(state(plain.model), state(other.model))


def test_several_inputs_of_other_numbers_are_taken_as_they_come() -> None:
    parents = [model("clip", seed) for seed in (0, 1)]
    data = batches("clip", count=2)
    data = [{**batch, "pixel_values": batch["pixel_values"][:5]} for batch in data]
    done = merge_models(parents, data, fit="merged")
    assert torch.isfinite(done.model(**data[0]).logits_per_image).all()


def test_few_batches_are_cut_and_as_many_as_there_are_folds_are_not() -> None:
    batch = {"x": torch.arange(10), "y": torch.arange(20).reshape(10, 2)}
    cut = in_folds([batch])
    assert [part["x"].tolist() for part in cut] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert torch.equal(torch.cat([part["y"] for part in cut]), batch["y"])
    assert in_folds([batch] * 4) == [batch] * 4
    uneven = {"x": torch.arange(10), "y": torch.arange(3)}
    assert in_folds([uneven]) == [uneven]
    assert in_folds([]) == []


def test_statistics_are_those_of_the_data_each_batch_counting_alike() -> None:
    own, data = model("resnet basic", 0), batches("resnet basic", count=3)
    stem, norm = own.resnet.embedder.embedder.convolution, own.resnet.embedder.embedder.normalization
    with torch.no_grad():
        seen = [stem(batch["pixel_values"]) for batch in data]
    assert renormalise(own, data) == 1 + 3 * 2 + 1  # the stem, two norms in each of three blocks, one shortcut
    torch.testing.assert_close(norm.running_mean, torch.stack([each.mean((0, 2, 3)) for each in seen]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([each.var((0, 2, 3)) for each in seen]).mean(0))
    assert norm.num_batches_tracked.item() == 3
    assert norm.momentum == 0.1
    assert not norm.training
    assert renormalise(model("vit", 0), batches("vit")) == 0


def test_the_statistics_that_the_fit_sets_are_those_that_are_estimated_anew() -> None:
    parents, data = [model("resnet basic", seed) for seed in (0, 1)], batches("resnet basic", size=48)
    fitted = merge_models(parents, data, labels="shared", fit="merged", ridge=1e-3, renormalise=False).model
    again = copy.deepcopy(fitted)
    renormalise(again, [{"pixel_values": torch.cat([batch["pixel_values"] for batch in data])}])
    for name, values in fitted.state_dict().items():
        if "running_" in name:
            torch.testing.assert_close(again.state_dict()[name], values, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(logits(again, data[0]), logits(fitted, data[0]), rtol=2e-2, atol=2e-2)


def test_the_report_tells_sizes_pairs_and_costs() -> None:
    base = model("resnet basic", 0)
    donor = model("resnet basic", 1, embedding_size=12, hidden_sizes=[12, 12])
    told = merge_models([base, donor], batches("resnet basic"), labels="shared", fit=None, min_similarity=-1.0).report
    assert told.groups.keys() == {"res1", "mid0.0", "res2", "mid1.0", "mid1.1"}
    assert (told.groups["res1"].sizes, told.groups["res1"].merged, told.groups["res1"].matched) == ((8, 12), 8, (8,))
    assert (told.groups["res2"].sizes, told.groups["res2"].merged) == ((12, 12), 12)
    assert all(-1 < group.similarity[0] < 1 for group in told.groups.values())
    assert told.cost == told.base_cost == told.blocks
    numbers = (values for values in base.state_dict().values() if values.is_floating_point())
    assert told.cost.parameters == sum(values.numel() for values in numbers)


def test_the_callers_random_numbers_are_its_own() -> None:
    parents, data = [model("vit", seed) for seed in (0, 1)], batches("vit")
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    merge_models(parents, data, labels="shared")
    assert torch.equal(torch.rand(3), wanted)


def test_a_greedy_budget_knows_the_pairs_of_all_parents() -> None:
    parents = [model("resnet basic", seed) for seed in (0, 1, 0)]  # the third is the base itself
    done = merge_models(
        parents, batches("resnet basic"), labels="shared", fit=None, widths="union", budget=2.5, policy="greedy"
    )
    assert done.report.cost.multiply_adds <= 2.5 * done.report.base_cost.multiply_adds
    wider = [group for group in done.report.groups.values() if group.merged > group.sizes[0]]
    assert wider
    for group in wider:  # what is kept apart is the stranger's, and a unit that is never above zero
        assert group.matched[0] < group.sizes[0] - 1 <= group.matched[1]
