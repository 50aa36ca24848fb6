"""Weight matching: a model that was reordered is brought back, whatever its architecture; and it never makes two less alike."""

from __future__ import annotations

import pytest
import symmetry_models
import torch
from symmetry_models import ONE_OF_EACH_KIND, reordered_tensors

from hubmerge.symmetry import match_weights, spec_of, transform
from hubmerge.symmetry.verify import drawn_anew

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_a_reordered_model_is_brought_back_number_by_number(name: str) -> None:
    spec, base = spec_of(symmetry_models.model(name)), drawn_anew(symmetry_models.model(name), 0).state_dict()
    other = reordered_tensors(spec, base, 1)
    assert not all(torch.equal(base[key], other[key]) for key in base)
    found = match_weights(spec, base, other)
    back = transform(spec, other, found.element)
    assert all(torch.equal(base[key], back[key]) for key in base)
    assert found.similarity == pytest.approx(1, abs=1e-12)
    assert found.before < 0.9
    for group in found.groups.values():
        assert group.similarity == pytest.approx(1, abs=1e-12)
        assert group.moved == group.size
        assert group.before < 0.9


@pytest.mark.parametrize("name", ["llama", "bert", "resnet basic"])
def test_noise_does_not_hide_what_a_unit_is(name: str) -> None:
    spec, base = spec_of(symmetry_models.model(name)), drawn_anew(symmetry_models.model(name), 0).state_dict()
    generator = torch.Generator().manual_seed(3)
    noisy = {
        key: value + 0.1 * value.std(correction=0) * torch.randn(value.shape, generator=generator)
        if value.is_floating_point()
        else value
        for key, value in base.items()
    }
    other = reordered_tensors(spec, noisy, 1)
    found = match_weights(spec, base, other)
    back = transform(spec, other, found.element)
    assert all(torch.equal(noisy[key], back[key]) for key in base)
    assert 0.98 < found.similarity < 1


@pytest.mark.parametrize("name", ["llama", "gpt2", "vit", "resnet basic"])
def test_unrelated_models_get_nearer_and_say_how_near(name: str) -> None:
    model = symmetry_models.model(name)
    spec, base, other = spec_of(model), *(drawn_anew(model, seed).state_dict() for seed in (0, 1))
    found = match_weights(spec, base, other, seed=5)
    assert found.before < found.similarity < 0.9
    again = match_weights(spec, base, other, seed=5)
    assert {name: part.order.tolist() for name, part in found.element.items()} == {
        name: part.order.tolist() for name, part in again.element.items()
    }
    assert match_weights(spec, base, other, seed=5, restarts=0).similarity <= found.similarity
    same = match_weights(spec, base, base)
    assert same.similarity == pytest.approx(1)
    assert all(group.moved == 0 for group in same.groups.values())
