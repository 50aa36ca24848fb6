"""Adapters whose start moved their base: what PEFT makes of them on the base as it was, is what a plain one gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lora_models import dense, llama, loaded, saved_adapter
from zoo import read_model, recipe, write_adapter

import hubmerge
from hubmerge import merge
from hubmerge.lora import merge_adapters, plain_adapter
from hubmerge.lora.starts import starting_factors
from hubmerge.verify import verify_merge


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20, n_positions=20))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("starts") / "base"
    llama().save_pretrained(place)
    return place


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.arange(20)[None]).logits
    return found


def trained(base: Path, folder: Path) -> torch.Tensor:
    """The answers of the trained model: PEFT takes the start off the base before it loads the adapter."""
    from peft import PeftModel

    return logits(PeftModel.from_pretrained(loaded(base), folder))


STARTS: dict[str, dict[str, Any]] = {
    "pissa": {"init_lora_weights": "pissa"},
    "pissa of other ranks and scales": {
        "init_lora_weights": "pissa",
        "rank_pattern": {"down_proj": 3},
        "alpha_pattern": {"layers.1.self_attn.q_proj": 9},
    },
    "olora": {"init_lora_weights": "olora", "use_rslora": True},
    "DoRA on PiSSA": {"init_lora_weights": "pissa", "use_dora": True},
}


@pytest.mark.parametrize("start", STARTS)
def test_a_model_and_its_adapter_are_the_trained_model(base: Path, tmp_path: Path, start: str) -> None:
    folder = saved_adapter(base, tmp_path / "lora", 1, **STARTS[start])
    merge(recipe("passthrough", [f"{base}+{folder}"]), tmp_path / "out")
    expected = trained(base, folder)
    torch.testing.assert_close(logits(loaded(tmp_path / "out")), expected, atol=1e-4, rtol=1e-4)
    if start != "DoRA on PiSSA":
        merged = merge_adapters("task_arithmetic", [folder], out=tmp_path / "merged")  # its base is where it says
        torch.testing.assert_close(trained(base, tmp_path / "merged"), expected, atol=1e-4, rtol=1e-4)
        assert {a.shape[0] for a, _ in merged.values()} <= {6, 8}


def test_layers_that_store_their_weight_the_other_way_around(tmp_path: Path) -> None:
    gpt2().save_pretrained(tmp_path / "base")
    own = {"target_modules": ["c_attn"], "fan_in_fan_out": True, "init_lora_weights": "pissa"}
    folder = saved_adapter(tmp_path / "base", tmp_path / "lora", 1, **own)
    plain_adapter(folder, tmp_path / "plain", base=tmp_path / "base")
    expected = trained(tmp_path / "base", folder)
    torch.testing.assert_close(trained(tmp_path / "base", tmp_path / "plain"), expected, atol=1e-4, rtol=1e-4)


def test_a_start_at_random_is_taken_off_by_the_adapter_before_training(base: Path, tmp_path: Path) -> None:
    """As PEFT's guide has it: the adapter is saved before training as if its start were plain."""
    from peft import LoraConfig, get_peft_model

    own = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj"], "init_lora_weights": "pissa_niter_2"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(loaded(base), LoraConfig(**own))
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(tmp_path / "start")
        model.peft_config["default"].init_lora_weights = "pissa_niter_2"
        with torch.no_grad():
            for name, values in model.named_parameters():
                if "lora_" in name:
                    values.add_(torch.randn_like(values), alpha=0.3)
        model.save_pretrained(tmp_path / "lora")
    with pytest.raises(hubmerge.PlanError, match="the adapter was initialised by pissa_niter_2, which also moved"):
        merge_adapters("cat", [tmp_path / "lora"], base=base)
    start = {tmp_path / "lora": tmp_path / "start"}
    merge_adapters("cat", [tmp_path / "lora"], initial=start, out=tmp_path / "merged")
    torch.testing.assert_close(trained(base, tmp_path / "merged"), logits(model), atol=1e-4, rtol=1e-4)


