"""How wide a merge gets under a budget, against sizes worked by hand."""

from __future__ import annotations

from typing import Any

import pytest
from width_models import (
    BOTTLENECK,
    LLAMA,
    MISTRAL,
    RESNET,
    VIT,
    Shapes,
    llama_shapes,
    resnet_shapes,
    vit_shapes,
)

from hubmerge.symmetry import SymmetryError, SymmetrySpec, load_spec
from hubmerge.symmetry.budget import choose_sizes, sizes_at
from hubmerge.symmetry.costs import dense_cost
from hubmerge.symmetry.widened import sizes_of, widened_config
from hubmerge.symmetry.widths import WidthField, width_fields

ATTENTION_AND_ENDS = 4 * 8 * 8 + 8 * 4 + 3 * 8
"""Multiply-adds of `VIT` that stay as they are: attention, patches, classifier; each feed-forward unit has 16."""


def read(config: dict[str, Any], shapes: Shapes) -> tuple[tuple[WidthField, ...], SymmetrySpec]:
    spec = load_spec(config, shapes)
    return width_fields(config, spec), spec


def two(config: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """The sizes of two parents of one config."""
    return sizes_of(config), sizes_of(config)


@pytest.mark.parametrize("policy", ["uniform", "greedy"])
def test_a_budget_of_1_is_the_base(policy: Any) -> None:
    fields, spec = read(RESNET, resnet_shapes(4, (4, 8)))
    assert choose_sizes(fields, spec, RESNET, 1.0, policy=policy, parents=two(RESNET)) == {}


def test_a_large_budget_keeps_every_unit_apart_and_never_more() -> None:
    fields, spec = read(BOTTLENECK, resnet_shapes(8, (8, 16), bottleneck=True))
    everything = {"embedding_size": 16, "hidden_sizes[0]": 16, "hidden_sizes[1]": 32}
    assert choose_sizes(fields, spec, BOTTLENECK, 4.0, parents=two(BOTTLENECK)) == everything
    assert choose_sizes(fields, spec, BOTTLENECK, 9.0, policy="greedy", parents=two(BOTTLENECK)) == everything
    assert sizes_at(fields, BOTTLENECK, 1.0, parents=two(BOTTLENECK)) == everything


@pytest.mark.parametrize(("budget", "width"), [(1.2, 18), (1.19, 17), (1.031, 12), (1.032, 13)])
def test_a_budget_is_used_to_the_last_whole_unit(budget: float, width: int) -> None:
    fields, spec = read(VIT, vit_shapes())
    base = ATTENTION_AND_ENDS + 12 * 16
    assert ATTENTION_AND_ENDS + width * 16 <= budget * base < ATTENTION_AND_ENDS + (width + 1) * 16
    expected = {"intermediate_size": width} if width > 12 else {}
    assert choose_sizes(fields, spec, VIT, budget, parents=two(VIT)) == expected


def test_a_uniform_budget_is_over_the_dense_cost_with_measured_positions() -> None:
    fields, spec = read(RESNET, resnet_shapes(4, (4, 8)))
    positions = {name: 16 if ".stages.0." in name else 4 for name in spec.tensors}
    base = dense_cost(spec, {}, positions).multiply_adds
    chosen = choose_sizes(fields, spec, RESNET, 1.5, parents=two(RESNET), positions=positions)
    costs = {}
    for percent in range(101):
        values = sizes_at(fields, RESNET, percent / 100, parents=two(RESNET))
        sizes = sizes_of(widened_config(RESNET, values))
        costs[tuple(values.items())] = dense_cost(spec, sizes, positions).multiply_adds / base
    within = {values: cost for values, cost in costs.items() if cost <= 1.5}
    assert tuple(chosen.items()) == max(within, key=lambda values: within[values])


def test_a_ratio_is_the_share_of_units_kept_apart() -> None:
    fields, _ = read(RESNET, resnet_shapes(4, (4, 8)))
    assert sizes_at(fields, RESNET, 0.0, parents=two(RESNET)) == {}
    assert sizes_at(fields, RESNET, 0.25, parents=two(RESNET)) == {
        "embedding_size": 5, "hidden_sizes[0]": 5, "hidden_sizes[1]": 10,
    }  # fmt: skip


def test_parents_of_different_widths_need_the_widest_and_no_more_than_both() -> None:
    fields, spec = read(VIT, vit_shapes())
    parents = (sizes_of(VIT), sizes_of({**VIT, "intermediate_size": 20}))
    assert sizes_at(fields, VIT, 0.0, parents=parents) == {"intermediate_size": 20}
    assert sizes_at(fields, VIT, 0.5, parents=parents) == {"intermediate_size": 26}
    assert sizes_at(fields, VIT, 1.0, parents=parents) == {"intermediate_size": 32}
    narrow = (sizes_of(VIT), sizes_of({**VIT, "intermediate_size": 4}))
    assert sizes_at(fields, VIT, 1.0, parents=narrow) == {"intermediate_size": 16}
    with pytest.raises(SymmetryError) as refused:
        choose_sizes(fields, spec, VIT, 1.2, parents=parents)
    assert str(refused.value) == (  # (312 + 320) / (312 + 192)
        "the narrowest merge of these parents costs 1.25 times the base, the budget is 1.2 · raise the budget, or keep the "
        "widths of the base"
    )


def test_three_parents_fill_up_to_the_sum_of_all() -> None:
    fields, _ = read(VIT, vit_shapes())
    parents = (sizes_of(VIT),) * 3
    assert sizes_at(fields, VIT, 0.5, parents=parents) == {"intermediate_size": 24}
    assert sizes_at(fields, VIT, 1.0, parents=parents) == {"intermediate_size": 36}


def test_a_parent_without_a_group_adds_nothing_to_it() -> None:
    fields, _ = read(VIT, vit_shapes())
    assert sizes_at(fields, VIT, 1.0, parents=(sizes_of(VIT), {})) == {}


def test_sizes_that_a_config_cannot_have_give_way_to_the_nearest_that_it_can() -> None:
    fields, _ = read(LLAMA, llama_shapes(LLAMA))
    heads = {"num_key_value_heads": 6, "num_attention_heads": 12}
    assert sizes_at(fields, LLAMA, 0.5, parents=two(LLAMA)) == {
        **heads,
        "intermediate_size": 30,
    }  # 5 and 10 do not divide 12
    mistral = {**LLAMA, "model_type": "mistral"}
    heads = {"num_key_value_heads": 5, "num_attention_heads": 10}
    assert sizes_at(fields, mistral, 0.5, parents=two(mistral)) == {**heads, "intermediate_size": 30}
    assert sizes_at(fields, LLAMA, 0.25, parents=two(LLAMA)) == {"intermediate_size": 25}


def test_a_stem_that_is_apart_is_not_made_as_wide_as_the_first_stage() -> None:
    config, other = (
        {**RESNET, "embedding_size": 3, "hidden_sizes": [6, 8]},
        {"embedding_size": 6, "hidden_sizes": [3, 8]},
    )
    fields, _ = read(config, resnet_shapes(3, (6, 8), apart=True))
    parents = (sizes_of(config), sizes_of({**config, **other}))
    assert sizes_at(fields, config, 0.0, parents=parents) == {"embedding_size": 7}


def test_a_config_that_cannot_have_any_of_the_sizes_is_refused() -> None:
    fields, _ = read(LLAMA, llama_shapes(LLAMA))
    parents = (sizes_of(LLAMA), {"kv0": 4, "ff0": 20})  # 8 heads at least, 14 at most, none divides 12 but 12
    assert sizes_at(fields, LLAMA, 0.0, parents=parents)["num_attention_heads"] == 12
    fewest = (sizes_of(LLAMA), {"kv0": 7, "ff0": 20})
    with pytest.raises(SymmetryError) as refused:
        sizes_at(fields, LLAMA, 0.0, parents=fewest)
    assert str(refused.value) == (
        "the config cannot have num_key_value_heads 7, num_attention_heads 14 or sizes near · keep the widths of the base"
    )


def mismatch(similarity: dict[str, list[float]], sizes: dict[str, int]) -> float:
    """Of two parents of `MISTRAL`: the mean of what the pairs still merged are missing to 1, summed over both groups."""
    both = {"kv0": 2, "ff0": 4}
    return sum(
        sum(1 - alike for alike in similarity[name][: 2 * size - sizes[name]]) / size for name, size in both.items()
    )


def test_greedy_widens_where_the_mismatch_is() -> None:
    fields, spec = read(MISTRAL, llama_shapes(MISTRAL))
    # 124 multiply-adds: attention 64 (32 a head), feed-forward 48 (12 a unit), head 12; the budget allows 44 more
    similarity = {"kv0": [1.0, 1.0], "ff0": [0.9, 0.8, 0.5, 0.1]}
    greedy = choose_sizes(fields, spec, MISTRAL, 1.36, similarity, "greedy", parents=two(MISTRAL))
    uniform = choose_sizes(fields, spec, MISTRAL, 1.36, similarity, parents=two(MISTRAL))
    assert greedy == {"intermediate_size": 7}
    assert uniform == {"num_key_value_heads": 3, "num_attention_heads": 3, "intermediate_size": 5}
    left = [mismatch(similarity, sizes_of(widened_config(MISTRAL, values))) for values in (greedy, uniform)]
    assert left == pytest.approx([0.1 / 4, (0.1 + 0.2 + 0.5) / 4])


def test_greedy_takes_heads_when_they_are_worth_more_than_the_next_units() -> None:
    fields, spec = read(MISTRAL, llama_shapes(MISTRAL))
    # worth: units .9/4/12, then .5/4/12 = .0104; a head .8/2/32 = .0125; so a unit, then a head, then nothing fits
    similarity = {"kv0": [1.0, 0.2], "ff0": [0.9, 0.8, 0.5, 0.1]}
    chosen = choose_sizes(fields, spec, MISTRAL, 1.36, similarity, "greedy", parents=two(MISTRAL))
    assert chosen == {"num_key_value_heads": 3, "num_attention_heads": 3, "intermediate_size": 5}


def test_greedy_is_uniform_where_that_leaves_less_mismatch() -> None:
    fields, spec = read(MISTRAL, llama_shapes(MISTRAL))
    # worth: units .3/4/12, then .11/4/12 = .0023 each; a head .14/2/32 = .0022, which does not fit behind three units
    similarity = {"kv0": [0.9, 0.86], "ff0": [0.89, 0.89, 0.89, 0.7]}
    chosen = choose_sizes(fields, spec, MISTRAL, 1.36, similarity, "greedy", parents=two(MISTRAL))
    assert chosen == {"num_key_value_heads": 3, "num_attention_heads": 3, "intermediate_size": 5}
    assert mismatch(similarity, {"kv0": 3, "ff0": 5}) == pytest.approx(0.1 / 2 + 3 * 0.11 / 4)  # .1325
    assert mismatch(similarity, {"kv0": 2, "ff0": 7}) == pytest.approx((0.1 + 0.14) / 2 + 0.11 / 4)  # .1475


def test_greedy_does_not_spend_on_units_that_are_alike() -> None:
    fields, spec = read(MISTRAL, llama_shapes(MISTRAL))
    alike = {"kv0": [1.0, 1.0], "ff0": [1.0] * 4}
    assert choose_sizes(fields, spec, MISTRAL, 3.0, alike, "greedy", parents=two(MISTRAL)) == {}


def test_pairs_whose_similarity_is_not_told_are_kept_apart_first() -> None:
    fields, spec = read(MISTRAL, llama_shapes(MISTRAL))
    told = {"kv0": [0.9, 0.9], "ff0": [0.9, 0.9]}
    assert choose_sizes(fields, spec, MISTRAL, 1.2, told, "greedy", parents=two(MISTRAL)) == {"intermediate_size": 6}


def test_labels_that_are_joined_count_under_the_budget() -> None:
    """Three more labels take 24 of the 604 multiply-adds that are allowed, which leaves 16 units instead of 18."""
    fields, spec = read(VIT, vit_shapes())
    chosen = choose_sizes(fields, spec, VIT, 1.2, parents=two(VIT), grown={"label": 6})
    assert ATTENTION_AND_ENDS + 24 + 16 * 16 <= 1.2 * 504 < ATTENTION_AND_ENDS + 24 + 17 * 16
    assert chosen == {"intermediate_size": 16}
