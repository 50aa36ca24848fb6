"""A merge of unlike models in as much memory as is allowed: what goes to the disk, the same bytes, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from pleas_models import images, pleas, resnet
from transformers import AutoModelForImageClassification

import hubmerge
from hubmerge import PlanError
from hubmerge.assemble import merge_plan
from hubmerge.heterogeneous import paging
from hubmerge.heterogeneous import scratch as disk
from hubmerge.heterogeneous.memory import Needs
from hubmerge.heterogeneous.memory_use import MemoryUse, use_of
from hubmerge.heterogeneous.plan_types import AssemblyPlan

NEEDS = Needs(merge=100, least=50, batch=20, halted=200, sums=30, samples=4)
LABELS = ("a", "b", "c")
BATCH, PLACES, WIDEST = 8, 64, 4
ROWS = 8 * BATCH * PLACES * (49 + 1 + WIDEST)
"""What a batch makes of rows for the first layer, in float64: 49 pixels and a one go in, 4 channels come out, at 8 x 8 places."""
LIVES = 3 * 16 * BATCH * PLACES * WIDEST
"""What lives of a batch in two parents and the merge: four tensors in float32 as wide as the widest layer."""
LEAST = 4 * 1189 + 3 * ROWS + LIVES
"""Bytes that do for a merge of 1,189 parameters, and leave no room."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model in float32, and another in bfloat16."""
    place = tmp_path_factory.mktemp("memory")
    images(place)
    resnet(place / "low", 0, LABELS)
    resnet(place / "high", 1, LABELS)
    AutoModelForImageClassification.from_pretrained(place / "high", dtype=torch.bfloat16).save_pretrained(
        place / "high"
    )
    return place


@pytest.fixture(autouse=True)
def here(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)


def planned(memory: int | None = None, **changes: Any) -> AssemblyPlan:
    plan = hubmerge.build_plan(pleas(labels="shared", dtype="float32", **changes), memory=memory)
    assert isinstance(plan, AssemblyPlan)
    return plan


def test_parents_leave_memory_first_and_then_what_a_fit_can_have_on_the_disk() -> None:
    parents = (40, 0, 60)  # the second is mapped from its own file
    assert use_of(NEEDS, parents, 480) == MemoryUse(480)
    assert use_of(NEEDS, parents, 479) == MemoryUse(380, None, (0, 2), 100)
    assert use_of(NEEDS, parents, 379) == MemoryUse(379, 209, (0, 2), 100 + 230)
    assert use_of(NEEDS, parents, 170) == MemoryUse(170, 0, (0, 2), 100 + 230)
    with pytest.raises(PlanError) as refused:
        use_of(NEEDS, parents, 149)
    assert str(refused.value) == (
        "the merge needs 150 B of memory at once, --memory allows 149 B · --memory · "
        "give more --memory; what is merged takes 4 bytes for a parameter, whatever its type will be"
    )


def test_a_batch_that_does_not_fit_is_refused_with_the_one_that_does() -> None:
    with pytest.raises(PlanError) as refused:
        use_of(NEEDS, (), 169)
    assert str(refused.value) == (
        "a batch of 4 samples takes about 20 B in the models beside 150 B that the merge needs, --memory allows 169 B · --memory · "
        "write batch: 3 under calibration, or give more --memory"
    )
    with pytest.raises(PlanError) as refused:
        use_of(NEEDS, (), 154)
    assert refused.value.hint == (
        "one sample needs 155 B in all: give more --memory, or shorter texts (max_length) or smaller pictures"
    )


def test_the_batch_that_a_refusal_names_is_accepted() -> None:
    with pytest.raises(PlanError, match=r"^a batch of 8 samples takes about 98\.30 kB ") as refused:
        planned(LEAST - 1)
    assert str(refused.value.hint).startswith("write batch: 7 ")
    smaller = {"data": "./images.npz", "samples": 8, "batch": 7}
    assert planned(LEAST - 1, calibration=smaller).memory_use.room is not None


