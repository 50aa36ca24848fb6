"""A merge of single layers in as much memory as is allowed: donors mapped, a layer's calls on the disk, products in passes, the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from apart_models import batches, model
from mal_recipes import WHOLE, zoo
from transformers import AutoModelForImageClassification

import hubmerge
from hubmerge import PlanError
from hubmerge.assemble import merge_plan
from hubmerge.heterogeneous import held_values
from hubmerge.heterogeneous.block_alike import stage_alike
from hubmerge.heterogeneous.block_pairs import in_stages
from hubmerge.heterogeneous.mal_plan_types import MalPlan
from hubmerge.heterogeneous.mal_rounds import assemble_from_zoo
from hubmerge.heterogeneous.scratch import Scratch
from hubmerge.symmetry import spec_of


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `zoo` makes them, `deep` in bfloat16."""
    place = tmp_path_factory.mktemp("mal-memory")
    zoo(place)
    half = AutoModelForImageClassification.from_pretrained(place / "deep", dtype=torch.bfloat16)
    half.save_pretrained(place / "deep")
    return place


@pytest.fixture(autouse=True)
def here(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)


def planned(memory: int | None = None) -> MalPlan:
    plan = hubmerge.build_plan(WHOLE, memory=memory)
    assert isinstance(plan, MalPlan)
    return plan


LIVES = 8 * (2 * 16 * 64 * (4 + 6) + 4 * 16 * (6 + 9))
"""Of a batch of 8: eight tensors of the widest layers of base and donor at 8 x 8 places, and what both layers of the donor give at 4 x 4."""


def at_once() -> int:
    """Bytes of the base's layers in float32, of the largest of them eight times, and of a batch."""
    plan = planned()
    layers: dict[str, int] = {}
    for meta in plan.tensors[plan.base]:
        if ".layers." in meta.name:
            layer = meta.name.partition(".layers.")[0]
            layers[layer] = layers.get(layer, 0) + meta.numel
    return 4 * sum(layers.values()) + 32 * max(layers.values()) + LIVES


def test_a_plan_tells_what_goes_to_the_disk_and_refuses_what_cannot_go_there() -> None:
    whole, least = planned(), planned(at_once())
    assert (whole.memory_use.copied, whole.memory_use.disk) == ((), 0)
    (deep,) = (i for i, parent in enumerate(whole.parents) if str(parent.reference) == "./deep")
    copy = 4 * sum(meta.numel for meta in whole.tensors[deep] if meta.dtype.is_float)
    assert (least.memory_use.copied, least.memory_use.room) == ((deep,), 0)
    assert least.memory_use.disk > copy
    size = f"{least.memory_use.disk / 1e3:.2f} kB"
    assert f"scratch      up to {size} beside OUT until it is done; none with more --memory" in str(least).splitlines()
    assert least.to_dict()["memory"]["copied"] == [deep]
    assert whole.hash == least.hash
    with pytest.raises(PlanError) as refused:
        planned(at_once() - 1)
    lives, once = (f"{size / 1e3:.2f} kB" for size in (LIVES, at_once() - LIVES))
    assert str(refused.value) == (
        f"a batch of 8 samples takes about {lives} in the models beside {once} that the merge needs, "
        f"--memory allows {(at_once() - 1) / 1e3:.2f} kB · --memory · write batch: 7 under calibration, or give more --memory"
    )
    with pytest.raises(PlanError) as refused:
        planned(at_once() - LIVES - 1)
    assert str(refused.value) == (
        f"the merge needs {once} of memory at once, --memory allows {(at_once() - LIVES - 1) / 1e3:.2f} kB · --memory · "
        "give more --memory; what is merged takes 4 bytes for a parameter, whatever its type will be"
    )


def test_a_merge_with_little_memory_has_the_same_bytes_and_leaves_nothing_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[int] = []

    def counted(self: Scratch, tensor: torch.Tensor) -> torch.Tensor:
        copied.append(tensor.numel())
        return before(self, tensor)

    before = Scratch.copied
    monkeypatch.setattr(Scratch, "copied", counted)
    monkeypatch.setattr(held_values, "_LEAST", 1)
    merge_plan(planned(), tmp_path / "whole")
    assert not copied
    merge_plan(planned(at_once()), tmp_path / "least")
    assert copied
    names = sorted(path.name for path in (tmp_path / "least").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == ["config.json", "hubmerge.json", "model.safetensors"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "least")]
    assert weights[0] == weights[1]


def test_a_copy_on_the_disk_has_the_order_of_the_tensor_and_one_with_entries_that_are_one_stays(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, 0)
    pixels = torch.arange(24.0).view(2, 3, 2, 2).to(memory_format=torch.channels_last)[:, :, :]
    copy = scratch.copied(pixels)
    assert torch.equal(copy, pixels)
    assert (copy.stride(), copy.data_ptr() % 64) == (pixels.stride(), pixels.data_ptr() % 64)
    assert copy.data_ptr() != pixels.data_ptr()
    part = torch.arange(10)[3:]
    assert scratch.copied(part).data_ptr() % 64 == part.data_ptr() % 64
    spread = torch.zeros(1).expand(5)
    assert scratch.copied(spread) is spread
    assert scratch.written == 96 + pixels.data_ptr() % 64 + 56 + part.data_ptr() % 64


def test_values_with_tensors_in_them_are_counted_and_go_to_the_disk_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_values, "_LEAST", 8)
    large, small = torch.ones(2), torch.ones(1)
    values: Any = ((large, [small, None]), {"mask": large, "name": "x"})
    assert held_values.bytes_held(values) == 8 + 4 + 8
    (one, (other, nothing)), named = held_values.held_on_disk(values, Scratch(tmp_path, 0))
    assert torch.equal(one, large)
    assert one is not large
    assert other is small
    assert nothing is None
    assert (named["name"], torch.equal(named["mask"], large)) == ("x", True)


def test_layers_are_compared_in_passes_with_the_same_numbers() -> None:
    models = model("llama", 0), model("llama", 1)
    stages = in_stages((spec_of(models[0]), spec_of(models[1])))
    data = batches("llama")
    whole, parts = (stage_alike(models, stages, data, most=most) for most in (2**29, 1))
    for stage, values in whole.items():
        assert values is not None
        assert values.shape == (2, 2)
        np.testing.assert_array_equal(values, parts[stage])


def test_what_comes_out_is_the_callers_own_unless_it_may_share() -> None:
    base, donor = model("llama", 0), model("llama", 1)
    given = (base, [donor], batches("llama"))
    own, shared = (assemble_from_zoo(*given, tau=10, factors=(0.5,), shared=shared) for shared in (False, True))
    rows = [found.model.model.embed_tokens.weight for found in (own, shared)]
    assert [each.data_ptr() == base.model.embed_tokens.weight.data_ptr() for each in rows] == [False, True]
    for name, values in own.model.state_dict().items():
        assert torch.equal(values, shared.model.state_dict()[name])
    assert any(decision.accepted for decision in own.decisions)
