"""Adapters out of fine-tunes: numbers worked by hand, numpy's singular values, and what PEFT makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad.models import hubmerge as command
from safetensors.numpy import load_file
from zoo import Tensors, contents, names, random_values, write_model

import hubmerge
from hubmerge import extract_adapter
from hubmerge.deltas.truncation import truncated

TOY = {"model_type": "toy"}
NOTE = "base: the config names no architecture; which matrices are linear layers is told by their names"
UP, DOWN = "layers.0.up", "layers.0.down"


def pair(place: Path, change: Tensors, base: Tensors | None = None) -> tuple[str, str]:
    """A base and what it became, of a class that is told by names."""
    zeros = {name: np.full_like(values, 5) for name, values in change.items()} if base is None else base
    tuned = {name: values + change.get(name, 0) for name, values in zeros.items()}
    return str(write_model(place / "base", zeros, config=TOY)), str(write_model(place / "tuned", tuned, config=TOY))


def product(folder: Path, module: str) -> np.ndarray:
    tensors = load_file(folder / "adapter_model.safetensors")
    a, b = (tensors[f"base_model.model.{module}.lora_{letter}.weight"].astype(float) for letter in "AB")
    config = json.loads((folder / "adapter_config.json").read_text())
    alpha = config["alpha_pattern"].get(module, config["lora_alpha"])
    return alpha / len(a) * b @ a


def test_the_leading_direction_of_a_change_by_hand(tmp_path: Path) -> None:
    """diag(3, 2) by one direction is diag(3, 0), which has 9 of 13 of its sum of squares; the norm moved by 2: 4 of 17 of all."""
    change = {f"{UP}.weight": np.diag([3, 2]), "norm.weight": np.array([0, 2])}
    base, tuned = pair(tmp_path, {name: values.astype(np.float32) for name, values in change.items()})
    found = extract_adapter(base, tuned, tmp_path / "out", rank=1)
    np.testing.assert_allclose(product(tmp_path / "out", UP), [[3, 0], [0, 0]], atol=1e-6)
    assert found.modules[0].energy == pytest.approx(9 / 13)
    assert found.shares == pytest.approx({"norm or bias": 4 / 17})
    assert found.energy == pytest.approx(9 / 17)
    assert found.ratio == pytest.approx((17 / 150) ** 0.5)
    assert found.warnings == (
        f"{tuned}: its delta has 0.337 of the norm of {base}, more than 0.1: is this the base it was trained from?",
    )
    assert json.loads((tmp_path / "out" / "hubmerge_extraction.json").read_text()) == found.to_dict()
    assert names(tmp_path / "out") == ["adapter_config.json", "adapter_model.safetensors", "hubmerge_extraction.json"]


def test_as_few_directions_as_have_the_energy(tmp_path: Path) -> None:
    """Squares of (4, 2, 1) and of (1, 1, 1): 16 of 21 is 76 %, 20 of 21 is 95 %, and 2 of 3 is 67 %."""
    change = {
        f"{UP}.weight": np.diag([4, 2, 1]),
        f"{DOWN}.weight": np.diag([1, 1, 1]),
        "layers.1.up.weight": np.diag([0, 0, 0]),
    }
    base, tuned = pair(tmp_path, {name: values.astype(np.float32) for name, values in change.items()})
    found = extract_adapter(base, tuned, tmp_path / "out", energy=0.9, alpha=6)
    assert {each.module: each.rank for each in found.modules} == {DOWN: 3, UP: 2}
    assert found.unchanged == ("layers.1.up",)
    np.testing.assert_allclose(product(tmp_path / "out", UP), np.diag([4, 2, 0]), atol=1e-6)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["lora_alpha"] == 6
    capped = extract_adapter(base, tuned, tmp_path / "capped", energy=0.9, rank=1)
    assert [each.rank for each in capped.modules] == [1, 1]


def spectrum(rows: int, columns: int, falling: float) -> torch.Tensor:
    left, right = (np.linalg.qr(random_values((size, rows), size))[0] for size in (rows, columns))
    return torch.from_numpy(((left * np.arange(1, rows + 1) ** -falling) @ right.T).astype(np.float32))


def test_the_randomised_solver_keeps_what_the_exact_one_keeps() -> None:
    matrix = spectrum(160, 200, 0.3)  # falls slowly, as a delta's does
    exact, fast = (truncated(matrix, 8, None, solver, 3) for solver in ("exact", "randomised"))
    best = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
    np.testing.assert_allclose(exact.values, best[:8], rtol=1e-6)
    assert fast.energy / exact.energy > 0.99
    assert fast.energy == pytest.approx(float((fast.values**2).sum() / (best**2).sum()))
    kept = (fast.left * fast.values) @ fast.right
    lost = float(((matrix.double().numpy() - kept) ** 2).sum() / (best**2).sum())
    assert fast.energy == pytest.approx(1 - lost), "the energy is what is kept"
    again = truncated(matrix, 8, None, "randomised", 3)
    np.testing.assert_array_equal(fast.left, again.left)


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_the_randomised_solver_looks_for_more_directions_until_it_has_the_energy(share: float) -> None:
    matrix = spectrum(96, 110, 0.5)
    exact, fast = (truncated(matrix, None, share, solver, 0) for solver in ("exact", "randomised"))
    assert fast.energy >= share
    assert abs(fast.rank - exact.rank) <= 1


def test_large_matrices_are_not_decomposed_whole() -> None:
    wide = spectrum(520, 530, 1.0)
    assert truncated(wide, 4, None, "auto", 0).solver == "randomised"
    assert truncated(wide[:64], 4, None, "auto", 0).solver == "exact"


def saved(place: Path, name: str) -> tuple[Any, Any, dict[str, Any]]:
    """A base model of random weights, its class, and an input."""
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    inputs: dict[str, Any] = {"input_ids": torch.arange(6)[None]}
    config: Any
    if name == "llama":
        config = transformers.LlamaConfig(**sizes, vocab_size=20, tie_word_embeddings=True)
        cls: Any = transformers.LlamaForCausalLM
    elif name == "bert":
        config, cls = transformers.BertConfig(**sizes, vocab_size=20), transformers.BertModel
    elif name == "gpt2":
        config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=20, bos_token_id=0, eos_token_id=1)
        cls = transformers.GPT2LMHeadModel
    else:
        config = transformers.ViTConfig(**sizes, image_size=16, patch_size=8)
        cls, inputs = transformers.ViTForImageClassification, {"pixel_values": torch.ones(1, 3, 16, 16)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = cls(config).eval()
    model.save_pretrained(place)
    return model, cls, inputs


@pytest.mark.parametrize(
    ("name", "changed", "save_rest"),
    [
        ("llama", ("proj",), False),
        ("bert", ("",), True),  # embeddings, norms and biases, too
        ("gpt2", ("c_attn", "c_fc"), True),  # stored as (in, out)
        ("vit", ("attention", "mlp", "patch"), True),  # a convolution; transformers renames the tensors
    ],
)
def test_peft_makes_the_fine_tune_of_base_and_adapter(
    tmp_path: Path, name: str, changed: tuple[str, ...], save_rest: bool
) -> None:
    from peft import PeftModel

    model, cls, inputs = saved(tmp_path / "base", name)
    with torch.no_grad():
        before = model(**inputs)[0]
        random = torch.Generator().manual_seed(1)
        for tensor, values in model.named_parameters():
            if any(part in tensor for part in changed):
                values.add_(0.05 * torch.randn(values.shape, generator=random))
        model.save_pretrained(tmp_path / "tuned")
        found = extract_adapter(
            str(tmp_path / "base"), str(tmp_path / "tuned"), tmp_path / "out", rank=99, alpha=7, save_rest=save_rest
        )
        adapted = PeftModel.from_pretrained(cls.from_pretrained(tmp_path / "base"), tmp_path / "out").eval()
        wanted, given = model(**inputs)[0], adapted(**inputs)[0]
    assert found.energy == pytest.approx(1)
    assert not found.notes
    assert float((before - wanted).abs().max()) > 1e-3
    torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-4)


def test_hubmerge_reads_its_adapter_back(tmp_path: Path) -> None:
    change = {f"{UP}.weight": random_values((6, 4), 1, 0.1), "norm.weight": random_values((4,), 2, 0.1)}
    base, tuned = pair(tmp_path, change)
    extract_adapter(base, tuned, tmp_path / "out", save_rest=True)
    both = hubmerge.kinship([f"{base}+{tmp_path / 'out'}", tuned], base)
    assert both.flat.euclid[0, 1] < 1e-5
    assert both.flat.cosine[0, 1] == pytest.approx(1)


def test_the_bytes_do_not_depend_on_threads_and_seeds_are_kept(tmp_path: Path) -> None:
    change = {f"layers.{i}.up.weight": random_values((30, 20), i) for i in range(3)}
    base, tuned = pair(tmp_path, change)
    for name, jobs, seed in (("one", 1, 0), ("three", 3, 0), ("other", 1, 1)):
        extract_adapter(base, tuned, tmp_path / name, rank=2, solver="randomised", jobs=jobs, seed=seed)
    one, three, other = (contents(tmp_path / name) for name in ("one", "three", "other"))
    assert one == three
    assert one["adapter_model.safetensors"] != other["adapter_model.safetensors"]


def test_modules_are_chosen_by_name_end_or_pattern(tmp_path: Path) -> None:
    change = {f"layers.{i}.{part}.weight": random_values((4, 4), i) for i in range(2) for part in ("up", "down")}
    base, tuned = pair(tmp_path, change)
    for number, (given, wanted) in enumerate(
        ((["up"], ["layers.0.up", "layers.1.up"]), (["layers.1.*"], ["layers.1.down", "layers.1.up"]))
    ):
        found = extract_adapter(base, tuned, tmp_path / str(number), modules=given)
        assert [each.module for each in found.modules] == wanted
        assert set(found.shares) == {"linear layer that was not chosen"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"rank": 0}, "rank must be 1 or more, got 0 · --rank · 16 is usual"),
        ({"energy": 95}, "energy must be in (0, 1], got 95 · --energy · 95 % is 0.95"),
        ({"alpha": 0}, "alpha must be above 0, got 0 · --alpha · leave it out for each module's rank; the change is the same"),
        (
            {"modules": ["q_proj"]},
            "no linear layer is called 'q_proj' · --modules · a module's name, its end, or a pattern: layers.0.up is one",
        ),
        ({"fine_tuned": "wide"}, ("'layers.0.up.weight' is [3, 3], in base [2, 2] · wide · an adapter is extracted from a fine-tune and "
                                 "the base it was trained from")),
        ({"fine_tuned": "same"}, "it has the numbers of base everywhere, so there is nothing to extract · same · name the fine-tune second"),
        ({"fine_tuned": "normed"}, ("of what may have factors nothing changed; 1 other tensors did, 'norm.weight' the first · normed · "
                                   "choose other --modules; a LoRA changes linear layers only")),
        ({"fine_tuned": "broken"}, ("tensor 'layers.0.up.weight' has a number that is not finite · broken · the model is damaged; fetch or save it "
                                   "again")),
        ({"out": "same"}, "same holds something already · same · name a new folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_extracted_is_refused_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    base = {f"{UP}.weight": np.ones((2, 2), np.float32), "norm.weight": np.ones(2, np.float32)}
    folders = {
        "base": base, "same": base, "tuned": {**base, f"{UP}.weight": np.eye(2, dtype=np.float32)},
        "wide": {**base, f"{UP}.weight": np.ones((3, 3), np.float32)}, "normed": {**base, "norm.weight": np.zeros(2, np.float32)},
        "broken": {**base, f"{UP}.weight": np.full((2, 2), np.nan, np.float32)},
    }  # fmt: skip
    for name, tensors in folders.items():
        write_model(Path(name), tensors, config=TOY)
    before = names(tmp_path)
    with pytest.raises(hubmerge.errors.HubmergeError) as refused:
        extract_adapter(**{"base": "base", "fine_tuned": "tuned", "out": "out", **arguments})
    assert str(refused.value) == text
    assert names(tmp_path) == before


def test_the_command_prints_modules_and_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change = {
        f"{UP}.weight": np.diag([3, 2]),
        "norm.weight": np.array([0, 2]),
        "embed_tokens.weight": np.array([[2, 2]]),
    }
    pair(Path(), {name: values.astype(np.float32) for name, values in change.items()})
    assert command("extract", "base", "tuned", "out", "--rank", 1, "--save-rest") == 0
    out, err = capsys.readouterr()
    assert out == (
        "module       shape  rank  energy  norm of the change\n"
        "layers.0.up  2 x 2     1  0.6923               3.606\n"
        "\n"
        "changed and without factors  tensors  saved whole  share of the change\n"
        "embedding or head                  1            0               0.3200\n"
        "norm or bias                       1            1               0.1600\n"
        "\n"
        "out: modules 1, rank 1, 0.5200 of the whole change; the change has 0.3536 of the base's norm\n"
    )
    assert err.splitlines()[0] == NOTE
    assert err.splitlines()[1].startswith("warning: tuned: its delta has 0.354 of the norm of base")
    assert command("extract", "base", "tuned", "other", "--exact", "--randomised") == 2
    assert command("extract", "base", "tuned", "other", "--format", "quiet") == 0
    assert capsys.readouterr().out == "other\n"
