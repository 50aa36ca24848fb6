"""What the catalog says can be aligned is what the symmetry tables let differ."""

from __future__ import annotations

from typing import Any

import pytest
from width_models import BERT, BOTTLENECK, LLAMA, RESNET, VIT, bert_shapes, llama_shapes, resnet_shapes, vit_shapes

from hubmerge.symmetry import load_spec
from hubmerge.symmetry.widths import width_fields
from zoo_index.apart import ALIGNED_SIZES

MODELS = {
    "resnet": (RESNET, resnet_shapes(4, (4, 8)), {"embedding_size", "hidden_sizes"}),
    "bottleneck": (BOTTLENECK, resnet_shapes(8, (8, 16), bottleneck=True), {"embedding_size", "hidden_sizes"}),
    "vit": (VIT, vit_shapes(), {"intermediate_size"}),
    "bert": (BERT, bert_shapes(), {"intermediate_size"}),
    "llama": (LLAMA, llama_shapes(LLAMA), {"intermediate_size"}),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_catalog_calls_alignable_what_no_norm_but_batchnorm_stands_over(name: str) -> None:
    config, shapes, expected = MODELS[name]
    fields: dict[str, Any] = {}
    for field in width_fields(config, load_spec(config, shapes)):
        for path in (field.path, *(path for path, _, _ in field.along)):
            fields[path.partition("[")[0]] = field.kept
    assert {path for path in fields if path in ALIGNED_SIZES} == expected
    assert {path: fields[path] for path in expected} == dict.fromkeys(expected, "")
