"""Adapters that are damaged, hostile, of another type or of another base: refused before a weight is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bad.models import ADAPTED, Q, factors, llama, lora, refusal, two_models_in

SAVE = "fetch or save it again"


@pytest.fixture(autouse=True)
def two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return two_models_in(tmp_path, monkeypatch)


def config_of_a_list() -> None:
    lora()
    Path("l/adapter_config.json").write_text("[]")


SAVE_ADAPTER = "the adapter is damaged; fetch or save it again"
TRAINED = "is this the base it was trained on?"
DENSE = "merge it into its base with PEFT first (merge_and_unload) and name the result"
ADAPTERS: dict[str, tuple[Callable[[], None], str]] = {
    "is a model": (lambda: llama(Path("l")) and None, "no adapter_config.json, so this is not an adapter · ./l · after the + comes a PEFT adapter"),
    "has a config that is a list": (config_of_a_list,
                                    f"adapter_config.json is not a JSON object · ./l · {SAVE}"),
    "is of another type": (lambda: lora(peft_type="IA3"), f"adapter type IA3 is not a low-rank term to add · ./a+./l · {DENSE}"),
    "is of no type": (lambda: lora(peft_type=None), f"adapter type None is not a low-rank term to add · ./a+./l · {DENSE}"),
    "is a DoRA without lengths": (lambda: lora(use_dora=True),
                                  f"the adapter is DoRA's and has no lora_magnitude_vector of {Q!r} · ./a+./l · {SAVE_ADAPTER}"),
    "has text for alpha": (lambda: lora(lora_alpha="x"), f"lora_alpha of {Q!r} is 'x', not a number · ./a+./l · {SAVE_ADAPTER}"),
    "has no alpha": (lambda: lora(lora_alpha=None), f"lora_alpha of {Q!r} is None, not a number · ./a+./l · {SAVE_ADAPTER}"),
    "has NaN for alpha": (lambda: lora(lora_alpha=float("nan")), f"lora_alpha of {Q!r} is nan, not a number · ./a+./l · {SAVE_ADAPTER}"),
    "has an alpha beyond all": (lambda: lora(lora_alpha=10**400),
                                f"lora_alpha of {Q!r} is 1{'0' * 76}..., not a number · ./a+./l · {SAVE_ADAPTER}"),
    "has patterns in a list": (lambda: lora(alpha_pattern=[1]), f"alpha_pattern is not a mapping · ./a+./l · {SAVE_ADAPTER}"),
    "has a pattern that is none": (lambda: lora(alpha_pattern={"(": 1}),
                                   ("alpha_pattern has the key '(', no regular expression (missing ), unterminated subpattern at position 7) · "
                                   f"./a+./l · {SAVE_ADAPTER}")),
    "has a pattern that takes for ever": (lambda: lora(alpha_pattern={"(.+)+x": 1}),
                                          f"alpha_pattern has the key '(.+)+x', too costly to match · ./a+./l · {SAVE_ADAPTER}"),
    "lacks a factor": (lambda: lora(named={f"{Q}.lora_A.weight": np.ones((2, 4), "float32")}),
                       f"the adapter has lora_A of {Q!r} without its partner · ./a+./l · the adapter is incomplete; fetch or save it again"),
    "has rank 0": (lambda: lora(named=factors(rank=0)),
                   f"the adapter's factors [0, 4] and [4, 0] do not fit '{Q}.weight' of shape [4, 4] · ./a+./l · {TRAINED}"),
    "has factors without shape": (lambda: lora(named={name: np.ones((), "float32") for name in factors()}),
                                  f"the adapter's factors [] and [] do not fit '{Q}.weight' of shape [4, 4] · ./a+./l · {TRAINED}"),
    "has factors of counts": (lambda: lora(named=factors(dtype="int64")),
                              f"the adapter's 'base_model.model.{Q}.lora_A.weight' holds I64 numbers · ./a+./l · {SAVE_ADAPTER}"),
    "trains single tokens": (lambda: lora(trainable_token_indices=[1]),
                             f"the adapter trains the embeddings of single tokens (trainable_token_indices) · ./a+./l · {DENSE}"),
    "is for a wider model": (lambda: lora(named=factors(rows=8, columns=8)),
                             f"the adapter's factors [2, 8] and [8, 2] do not fit '{Q}.weight' of shape [4, 4] · ./a+./l · {TRAINED}"),
    "is for other modules": (lambda: lora(named=factors(module="h.0.attn")),
                             f"the adapter changes 'h.0.attn.weight', for which the base has no tensor · ./a+./l · {TRAINED}"),
    "changes a tensor twice": (lambda: lora(named={**factors(), **factors(module=f"wrapper.{Q}")}),
                               f"the adapter changes '{Q}.weight' twice · ./a+./l · save the adapter again"),
    "replaces and adds": (lambda: lora(named={**factors(), f"{Q}.weight": np.ones((4, 4), "float32")}),
                          f"the adapter both replaces '{Q}.weight' and adds to it · ./a+./l · save the adapter again"),
    "holds nothing": (lambda: lora(named={}), f"the adapter changes nothing: it has no tensors · ./a+./l · {SAVE}"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_is_refused_that(kind: str) -> None:
    spoil, fault = ADAPTERS[kind]
    spoil()
    assert refusal(ADAPTED) == [fault]
