"""A transport in as much memory as is allowed: models mapped from copies, deltas carried strip by strip, the same bytes, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from apart_models import batches, model
from pleas_models import images, resnet
from transformers import AutoModelForImageClassification

import hubmerge
from hubmerge import PlanError
from hubmerge.assemble import merge_plan
from hubmerge.heterogeneous import Donor, merged_tensors, transport_deltas
from hubmerge.heterogeneous.plan_types import AssemblyPlan
from hubmerge.heterogeneous.stream_form import Absorbed, stream_of
from hubmerge.heterogeneous.unit_views import groups_with_features, views_of_activations
from hubmerge.heterogeneous.untied import seen_untied
from hubmerge.symmetry import spec_of


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """target in float32; base and learned, another width, in bfloat16."""
    place = tmp_path_factory.mktemp("transport-memory")
    images(place)
    resnet(place / "target", 0, ("a", "b", "c"))
    for name, seed in (("base", 1), ("learned", 2)):
        resnet(place / name, seed, ("a", "b", "c"), (6, 9))
        half = AutoModelForImageClassification.from_pretrained(place / name, dtype=torch.bfloat16)
        half.save_pretrained(place / name)
    return place


@pytest.fixture(autouse=True)
def here(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)


def planned(memory: int | None = None) -> AssemblyPlan:
    recipe: dict[str, Any] = {
        "merge_method": "transport",
        "base_model": "./target",
        "models": [{"model": "./learned", "base": "./base", "parameters": {"weight": 0.5}}],
        "calibration": {"data": "./images.npz", "samples": 8},
        "dtype": "float32",
    }
    plan = hubmerge.build_plan(recipe, memory=memory)
    assert isinstance(plan, AssemblyPlan)
    return plan


def test_models_that_do_not_fit_are_mapped_from_copies_and_the_merge_has_the_same_bytes(tmp_path: Path) -> None:
    whole = planned()
    copies = sum(4 * meta.numel for tensors in whole.tensors[:2] for meta in tensors if meta.dtype.is_float)
    tight = planned(whole.peak_memory - 1)
    assert whole.memory_use.copied == ()
    assert (tight.memory_use.copied, tight.memory_use.disk) == (
        (0, 1),
        copies,
    )  # the target, the last, is mapped as it is
    assert tight.peak_memory == whole.peak_memory - copies
    assert f"scratch      up to {copies / 1e3:.2f} kB beside OUT until it is done; none with more --memory" in str(
        tight
    )
    assert tight.hash == whole.hash
    for name, plan in (("whole", whole), ("tight", tight)):
        merge_plan(plan, tmp_path / name)
    files = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("whole", "tight")]
    assert files[0] == files[1] == ["config.json", "hubmerge.json", "model.safetensors"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "tight")]
    assert weights[0] == weights[1]


def test_what_has_to_be_there_at_once_is_refused_where_it_does_not_fit() -> None:
    largest = 6 * 6 * 9  # the kernel of the last stage's second layer, of which four copies stand in float64
    at_once = 4 * planned().parameters + (4 * 8 + 4) * largest
    with pytest.raises(PlanError) as refused:
        planned(1000)
    assert str(refused.value) == (
        f"the merge needs {at_once / 1e3:.2f} kB of memory at once, --memory allows 1.00 kB · --memory · "
        "give more --memory; what is merged takes 4 bytes for a parameter, whatever its type will be"
    )


def test_large_tensors_are_cut_along_their_longest_axis_without_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = spec_of(model("llama", 3)).tensors["model.embed_tokens.weight"].axes
    assert merged_tensors.strips((20, 16), [axes], {"res"}) == (None,)
    monkeypatch.setattr(merged_tensors, "_STRIP", 128)
    every = {factor.group for axis in axes for segment in axis for factor in segment if factor.group}
    assert merged_tensors.strips((20, 16), [axes], every) == (None,)


@pytest.mark.parametrize("residual", ["keep", "orthogonal"])
def test_strips_carry_what_whole_tensors_carry(residual: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target, base, learned = (model("llama", seed).double() for seed in (3, 4, 5))
    found = []
    for strip in (2**21, 64):
        monkeypatch.setattr(merged_tensors, "_STRIP", strip)
        done = transport_deltas(target, [Donor(learned, base)], align="weights", residual=residual)
        found.append((done.model.state_dict(), done.reports[0]))
    for name, values in found[0][0].items():
        torch.testing.assert_close(values, found[1][0][name], rtol=1e-9, atol=1e-9)
    assert found[0][1].share == pytest.approx(found[1][1].share)


def test_an_absorbed_strip_is_the_strip_of_what_is_absorbed() -> None:
    own = model("gpt2", 3)
    seen = seen_untied(own)
    assert seen.lm_head.weight.data_ptr() == own.transformer.wte.weight.data_ptr()
    assert "lm_head.weight" in spec_of(seen).tensors
    spec = spec_of(seen)
    absorbed = Absorbed(spec, stream_of(spec), seen.state_dict())
    for name, axis in (("lm_head.weight", 0), ("transformer.wte.weight", 0), ("transformer.h.0.mlp.c_fc.weight", 1)):
        assert torch.equal(absorbed.strip(name, (axis, 3, 5)), absorbed[name].narrow(axis, 3, 5))
    assert torch.equal(absorbed["transformer.ln_f.weight"], torch.ones(16, dtype=torch.float64))


def test_features_inside_heads_are_seen_in_passes_with_the_same_numbers() -> None:
    models = model("llama", 3), model("llama", 4)
    specs = spec_of(models[0]), spec_of(models[1])
    heads, data = groups_with_features(specs[0]), batches("llama")
    whole, parts = (dict(views_of_activations(models, specs, data, heads, most=most)) for most in (2**29, 1))
    assert list(whole) == list(parts) == ["kv0", "kv1"]
    for name, views in whole.items():
        for one, other in zip(views, parts[name], strict=True):
            assert all(np.array_equal(getattr(one, each), getattr(other, each)) for each in ("ours", "theirs", "cross"))
