"""Recipes that must not run: those that mergekit takes without a word, and those that it refuses late or without saying why.

Every file of ``refused/`` says in its first line what mergekit 0.1.5 does with it, and then the exact errors; RECIPE stands for
its path, and a text that ends in an ellipsis goes on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import parity_models
import pytest
import zoo

import hubmerge
from zoo_index.errors import HubmergeError

REFUSED = sorted((Path(__file__).parent / "refused").iterdir())


@pytest.fixture(scope="module", autouse=True)
def damaged(parity_place: Path) -> None:
    """llama-nan has one entry that is no number; llama-short has 20 rows for 24 tokens, and no tokenizer."""
    whole, config = zoo.read_model(Path("llama-math")), parity_models.MODELS["llama-math"].config
    changed = {name: values.copy() for name, values in whole.items()}
    changed["model.layers.1.mlp.up_proj.weight"][3, 5] = np.nan
    zoo.write_model(parity_place / "llama-nan", changed, config=config)
    shorter = {
        name: values[:20] if len(values) == 24 and "mlp" not in name else values for name, values in whole.items()
    }
    zoo.write_model(parity_place / "llama-short", shorter, config={**config, "vocab_size": 20})


def test_there_are_recipes_to_refuse() -> None:
    assert len(REFUSED) > 40
    assert all(path.read_text().startswith("# mergekit: ") for path in REFUSED)


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_a_recipe_is_refused_with_what_is_wrong_where_and_what_to_do(path: Path, tmp_path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line.startswith("# ")][1:]
    wanted = [line.removeprefix("# ").replace("RECIPE", str(path)) for line in lines]
    with pytest.raises(HubmergeError) as caught:
        hubmerge.merge(path, tmp_path / "out")
    found = [str(fault) for fault in caught.value.faults]
    shown = [
        text[: len(line) - 1] + "…" if line.endswith("…") else text for text, line in zip(found, wanted, strict=False)
    ]
    assert shown == wanted
    assert len(found) == len(wanted)
    assert not (tmp_path / "out").exists()
