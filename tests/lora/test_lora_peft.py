"""PEFT's combinations with PEFT's numbers, and merged adapters that PEFT loads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lora_models import dense, furthest, llama, loaded, saved_adapter

import hubmerge
from hubmerge.lora import merge_adapters

WEIGHTS = [0.5, -0.3, 0.9]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and three adapters: other scales, other ranks in one of them, rsLoRA."""
    place = tmp_path_factory.mktemp("adapters")
    llama().save_pretrained(place / "base")
    saved_adapter(place / "base", place / "a", 1, lora_alpha=8)
    saved_adapter(place / "base", place / "b", 2, use_rslora=True)
    saved_adapter(place / "base", place / "c", 3, alpha_pattern={"q_proj": 2})
    saved_adapter(
        place / "base",
        place / "wide",
        4,
        r=6,
        rank_pattern={"down_proj": 3},
        target_modules=["q_proj", "v_proj", "down_proj"],
    )
    return place


def peft_combines(place: Path, name: str, **arguments: Any) -> dict[str, np.ndarray]:
    from peft import PeftModel

    model = PeftModel.from_pretrained(loaded(place / "base"), place / "a", adapter_name="a")
    for other in "bc":
        model.load_adapter(place / other, adapter_name=other)
    model.add_weighted_adapter(list("abc"), WEIGHTS, "both", combination_type=name, **arguments)
    layers = {module: layer for module, layer in model.base_model.model.named_modules() if hasattr(layer, "lora_A")}
    with torch.no_grad():
        return {module: layer.get_delta_weight("both").double().numpy() for module, layer in layers.items()}


@pytest.mark.parametrize("name", ["cat", "svd", "linear", "ties", "magnitude_prune", "ties_svd", "magnitude_prune_svd"])
@pytest.mark.filterwarnings("ignore:.*works on A and on B apart")
def test_a_combination_has_pefts_numbers(place: Path, name: str) -> None:
    thinned = {"density": 0.5} if "ties" in name or "prune" in name else {}
    merged = merge_adapters(name, [place / one for one in "abc"], parameters={"weight": WEIGHTS, **thinned})
    assert furthest(dense(merged), peft_combines(place, name, **thinned)) < 1e-5


def test_a_merged_adapter_is_loaded_by_peft_when_it_is_verified_and_warns_of_nothing(
    place: Path, tmp_path: Path
) -> None:
    models = [{"model": str(place / one)} for one in "ab"]
    recipe = {"merge_method": "cat", "basis": "none", "models": models, "output": {"kind": "adapter"}}
    hubmerge.merge(recipe, tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)  # of what PEFT asks transformers for, a user can change nothing
        found = hubmerge.verify_merge(tmp_path / "out")
    assert (found.level, found.checks[2].detail) == (
        "exact",
        "a PeftModel of LlamaForCausalLM loads, its outputs are finite",
    )


@pytest.mark.filterwarnings("ignore:.*works on A and on B apart")
def test_the_majority_of_signs_has_pefts_numbers(place: Path) -> None:
    own = {"density": 0.7, "majority_sign_method": "frequency"}
    merged = merge_adapters("ties", [place / one for one in "abc"], parameters={"weight": WEIGHTS, **own})
    assert furthest(dense(merged), peft_combines(place, "ties", **own)) < 1e-5


def test_dropped_entries_keep_the_mean() -> None:
    """Of 40,000 entries half are dropped and the others doubled: the mean stays 1, to 5 standard deviations of .005."""
    wide = [{"m": (np.ones((1, 200)), np.ones((200, 1)))}]
    merged = merge_adapters(
        "dare_linear_svd", [*wide, *wide], parameters={"density": 0.5, "weight": [1.0, 0.0]}, rank=200
    )
    assert float(dense(merged)["m"].mean()) == pytest.approx(1.0, abs=0.025)


