"""Residual streams turned as a whole: a rotated copy is brought back, and what cannot be turned is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from apart_models import batches, logits, model
from turned_models import turned

from hubmerge import PlanError
from hubmerge.heterogeneous import Donor, merge_models, transport_deltas
from hubmerge.heterogeneous.stream_form import Absorbed, is_foldable, stream_of
from hubmerge.heterogeneous.stream_maps import find_stream_map
from hubmerge.heterogeneous.stream_turning import in_one_basis
from hubmerge.heterogeneous.untied import untied
from hubmerge.symmetry import spec_of

TURNING = ("llama", "qwen2", "qwen3", "gpt2", "vit")


def doubled(name: str) -> dict[str, torch.Tensor]:
    return {k: v.double() if v.is_floating_point() else v for k, v in batches(name)[0].items()}


def difference(one: Any, other: Any, name: str) -> float:
    batch = doubled(name)
    return float((logits(one.double(), batch) - logits(other.double(), batch)).abs().max())


@pytest.mark.parametrize("name", TURNING)
def test_a_model_whose_gains_are_absorbed_computes_the_same(name: str) -> None:
    own = untied(model(name, 3).double())
    spec = spec_of(own)
    other = copy.deepcopy(own)
    other.load_state_dict(dict(Absorbed(spec, stream_of(spec), own.state_dict())))
    assert difference(own, other, name) < 1e-5  # RMSNorm computes in single precision
    gains = [other.state_dict()[norm.gain] for norm in stream_of(spec).norms]
    assert all(bool((values == 1).all()) for values in gains)


@pytest.mark.parametrize("name", TURNING)
def test_a_turned_copy_is_brought_back_and_averages_with_the_original_to_the_original(name: str) -> None:
    own = untied(model(name, 3))
    other = turned(own, 5).float()
    assert difference(own, other, name) < 1e-4
    (base, back), (turn,) = in_one_basis([own, other])
    assert turn.cosine == pytest.approx(1, abs=1e-6)
    state = base.state_dict()
    assert max(float((values - state[key]).abs().max()) for key, values in back.state_dict().items()) < 1e-4
    labels = "shared" if name == "vit" else None
    merged = merge_models(
        [own, other], [], align="identity", residual="orthogonal", fit=None, renormalise=False, labels=labels
    )
    assert merged.report.turned == pytest.approx((1.0,), abs=1e-6)
    assert difference(merged.model, own, name) < 1e-4


def test_a_delta_is_carried_back_from_a_turned_base_without_data() -> None:
    target = untied(model("llama", 3)).double()
    goal = copy.deepcopy(target)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, values in goal.named_parameters():
            if "norm" not in name:
                values.add_(torch.randn(values.shape, generator=random, dtype=values.dtype), alpha=0.05)
    found = transport_deltas(target, [Donor(turned(goal, 5), turned(target, 5))], align="weights")
    assert found.residual == "orthogonal"  # found out from the embeddings, which have nothing in common as they stand
    theirs = goal.state_dict()
    assert max(float((v - theirs[key]).abs().max()) for key, v in found.model.state_dict().items()) < 1e-6


def test_a_stream_of_relatives_keeps_its_order_unless_it_is_asked_for() -> None:
    target = model("llama", 3)
    base = copy.deepcopy(target)
    with torch.no_grad():
        for values in base.parameters():
            values.mul_(1.01)
    donors = [Donor(target, base)]
    assert transport_deltas(target, donors, align="weights").residual == "keep"
    assert transport_deltas(target, donors, align="weights", residual="orthogonal").residual == "orthogonal"


@pytest.mark.parametrize("name", TURNING)
def test_strangers_in_memory_are_turned_and_relatives_are_not(name: str) -> None:
    base, stranger, relative = model(name, 3), model(name, 4), copy.deepcopy(model(name, 3))
    with torch.no_grad():
        for values in relative.parameters():
            values.mul_(1.01)
    plain: dict[str, Any] = {"align": "weights", "fit": None, "renormalise": False}
    plain |= {"labels": "shared"} if name == "vit" else {}
    apart = merge_models([base, stranger], [], **plain)
    asked = merge_models([base, stranger], [], residual="orthogonal", **plain)
    assert len(apart.report.turned) == 1
    assert apart.report.turned == asked.report.turned
    state = asked.model.state_dict()
    assert all(torch.equal(values, state[key]) for key, values in apart.model.state_dict().items())
    assert merge_models([base, relative], [], **plain).report.turned == ()
    assert len(merge_models([base, relative, stranger], [], **plain).report.turned) == 2
    for given in ({"residual": "keep"}, {"align": "identity"}, {"without": ("res",)}):
        assert merge_models([base, stranger], [], **{**plain, **given}).report.turned == ()


def test_models_in_memory_are_not_changed_by_turning() -> None:
    pair = [model("qwen2", 3), model("qwen2", 4)]
    before = [copy.deepcopy(each.state_dict()) for each in pair]
    merge_models(pair, [], align="weights", residual="orthogonal", fit=None, renormalise=False)
    for each, state in zip(pair, before, strict=True):
        assert all(torch.equal(values, state[key]) for key, values in each.state_dict().items())
        assert each.config.tie_word_embeddings is True


def test_a_narrow_stream_goes_into_a_wide_one_exactly() -> None:
    """A stream of 16 embedded in one of 24: a norm there divides by the root of 24, so readers are scaled by the root of 16 / 24."""
    narrow = model("llama", 3, head_dim=4).double()
    wide = model("llama", 4, hidden_size=24, head_dim=4, num_attention_heads=4).double()
    specs = (spec_of(wide), spec_of(narrow))
    stream = stream_of(specs[0])
    states = tuple(dict(Absorbed(s, stream, m.state_dict())) for s, m in zip(specs, (wide, narrow), strict=True))
    turn = find_stream_map(specs, stream, (states[0], states[1]), {})
    assert turn.rotation.shape == (24, 16)
    np.testing.assert_allclose(turn.rotation.T @ turn.rotation, np.eye(16), atol=1e-12)
    np.testing.assert_allclose(turn.part.decode, turn.rotation.T * np.sqrt(16 / 24), atol=1e-12)
    z = torch.from_numpy(np.random.default_rng(0).standard_normal(16))
    inside = torch.from_numpy(turn.rotation) @ z
    read = torch.from_numpy(turn.part.decode) @ (inside / inside.square().mean().sqrt())
    torch.testing.assert_close(read, z / z.square().mean().sqrt())


def test_tied_embeddings_are_untied_and_the_config_says_so() -> None:
    merged = merge_models(
        [model("qwen2", 3), model("qwen2", 4)], [], align="weights", residual="orthogonal", fit=None, renormalise=False
    ).model
    assert merged.config.tie_word_embeddings is False
    state = merged.state_dict()
    assert not torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"])


def test_streams_that_can_only_be_reordered_are_refused_by_name() -> None:
    with pytest.raises(PlanError) as refused:
        merge_models(
            [model("bert", 3), model("bert", 4)],
            [],
            align="weights",
            residual="orthogonal",
            fit=None,
            renormalise=False,
        )
    assert str(refused.value) == (
        "the residual stream of bert can only be reordered, since its norms stand inside it · align.residual · "
        "write residual: keep; streams of llama, gpt2, vit with a head can be turned"
    )
    with pytest.raises(PlanError) as refused:
        transport_deltas(
            model("t5", 3), [Donor(model("t5", 4), model("t5", 5))], align="weights", residual="orthogonal"
        )
    assert str(refused.value).startswith("the residual stream of t5 can only be reordered · align.residual · ")


@pytest.mark.parametrize("name", TURNING)
def test_shifts_that_biases_take_are_gone_and_the_model_computes_the_same(name: str) -> None:
    own = untied(model(name, 3).double())
    spec = spec_of(own)
    stream = stream_of(spec)
    for norm in stream.norms:
        if norm.shift is not None and is_foldable(spec, norm):
            own.get_parameter(norm.gain).data[3] = (
                0  # what stands behind a gain of nothing reaches no reader but by the shift
            )
    other = copy.deepcopy(own)
    other.load_state_dict(dict(Absorbed(spec, stream, own.state_dict(), folds=True)))
    assert difference(own, other, name) < 1e-5
    folded = {norm.shift for norm in stream.norms if is_foldable(spec, norm)}
    assert len(folded) == {"gpt2": 4, "vit": 5}.get(
        name, 0
    )  # of GPT-2 all but the one before its head, which has no bias
    state = other.state_dict()
    assert all(not state[str(shift)].any() for shift in folded)


@pytest.mark.parametrize("name", ["gpt2", "vit"])
def test_small_gains_make_no_loud_merge(name: str) -> None:
    """A shift over a gain of 1e-4 that was turned would be a thousand times as loud as what it is added to."""
    pair = [model(name, seed) for seed in (3, 4)]
    for each in pair:
        for norm in stream_of(spec_of(each)).norms:
            if is_foldable(spec_of(each), norm):
                each.get_parameter(norm.gain).data[:2] = 1e-4
    plain: dict[str, Any] = {"align": "weights", "fit": None, "renormalise": False}
    plain |= {"labels": "shared"} if name == "vit" else {}
    kept, turned_ = (merge_models(pair, [], residual=each, **plain) for each in ("keep", None))
    assert len(turned_.report.turned) == 1
    batch = batches(name)[0]
    assert logits(turned_.model, batch).std() < 2 * logits(kept.model, batch).std()


def test_a_gain_of_nothing_behind_which_something_is_shifted_is_refused_where_turning_is_asked_for() -> None:
    pair = [model("gpt2", seed) for seed in (3, 4)]
    pair[1].transformer.ln_f.weight.data[3] = 0
    plain: dict[str, Any] = {"align": "weights", "fit": None, "renormalise": False}
    with pytest.raises(PlanError) as refused:
        merge_models(pair, [], residual="orthogonal", **plain)
    assert str(refused.value) == (
        "tensor 'transformer.ln_f.weight' of model 2 has a gain of 0, behind which a rotation of the residual stream is none · "
        "align.residual · write residual: keep"
    )
    assert merge_models(pair, [], **plain).report.turned == ()


def test_of_a_gain_of_nothing_nothing_is_carried() -> None:
    target, base, learned = (model("gpt2", seed) for seed in (3, 4, 5))
    target.transformer.ln_f.weight.data[3] = 0
    found = transport_deltas(target, [Donor(learned, base)], align="weights")
    assert found.residual == "orthogonal"
    assert all(bool(values.isfinite().all()) for values in found.model.state_dict().values())


def test_new_labels_and_tokens_make_no_strangers() -> None:
    base = model("vit", 3)
    tuned = copy.deepcopy(base)
    tuned.classifier.weight.data.normal_(std=9.0)
    plain: dict[str, Any] = {"align": "weights", "fit": None, "renormalise": False}
    assert merge_models([base, tuned], [], labels="disjoint", **plain).report.turned == ()
    base = model("llama", 3)
    rows = np.full(20, -1)
    rows[:4] = (7, 6, 5, 4)
    other = copy.deepcopy(base)
    for tensor in (other.model.embed_tokens.weight, other.lm_head.weight):
        tensor.data = torch.cat([torch.randn_like(tensor[:4]), tensor[:4].flip(0), torch.randn_like(tensor[8:])])
    assert merge_models([base, other], [], tokens=[rows], **plain).report.turned == ()
    assert len(merge_models([base, other], [], **plain).report.turned) == 1
    donors = [Donor(other, copy.deepcopy(other), tokens=rows)]
    assert transport_deltas(base, donors, align="weights").residual == "keep"


def test_a_transported_stream_stays_where_it_is_asked() -> None:
    target, base, learned = (model("llama", seed) for seed in (3, 4, 5))
    assert transport_deltas(target, [Donor(learned, base)], align="weights", without=("res",)).residual == "keep"