def test_of_loftq_what_training_changed_is_left(tmp_path: Path) -> None:
    a, b = np.array([[1, 2]], "float32"), np.array([[3], [1]], "float32")
    own = {"r": 1, "lora_alpha": 1, "init_lora_weights": "loftq"}
    write_adapter(tmp_path / "start", {"q.lora_A.weight": a, "q.lora_B.weight": b}, **own)
    after = write_adapter(tmp_path / "after", {"q.lora_A.weight": a, "q.lora_B.weight": b + 1}, **own)
    plain_adapter(after, tmp_path / "plain", initial=tmp_path / "start")
    np.testing.assert_allclose(dense(merge_adapters("cat", [tmp_path / "plain"]))["q"], [[1, 2], [1, 2]])
    with pytest.raises(hubmerge.PlanError) as refused:
        merge_adapters("cat", [after], base={"q.weight": np.eye(2, dtype="float32")})
    assert str(refused.value) == (
        f"the adapter was initialised by loftq, for which its base was quantised · {after} · "
        "convert it to plain LoRA by hubmerge.lora.plain_adapter with initial, the adapter before training"
    )


def test_what_a_plain_adapter_cannot_be_made_of(base: Path, tmp_path: Path) -> None:
    def refusal(*given: Any, **rest: Any) -> str:
        with pytest.raises(hubmerge.PlanError) as refused:
            plain_adapter(*given, **rest)
        return str(refused.value)

    one = np.ones((1, 2), "float32")
    factors = {"q.lora_A.weight": one, "q.lora_B.weight": one.T}
    plain = write_adapter(tmp_path / "lora", factors, r=1)
    pissa = write_adapter(tmp_path / "pissa", factors, r=1, init_lora_weights="pissa")
    other = write_adapter(tmp_path / "other", {"k.lora_A.weight": one, "k.lora_B.weight": one.T}, r=1)
    out = tmp_path / "out"
    assert (
        refusal(plain, out, base=base)
        == f"the adapter did not move its base: it is plain already · {plain} · use it as it is"
    )
    assert refusal(pissa, out).startswith(
        "the adapter was initialised by pissa, which also moved the base it was trained on · "
    )
    assert refusal(pissa, out, base=base) == f"the base has no tensor 'q.weight' · {base} · is it the adapters' base?"
    assert (
        refusal(pissa, out, initial=other) == f"no factors of 'q', which the adapter has · {other} · is it its start?"
    )
    assert refusal(pissa, out, base={"q.weight": np.eye(2, dtype="float32")}) == (
        "singular values 1 and 2 are as good as equal, so that the base does not say what PiSSA took off · "
        f"{pissa}: q · give the adapter as it was before training"
    )
    assert refusal(pissa, base) == f"the folder holds something already · {base} · name a new folder"
    with pytest.raises(hubmerge.PlanError, match="'x' is none of the adapters"):
        merge_adapters("cat", [plain], initial={"x": plain})


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_pissas_start_is_the_leading_part_of_the_singular_value_decomposition(shape: tuple[int, int]) -> None:
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    u, values, v = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    b, a = starting_factors("pissa", weight, 2, 0.7, "w")
    np.testing.assert_allclose(b @ a, (u[:, :2] * values[:2]) @ v[:2], atol=1e-12)
    q, r = np.linalg.qr(weight.astype(np.float64))
    b, a = starting_factors("olora", weight, 2, 0.7, "w")
    np.testing.assert_allclose(b @ a, 0.7 * q[:, :2] @ r[:2], atol=1e-12)


def test_a_conversion_is_kept_and_made_anew_when_the_base_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo import write_model

    monkeypatch.setenv("HUBMERGE_CACHE", str(tmp_path / "cache"))
    factors = {"q.lora_A.weight": np.zeros((1, 2), "float32"), "q.lora_B.weight": np.zeros((2, 1), "float32")}
    write_adapter(tmp_path / "lora", factors, r=1, lora_alpha=1, init_lora_weights="pissa")
    for largest, count in ((4, 1), (4, 1), (8, 2)):
        if not (tmp_path / "base").exists() or largest == 8:
            write_model(
                tmp_path / "base",
                {"q.weight": np.diag([1, largest]).astype("float32"), "n": np.ones(largest, "float32")},
            )
        merge(recipe("passthrough", [f"{tmp_path}/base+{tmp_path}/lora"]), tmp_path / "out", overwrite=True)
        np.testing.assert_allclose(read_model(tmp_path / "out")["q.weight"], np.diag([1, 0]), atol=1e-6)
        assert verify_merge(tmp_path / "out", reload=False).passed
        assert len(list((tmp_path / "cache" / "adapters").iterdir())) == count