def test_factors_that_are_added_up_apart_are_warned_of(place: Path) -> None:
    with pytest.warns(
        UserWarning, match="terms of one adapter's B with another's A, which nobody trained; task_arithmetic has none"
    ):
        merge_adapters("linear", [place / "a", place / "c"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merge_adapters("cat", [place / "a", place / "c"])


def test_factors_of_other_ranks_are_not_added_up(place: Path) -> None:
    with pytest.raises(
        hubmerge.PlanError, match=r"linear adds up factors, and those of .*down_proj' have the ranks 3, 4"
    ):
        merge_adapters("linear", [place / "a", place / "wide"])


def test_what_is_left_out_of_the_parameters_is_asked_for(place: Path) -> None:
    with pytest.raises(hubmerge.RecipeError, match="ties needs density, the share of entries it keeps"):
        merge_adapters("ties", [place / "a", place / "b"])
    with pytest.raises(hubmerge.RecipeError, match="weight has 1 values for 2 adapters"):
        merge_adapters("cat", [place / "a", place / "b"], parameters={"weight": [1.0]})
    with pytest.raises(hubmerge.RecipeError, match="less than or equal to 1, got 2"):
        merge_adapters("ties", [place / "a", place / "b"], parameters={"density": 2})


@pytest.mark.parametrize(
    ("adapters", "arguments"),
    [
        (("a", "b", "c"), {"name": "ties", "basis": "knots", "parameters": {"density": 0.5}}),
        (("a", "wide"), {"name": "ties", "basis": "core", "parameters": {"density": 0.5}}),
        (("a", "wide"), {"name": "task_arithmetic"}),
        (("a", "wide"), {"name": "task_arithmetic", "rank": 3}),
        (("a", "wide"), {"name": "svd"}),
    ],
)
def test_peft_loads_what_was_merged(
    place: Path, tmp_path: Path, adapters: tuple[str, ...], arguments: dict[str, Any]
) -> None:
    from peft import PeftModel

    merged = merge_adapters(adapters=[place / one for one in adapters], out=tmp_path / "out", **arguments)
    base, model = loaded(place / "base"), PeftModel.from_pretrained(loaded(place / "base"), tmp_path / "out")
    with torch.no_grad():
        for module, change in dense(merged).items():
            base.get_submodule(module).weight += torch.from_numpy(change).float()
        tokens = torch.arange(20)[None]
        torch.testing.assert_close(model(tokens).logits, base(tokens).logits, atol=1e-5, rtol=1e-5)
        assert not torch.equal(model(tokens).logits, loaded(place / "base")(tokens).logits)


def test_peft_loads_what_was_merged_of_adapters_from_memory(place: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    drawn, names = np.random.default_rng(0), [f"model.layers.{layer}.self_attn.q_proj" for layer in range(2)]
    first, second = (
        {name: (drawn.normal(size=(rank, 16)), drawn.normal(size=(16, rank))) for name in names[:most]}
        for rank, most in ((2, 2), (1, 1))
    )
    merged = merge_adapters("task_arithmetic", [first, second], tmp_path / "out", base=place / "base")
    model = PeftModel.from_pretrained(loaded(place / "base"), tmp_path / "out")
    assert model.peft_config["default"].base_model_name_or_path == str(place / "base")
    layers = {name: layer for name, layer in model.base_model.model.named_modules() if hasattr(layer, "lora_A")}
    with torch.no_grad():
        changes = {name: layer.get_delta_weight("default").double().numpy() for name, layer in layers.items()}
    assert furthest(changes, dense(merged)) < 1e-6
    assert furthest(dense(merge_adapters("cat", [tmp_path / "out"])), dense(merged)) < 1e-6


def test_embeddings_and_layers_that_store_their_input_first(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20, n_positions=16)).save_pretrained(
        tmp_path / "base"
    )
    targets = {"target_modules": ["c_attn", "wte"], "fan_in_fan_out": True}
    folders = [saved_adapter(tmp_path / "base", tmp_path / str(seed), seed, **targets) for seed in (1, 2)]
    merge_adapters("task_arithmetic", folders, out=tmp_path / "out", parameters={"weight": [0.5, 0.25]})
    with torch.no_grad():
        models = [
            PeftModel.from_pretrained(loaded(tmp_path / "base"), folder).merge_and_unload()
            for folder in (*folders, tmp_path / "out")
        ]
        base = loaded(tmp_path / "base").state_dict()
        for name, weight in models[2].state_dict().items():
            own = [model.state_dict()[name] - base[name] for model in models[:2]]
            torch.testing.assert_close(weight, base[name] + 0.5 * own[0] + 0.25 * own[1], atol=1e-5, rtol=1e-5)


def refusal(folders: list[Path]) -> str:
    with pytest.raises(hubmerge.PlanError) as refused:
        merge_adapters("task_arithmetic", folders)
    return str(refused.value)


def test_adapters_that_are_no_low_rank_terms_are_refused(place: Path, tmp_path: Path) -> None:
    base = place / "base"
    assert "DoRA adapters rescale their base" in refusal([saved_adapter(base, tmp_path / "dora", 1, use_dora=True)])
    assert "models named base+adapter" in refusal([saved_adapter(base, tmp_path / "dora", 1, use_dora=True)])
    assert "no adapter_config.json, so this is not an adapter" in refusal([base])


def test_adapters_of_different_bases_are_refused(place: Path, tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "other")
    other = saved_adapter(tmp_path / "other", tmp_path / "stranger", 5)
    text = refusal([place / "a", other])
    assert text.startswith(f"the adapters were trained on different models ({place / 'a'} on {place / 'base'}, ")


def test_a_folder_that_holds_something_is_not_written_to(place: Path) -> None:
    with pytest.raises(hubmerge.PlanError, match="the folder holds something already"):
        merge_adapters("cat", [place / "a"], out=place / "base")
