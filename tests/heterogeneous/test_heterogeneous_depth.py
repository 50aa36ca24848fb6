"""Models of other depths than the base: which blocks are paired, what stays the base's alone, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from apart_models import TEXT, batches, logits, model

from hubmerge.errors import PlanError
from hubmerge.heterogeneous import merge_models
from hubmerge.heterogeneous.block_alike import stage_alike
from hubmerge.heterogeneous.block_maps import CKA, even_pairs, most_pairs
from hubmerge.heterogeneous.blocks import Block
from hubmerge.heterogeneous.depths import StageDepths, check_depths, config_at_depth, depths_of
from hubmerge.symmetry import spec_of
from hubmerge.symmetry.groups import Factor, Role, SymmetrySpec

BRANCHES = {"attention.o_proj", "mlp.fc2"}


def with_identity(own: Any, place: int) -> Any:
    """A copy of a ViT with one layer more, which gives what it is given: its branches write zeros."""
    deeper = model("vit", 5, num_hidden_layers=own.config.num_hidden_layers + 1)
    given, state = own.state_dict(), {}
    for name, values in deeper.state_dict().items():
        parts = name.split(".")
        if parts[1] != "layers":
            state[name] = given[name]
        elif int(parts[2]) == place:
            state[name] = torch.zeros_like(values) if ".".join(parts[3:5]) in BRANCHES else values
        else:
            state[name] = given[".".join([*parts[:2], str(int(parts[2]) - (int(parts[2]) > place)), *parts[3:]])]
    deeper.load_state_dict(state)
    return deeper


def partners(done: Any) -> list[int | None]:
    """The donor's layer for each of the base's."""
    (depth,) = done.report.depths
    return [pair.theirs.index if pair.theirs else None for pair in depth.pairs]


def differing(found: Any, wanted: Any) -> list[str]:
    own = found.state_dict()
    return [name for name, values in wanted.state_dict().items() if not torch.equal(own[name], values)]


@pytest.mark.parametrize(("place", "wanted"), [(0, [1, 2]), (1, [0, 2]), (2, [0, 1])])
def test_a_base_and_itself_with_an_identity_more_are_the_base(place: int, wanted: list[int]) -> None:
    base, data = model("vit", 0), batches("vit")
    deeper = with_identity(base, place)
    torch.testing.assert_close(logits(deeper, data[0]), logits(base, data[0]))
    done: Any = merge_models([base, deeper], data, labels="shared", fit=None)
    assert partners(done) == wanted
    assert done.report.depths[0].left_out == (f"vit.layers.{place}",)
    assert differing(done.model, base) == []


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_deeper_base_and_itself_without_its_identity_are_the_base_and_a_fit_leaves_what_it_computes(
    place: int,
) -> None:
    donor, data = model("vit", 0), batches("vit", size=48)
    base = with_identity(donor, place)
    done = merge_models([base, donor], data, labels="shared", fit=None)
    assert partners(done) == [None if i == place else i - (i > place) for i in range(3)]
    assert differing(done.model, base) == []
    fitted = merge_models([base, donor], data, labels="shared", fit="merged", ridge=1e-6)
    torch.testing.assert_close(logits(fitted.model, data[0]), logits(base, data[0]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("align", ["activations", "weights", "identity"])
def test_what_no_other_model_has_stays_the_bases_and_the_rest_is_a_mean(align: Any) -> None:
    base, other = model("resnet basic", 0), model("resnet basic", 1, depths=[1, 1])
    done = merge_models(
        [base, other], batches("resnet basic"), align=align, fit=None, renormalise=False, labels="shared"
    )
    assert partners(done) == [0, 0, None]
    alone = "resnet.encoder.stages.1.layers.1."
    found, ours, theirs = (each.state_dict() for each in (done.model, base, other))
    kept = [name for name in ours if torch.equal(found[name], ours[name]) and ours[name].is_floating_point()]
    inner = [name for name in ours if name.startswith(alone) and ours[name].is_floating_point()]
    assert kept == inner
    if align == "identity":
        name = "resnet.encoder.stages.1.layers.0.layer.0.convolution.weight"
        torch.testing.assert_close(found[name], (ours[name] + theirs[name]) / 2)


def test_a_base_that_counts_for_nothing_leaves_the_others_and_its_own_layers_add_nothing() -> None:
    base, other, data = model("vit", 0), model("vit", 1, num_hidden_layers=1), batches("vit")
    given: dict[str, Any] = {"align": "identity", "fit": None, "labels": "shared"}
    done = merge_models([base, other], data, weights=(0, 1), **given)
    torch.testing.assert_close(logits(done.model, data[0]), logits(other, data[0]))


def test_layers_that_others_lack_get_units_of_no_model_where_the_merge_is_wider() -> None:
    base, other = model("resnet basic", 0), model("resnet basic", 1, depths=[1, 1])
    data = batches("resnet basic")
    done = merge_models([base, other], data, widths="union", ratio=1.0, fit=None, renormalise=False, labels="shared")
    assert done.model.config.hidden_sizes == [16, 24]
    told = done.report.groups["mid1.1"]
    assert (told.sizes, told.merged, told.matched) == ((12, 0), 24, (0,))
    weight = done.model.state_dict()["resnet.encoder.stages.1.layers.1.layer.0.convolution.weight"]
    torch.testing.assert_close(
        weight[:12, :12], base.state_dict()["resnet.encoder.stages.1.layers.1.layer.0.convolution.weight"]
    )
    assert not weight[12:].any()
    assert not weight[:, 12:].any()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("resnet bottleneck", {"depths": [2, 3]}),
        ("bert", {"num_hidden_layers": 3}),
        ("gpt2", {"n_layer": 1}),
        ("llama", {"num_hidden_layers": 4}),
        ("t5", {"num_layers": 1, "num_decoder_layers": 3}),
        ("clip", {"text_config": {**TEXT, "num_hidden_layers": 3}}),
    ],
)
@pytest.mark.parametrize("fit", ["auto", "parents", "regmean"])
def test_every_family_is_merged_across_depths(name: str, changes: dict[str, Any], fit: Any) -> None:
    parents, data = [model(name, 0), model(name, 1, **changes)], batches(name)
    labels: Any = "shared" if name.startswith("resnet") else None
    done = merge_models(parents, data, fit=fit, labels=labels)
    assert done.model.state_dict().keys() == parents[0].state_dict().keys()
    assert all(torch.isfinite(values).all() for values in done.model.state_dict().values())
    assert differing(done.model, parents[0])


def test_t5s_table_of_distances_is_in_no_layer() -> None:
    parents = [model("t5", 0), model("t5", 1, num_decoder_layers=3)]
    done = merge_models(parents, batches("t5"), align="identity", fit=None)
    name = "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    mean = sum(parent.state_dict()[name] for parent in parents) / 2
    torch.testing.assert_close(done.model.state_dict()[name], mean)


def test_three_models_of_three_depths_are_merged_at_the_bases() -> None:
    parents = [model("vit", seed, num_hidden_layers=depth) for seed, depth in ((0, 2), (1, 2), (2, 3), (3, 1))]
    done = merge_models(parents, batches("vit"), labels="shared")
    assert done.model.config.num_hidden_layers == 2
    assert [depth is None for depth in done.report.depths] == [True, False, False]
    assert done.report.groups["ff0"].sizes[:2] == (24, 24)


def test_no_layer_is_without_a_partner_while_there_is_one_and_the_order_is_kept() -> None:
    worth = np.array([[0.1, 0.9], [0.9, 0.1]])
    assert most_pairs(worth, np.ones((2, 2), bool)) == (0, 1)
    assert most_pairs(np.array([[0.2, 0.3, 0.9]]), np.ones((1, 3), bool)) == (2,)
    assert most_pairs(np.array([[0.2, 0.9]]), np.array([[True, False]])) == (0,)


def test_of_layers_that_are_as_alike_the_earlier_is_taken() -> None:
    assert most_pairs(np.array([[0.5, 0.5, 0.4]]), np.ones((1, 3), bool)) == (0,)
    assert most_pairs(np.array([[0.5], [0.5]]), np.ones((2, 1), bool)) == (0, -1)


def test_without_data_layers_are_spread_evenly() -> None:
    assert even_pairs(np.ones((2, 3), bool)) == (0, 2)
    assert even_pairs(np.ones((3, 5), bool)) == (0, 2, 4)
    assert even_pairs(np.ones((4, 2), bool)) == (0, -1, -1, 1)
    assert even_pairs(np.ones((2, 2), bool)) == (0, 1)


def test_stages_that_differ_are_told_with_what_can_be_paired() -> None:
    specs = [spec_of(model("resnet basic", 0, depths=depths)) for depths in ([1, 2], [3, 2], [3, 1])]
    assert depths_of(specs) == (
        StageDepths("resnet.encoder.stages.0.layers", (1, 3, 3), (1, 1)),
        StageDepths("resnet.encoder.stages.1.layers", (2, 2, 1), (2, 1)),
    )
    assert depths_of(specs[:1] * 2) == ()


def test_a_config_gets_the_depth_of_the_base_and_keeps_its_widths() -> None:
    base = model("resnet basic", 0).config.to_dict()
    deeper = model("resnet basic", 0, depths=[3, 4], hidden_sizes=[8, 20]).config.to_dict()
    found = config_at_depth(deeper, base)
    assert (found["depths"], found["hidden_sizes"]) == ([1, 2], [8, 20])
    clip = {"model_type": "clip", "text_config": {"num_hidden_layers": 2}, "vision_config": {"num_hidden_layers": 5}}
    other = {**clip, "text_config": {"num_hidden_layers": 7, "hidden_size": 4}}
    assert config_at_depth(other, clip)["text_config"] == {"num_hidden_layers": 2, "hidden_size": 4}


def test_wide_features_are_compared_on_random_directions_which_tell_much_the_same() -> None:
    x = torch.randn(4000, 600, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.linspace(0, 1, 600) ** 4)
    y = x.clone()
    y[:, 300:] = torch.randn(4000, 300, generator=torch.Generator().manual_seed(1))

    class Given(torch.nn.Module):
        def __init__(self, *values: torch.Tensor) -> None:
            super().__init__()
            self.values = values

        def forward(self, number: int) -> torch.Tensor:
            return self.values[number]

    models = [torch.nn.ModuleDict({"layer": Given(values)}) for values in (x, y)]
    for own in models:
        own.forward = lambda own=own, **_: own["layer"](0)  # type: ignore[method-assign]
    blocks = (Block("layer", "layers", 0, 0, {}),)
    (found,) = stage_alike(models, {"layers": (blocks, blocks)}, [{}]).values()
    exact = CKA()
    exact.add([x], [y])
    assert found is not None
    assert found[0, 0] == pytest.approx(exact.values()[0, 0], abs=0.05)
    assert found[0, 0] != exact.values()[0, 0]


def refused(ours: SymmetrySpec, theirs: SymmetrySpec) -> str:
    with pytest.raises(PlanError) as caught:
        check_depths(ours, theirs, ("the base", "the other"))
    return str(caught.value)


def test_models_whose_layers_cannot_be_paired_are_refused_by_name() -> None:
    two, three = (spec_of(model("resnet basic", 0, depths=depths)) for depths in ([1, 2], [1, 3]))
    other = spec_of(model("resnet bottleneck", 0, depths=[1, 3]))
    assert refused(two, other) == (
        "no layer of 'resnet.encoder.stages.0.layers' has the same tensors in the base and in the other · models · "
        "merge models whose layers are built alike"
    )
    more = spec_of(model("resnet basic", 0, depths=[1, 2, 1], hidden_sizes=[8, 12, 12]))
    assert refused(two, more) == (
        "only the other has the stage 'resnet.encoder.stages.2.layers' · models · "
        "models may differ in the depth of a stage, and have to have the same stages"
    )
    headless = replace(three, tensors={name: own for name, own in three.tensors.items() if "classifier" not in name})
    assert refused(two, headless) == (
        "only the base has the tensor 'classifier.1.bias' · models · merge models of the same head"
    )


def test_a_chain_of_layers_cannot_have_one_more() -> None:
    """Layers 0 to 2 of a plain chain, each reading what the one before wrote."""
    template = next(iter(spec_of(model("resnet basic", 0)).tensors.values()))

    def chain(depth: int) -> SymmetrySpec:
        tensors = {
            f"layers.{i}.weight": replace(
                template,
                name=f"layers.{i}.weight",
                row="layers.{l}.weight",
                axes=(((Factor(f"g{i + 1}", Role.WRITES, 4),),), ((Factor(f"g{i}", Role.READS, 4),),)),
            )
            for i in range(depth)
        }
        return SymmetrySpec("chain", {}, tensors)

    assert refused(chain(2), chain(3)) == (
        "the other has more layers like layers.0, which does not add to what it reads · models · "
        "models of another depth merge where layers have residual branches; merge models of the same depth"
    )
