"""What models cost at given sizes of their groups, against sums worked by hand."""

from __future__ import annotations

import pytest
from width_models import BERT, LLAMA, MISTRAL, RESNET, bert_shapes, llama_shapes, resnet_shapes

from hubmerge.symmetry import load_spec
from hubmerge.symmetry.costs import Cost, Sharing, block_cost, cost_at, cost_terms, dense_cost, shape_at, sharing_at

STEM = "resnet.embedder.embedder.convolution.weight"


def of(*units: tuple[str, int]) -> Sharing:
    """``("01", 4)`` is 4 units of parents 0 and 1."""
    return tuple((frozenset(int(parent) for parent in parents), count) for parents, count in units)


def test_a_resnet_costs_its_kernels_times_their_output_positions() -> None:
    spec = load_spec(RESNET, resnet_shapes(4, (4, 8)))
    # kernels: stem 4*1*49, first stage 2 * 4*4*9, second 8*4*9 + 8*8*9 + shortcut 8*4, classifier 3*8
    kernels = 196 + 288 + 288 + 576 + 32 + 24
    norms = 3 * 4 * 4 + 3 * 4 * 8  # weight, bias, mean and variance; a counter is no parameter
    assert dense_cost(spec, {}) == Cost(kernels + norms + 3, kernels)
    positions = {STEM: 16, "resnet.encoder.stages.1.layers.0.shortcut.convolution.weight": 4}
    assert dense_cost(spec, {}, positions).multiply_adds == kernels + 15 * 196 + 3 * 32


def test_a_wider_stage_costs_more_where_it_is_written_and_where_it_is_read() -> None:
    spec = load_spec(RESNET, resnet_shapes(4, (4, 8)))
    sizes = {"res2": 12, "mid1.0": 12}
    assert dense_cost(spec, sizes).multiply_adds == 196 + 288 + 12 * 4 * 9 + 12 * 12 * 9 + 12 * 4 + 3 * 12
    assert dense_cost(spec, sizes).parameters == sum(
        4 * shape[0] if name.endswith("running_mean") else shape[0] * shape[1] * shape[2] * shape[3]
        for name, shape in resnet_shapes(4, (4, 12)).items()
        if len(shape) == 4 or name.endswith("running_mean")
    ) + (3 * 12 + 3)
    assert shape_at(spec.tensors["classifier.1.weight"], sizes) == (3, 12)


def test_blocks_between_units_of_different_parents_cost_nothing() -> None:
    spec = load_spec(RESNET, resnet_shapes(4, (4, 8)))
    half = sharing_at(12, (8, 8))
    assert half == of(("01", 4), ("0", 4), ("1", 4))
    dense = dense_cost(spec, {"res2": 12, "mid1.0": 12})
    blocks = block_cost(spec, {"res2": half, "mid1.0": half})
    # one kernel has such blocks on both axes; PLeaS' (1 + r)(1 + r) - 2 r r = 1.75 for r = 1/2
    assert dense.multiply_adds - blocks.multiply_adds == 2 * 4 * 4 * 9
    assert 12 * 12 * 9 - 2 * 4 * 4 * 9 == 1.75 * 8 * 8 * 9
    assert dense.parameters - blocks.parameters == 2 * 4 * 4 * 9
    assert block_cost(spec, {}) == dense_cost(spec, {})


def test_labels_of_one_parent_read_nothing_of_the_other_s_units() -> None:
    spec = load_spec(RESNET, resnet_shapes(4, (4, 8)))
    sharing = {"label": of(("0", 3), ("1", 3)), "res2": of(("01", 4), ("0", 4), ("1", 4))}
    without = block_cost(spec, {"res2": sharing["res2"]}).multiply_adds
    assert block_cost(spec, sharing).multiply_adds == without - 3 * 12 + 6 * 12 - 2 * 3 * 4


def test_units_apart_between_a_shared_stream_leave_no_block_out() -> None:
    spec = load_spec(MISTRAL, llama_shapes(MISTRAL))
    sharing = {"ff0": sharing_at(6, (4, 4)), "kv0": sharing_at(3, (2, 2))}
    wide = {**MISTRAL, "intermediate_size": 6, "num_attention_heads": 3, "num_key_value_heads": 3}
    matrices = [shape for name, shape in llama_shapes(wide).items() if len(shape) == 2 and "embed" not in name]
    expected = sum(rows * columns for rows, columns in matrices)
    assert expected == 4 * 6 * 4 + 3 * 6 * 4 + 3 * 4
    assert block_cost(spec, sharing).multiply_adds == expected
    assert dense_cost(spec, {"ff0": 6, "kv0": 3}).multiply_adds == expected


def test_factorised_axes_are_products_and_query_heads_stay_with_their_key_value_heads() -> None:
    spec = load_spec(LLAMA, llama_shapes(LLAMA))
    wide = {**LLAMA, "num_attention_heads": 10, "num_key_value_heads": 5}
    shapes = llama_shapes(wide)
    assert {name: shape_at(tensor, {"kv0": 5}) for name, tensor in spec.tensors.items()} == shapes
    assert shapes["model.layers.0.self_attn.q_proj.weight"] == (20, 12)


def test_an_embedding_is_looked_up_and_multiplied_only_where_the_head_is_tied_to_it() -> None:
    spec = load_spec(BERT, bert_shapes())
    matrices = 4 * 8 * 8 + 2 * 12 * 8 + 8 * 8  # attention, feed-forward, head's transform
    assert dense_cost(spec, {}).multiply_adds == matrices + 9 * 8
    assert dense_cost(spec, {}, {"cls.predictions.decoder.weight": 4}).multiply_adds == matrices + 4 * 9 * 8
    body = {name: shape for name, shape in bert_shapes().items() if name.startswith("bert.")}
    whole = load_spec({**BERT, "architectures": ["BertModel"]}, body)
    assert dense_cost(whole, {}).multiply_adds == matrices - 8 * 8


def test_tensors_that_always_have_one_shape_are_counted_together() -> None:
    spec = load_spec(RESNET, resnet_shapes(4, (4, 8)))
    like: dict[str, int | str] = {"res1": 4, "mid0.0": 4, "mid1.0": "res2", "label": 3, "channel": 1}
    terms = cost_terms(spec, like=like)
    assert len(terms) < len(cost_terms(spec)) < len(spec.tensors)
    assert cost_at(terms, {"res2": 12}) == dense_cost(spec, {"res2": 12, "mid1.0": 12})


@pytest.mark.parametrize(
    ("size", "widths", "shared"),
    [
        (8, (8, 8), of(("01", 8))),
        (16, (8, 8), of(("0", 8), ("1", 8))),
        (7, (4, 6), of(("01", 3), ("0", 1), ("1", 3))),
        (8, (4, 4, 4), of(("012", 2), ("0", 2), ("1", 2), ("2", 2))),
        (9, (4, 4, 4), of(("012", 1), ("01", 1), ("0", 2), ("1", 2), ("2", 3))),
        (8, (2, 8, 8), of(("012", 2), ("12", 6))),
    ],
)
def test_as_many_units_as_possible_are_of_all_parents(size: int, widths: tuple[int, ...], shared: Sharing) -> None:
    assert sharing_at(size, widths) == shared
    assert sum(count for _, count in shared) == size