def test_where_nothing_is_said_it_is_2_gb_or_what_has_to_be_there_and_half_a_gb() -> None:
    assert use_of(Needs(0, 0, 0, 2 * 10**9), (), None) == MemoryUse(2 * 10**9)
    assert use_of(Needs(0, 0, 0, 3 * 10**9), (), None) == MemoryUse(2 * 10**9, 2 * 10**9, (), 3 * 10**9)
    large = Needs(6 * 10**9, 10**9, 10**9, 3 * 10**9)
    assert use_of(large, (), None) == MemoryUse(85 * 10**8, 5 * 10**8, (), 3 * 10**9)


def test_a_plan_tells_what_goes_to_the_disk_and_has_the_same_hash() -> None:
    whole = planned()
    assert whole.memory_use == MemoryUse(whole.peak_memory)
    assert not any(line.startswith("scratch") for line in str(whole).splitlines())
    mapped, least = planned(whole.peak_memory - 1), planned(LEAST)
    copy = 4 * sum(meta.numel for meta in whole.tensors[1] if meta.dtype.is_float)
    assert mapped.memory_use == MemoryUse(whole.peak_memory - copy, None, (1,), copy)
    assert least.memory_use.room == 0
    assert least.memory_use.disk > copy
    (told,) = (line for line in str(least).splitlines() if line.startswith("scratch"))
    size = f"{least.memory_use.disk / 1e3:.2f} kB"
    assert told == f"scratch      up to {size} beside OUT until it is done; none with more --memory"
    assert least.to_dict()["memory"] == {
        "peak": least.peak_memory,
        "room": 0,
        "copied": [1],
        "disk": least.memory_use.disk,
    }
    assert whole.hash == mapped.hash == least.hash


def test_a_merge_with_little_memory_has_the_same_bytes_and_leaves_nothing_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Counter[str]()

    def counted(self: disk.Scratch, data: memoryview, place: int | None = None) -> int:
        written["runs"] += len(data)
        return put(self, data, place)

    def counted_zeros(self: disk.Scratch, shape: Any) -> torch.Tensor:
        written["sums"] += 1
        return zeros(self, shape)

    put, zeros = disk.Scratch.put, disk.Scratch.zeros
    monkeypatch.setattr(disk.Scratch, "put", counted)
    monkeypatch.setattr(disk.Scratch, "zeros", counted_zeros)
    monkeypatch.setattr(paging, "_LEAST", 1)
    merge_plan(planned(), tmp_path / "whole")
    assert not written
    merge_plan(planned(LEAST), tmp_path / "least")
    assert written["runs"] > 0
    assert written["sums"] > 0
    names = sorted(path.name for path in (tmp_path / "least").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == ["config.json", "hubmerge.json", "model.safetensors"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "least")]
    assert weights[0] == weights[1]


def test_a_disk_without_room_for_it_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(LEAST)
    free = plan.bytes_written + plan.memory_use.disk - 1
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))
    with pytest.raises(PlanError, match=r"^the merge needs .* are free"):
        merge_plan(plan, tmp_path / "out")


def test_matching_by_weights_is_counted_as_far_as_it_is_more_than_the_merge_that_comes_after() -> None:
    by_weights = planned(align="weights", fit="none", calibration=None)
    alike = planned(align="identity", fit="none", calibration=None)
    largest = 6 * 6 * 9  # the kernel of the last stage's second layer
    matching = 8 * (8 * largest + 7 * 6**2)
    merge, other = 4 * by_weights.parameters, 4 * by_weights.parameters
    assert matching > merge + (8 * 4 + 4) * largest
    assert by_weights.peak_memory == matching + other  # which is stored in bfloat16
    assert alike.peak_memory == merge + (8 * 4 + 4) * largest + other  # which is stored in bfloat16
