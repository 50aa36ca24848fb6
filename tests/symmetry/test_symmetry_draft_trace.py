"""What a graph tells of a model's axes, for modules of a few lines."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hubmerge.symmetry import Role, SymmetryError
from hubmerge.symmetry.draft_trace import Traced, trace

pytestmark = pytest.mark.usefixtures("one_thread")


class Attention(nn.Module):
    """Two heads of three features, keys and values of one fused projection, and what stands around them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.query = nn.Linear(4, 6)
        self.both = nn.Linear(4, 12)
        self.out = nn.Linear(6, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 5)

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        stream = self.table(input_ids)
        query = self.query(stream).view(2, 3, 2, 3).transpose(1, 2)
        key, value = (part.view(2, 3, 2, 3).transpose(1, 2) for part in self.both(stream).split(6, dim=-1))
        seen = torch.softmax(query @ key.transpose(2, 3), -1) @ value
        stream = self.norm(stream + self.out(seen.transpose(1, 2).reshape(2, 3, 6)))
        return {"logits": self.head(stream)}


@pytest.fixture(scope="module")
def traced() -> Traced:
    return trace(Attention(), {"input_ids": torch.zeros(2, 3, dtype=torch.long)})


def test_heads_are_factors_and_fused_projections_segments(traced: Traced) -> None:
    ((query,),) = (traced.axes["query.weight"][0],)
    keys, values = traced.axes["both.weight"][0]
    assert query == keys
    assert keys[0] == values[0]
    assert keys[1] != values[1]
    assert traced.axes["out.weight"][1] == (values,)
    assert [traced.sizes[index] for index in query] == [2, 3]
    assert not traced.held & {*query, *values}


def test_one_index_runs_through_the_residual_stream_and_words_and_labels_are_held(traced: Traced) -> None:
    stream = traced.axes["table.weight"][1]
    ways = [("query.weight", 1), ("both.weight", 1), ("out.weight", 0), ("norm.weight", 0), ("head.weight", 1)]
    assert [traced.axes[name][axis] for name, axis in ways] == [stream] * 5
    assert {traced.axes["table.weight"][0][0][0], traced.axes["head.bias"][0][0][0]} <= traced.held
    assert traced.norms[stream[0][0]] == "layer"


def test_readers_gains_and_keys_have_their_roles(traced: Traced) -> None:
    assert traced.role("out.weight", 1, 0, 0) is Role.READS
    assert traced.role("norm.weight", 0, 0, 0) is Role.FOLLOWS
    assert traced.role("norm.bias", 0, 0, 0) is Role.WRITES
    assert [traced.role("both.weight", 0, 0, factor) for factor in (0, 1)] == [Role.WRITES, Role.READS]
    assert traced.role("query.bias", 0, 0, 1) is Role.WRITES
    assert traced.role("both.weight", 0, 1, 1) is Role.WRITES


def test_an_operation_without_a_rule_holds_what_it_touches_and_is_counted() -> None:
    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 5)

        def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
            return {"logits": self.second(torch.sort(self.first(pixel_values), -1)[0])}

    found = trace(Sorted(), {"pixel_values": torch.zeros(2, 3)})
    assert found.unknown == {"aten.sort.default": 1}
    assert {found.axes["first.weight"][0][0][0], found.axes["second.weight"][1][0][0]} <= found.held


def test_a_model_that_cannot_be_exported_is_refused() -> None:
    class Wilful(nn.Module):
        def forward(self, pixel_values: Tensor) -> dict[str, Any]:
            raise RuntimeError("not\ntoday")

    with pytest.raises(SymmetryError) as refused:
        trace(Wilful(), {"pixel_values": torch.zeros(2, 3)}, "./model")
    assert str(refused.value) == (
        "torch.export does not take Wilful (RuntimeError: not today) · ./model · write its table by hand, as "
        "zoo_index/families/family.py tells"
    )
