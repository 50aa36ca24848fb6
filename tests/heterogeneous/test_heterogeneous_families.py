"""Every architecture that has a symmetry table, with every head, is merged and fitted; each layer's weights are used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hubmerge.heterogeneous import merge_models
from hubmerge.heterogeneous.alignment import align_pair
from hubmerge.symmetry import spec_of
from hubmerge.symmetry.verify import answers, drawn_anew, example_inputs

sys.path.insert(0, str(Path(__file__).parents[1] / "symmetry"))

import symmetry_models


def parents(name: str) -> list[Any]:
    return [drawn_anew(symmetry_models.model(name), seed).float() for seed in (0, 1)]


def data(name: str) -> list[dict[str, torch.Tensor]]:
    own = symmetry_models.inputs(name)
    found = [own or example_inputs(symmetry_models.model(name), seed) for seed in range(4)]
    return [{key: each.float() if each.is_floating_point() else each for key, each in batch.items()} for batch in found]


@pytest.mark.parametrize("name", symmetry_models.MODELS)
def test_models_of_every_table_are_matched_merged_and_fitted(name: str) -> None:
    pair, batches = parents(name), data(name)
    done = merge_models(pair, batches, labels="shared", ridge=1e-3)
    found, bases = answers(done.model, batches[0]), answers(pair[0], batches[0])
    assert found.keys() == bases.keys()
    for key, values in found.items():
        assert values.shape == bases[key].shape
        assert torch.isfinite(values).all()
    own = done.model.state_dict()
    same = [key for key, values in pair[0].state_dict().items() if values.dim() > 1 and torch.equal(values, own[key])]
    assert same == [] or all("embed" in key or "relative" in key or "position" in key for key in same)


def test_classes_whose_modules_stand_in_another_order_are_aligned_place_by_place() -> None:
    """XLM-RoBERTa registers its head before its body, RoBERTa after it: units of other layers were held against each other."""
    import transformers

    own = drawn_anew(symmetry_models.model("roberta"), 0).float()
    other = transformers.XLMRobertaForMaskedLM(transformers.XLMRobertaConfig(**symmetry_models.ENCODER)).eval()
    moved, order = dict(own.state_dict()), torch.arange(24).flip(0)
    for layer in ("roberta.encoder.layer.0", "roberta.encoder.layer.1"):
        for rows in (f"{layer}.intermediate.dense.weight", f"{layer}.intermediate.dense.bias"):
            moved[rows] = moved[rows][order]
        moved[f"{layer}.output.dense.weight"] = moved[f"{layer}.output.dense.weight"][:, order]
    other.load_state_dict(moved)
    found = align_pair((own, other), (spec_of(own), spec_of(other)), data("roberta"), "activations")
    for group, expected in {"ff0": order, "ff1": order, "head0": torch.arange(4), "head1": torch.arange(4)}.items():
        units = found.maps[group].unit
        assert units.tolist() == expected.tolist()
        assert found.groups[group].similarity > 0.999


def test_values_of_heads_of_two_sizes_meet_as_far_as_they_go() -> None:
    """T5 states the size of a head: of the donor's larger ones the features most like the base's are taken."""
    own, wide = (drawn_anew(_t5(size), seed).float() for seed, size in enumerate((4, 6)))
    done = merge_models([own, wide], data("t5"), ridge=1e-3)
    assert done.model.config.d_kv == 4
    assert torch.isfinite(done.model(**data("t5")[0]).logits).all()


def _t5(size: int) -> Any:
    import transformers

    return transformers.T5ForConditionalGeneration(transformers.T5Config(**{**symmetry_models.T5, "d_kv": size}))


def test_key_value_heads_are_kept_apart_with_the_queries_that_read_them() -> None:
    """Mistral states the size of a head, so the merge can have more of them."""
    pair = parents("mistral")
    done = merge_models(pair, data("mistral"), widths="union", ratio=1.0, fit=None, residual="keep")
    assert (done.model.config.num_key_value_heads, done.model.config.num_attention_heads) == (4, 8)
    own, first, second = done.model.state_dict(), *(each.state_dict() for each in pair)
    for kind, size in (("q", 32), ("k", 16), ("v", 16)):
        name = f"model.layers.0.self_attn.{kind}_proj.weight"
        assert torch.equal(own[name][:size], first[name])
        rows = [tuple(row) for row in own[name][size:].tolist()]
        assert sorted(rows) == sorted(tuple(row) for row in second[name].tolist())
