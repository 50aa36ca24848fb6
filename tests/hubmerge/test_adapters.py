"""A LoRA adapter as a parent: scale times B A on top of its base, worked by hand, and every kind that is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import bfloat16, numbers, random_values, read_model, recipe, write_adapter, write_model

from hubmerge import MergeError, PlanError, build_plan, merge
from hubmerge.io.input_files import InputFiles
from hubmerge.io.reader import StepReader
from hubmerge.io.workspace import Workspace
from hubmerge.parents import open_parent
from hubmerge.plan_types import Operand, PlannedParent, RowMap, Step
from zoo_index.reference import ModelRef

BASE = {"model.q.weight": np.eye(3, 2, dtype="float32"), "norm.weight": np.ones(2, "float32")}
A = np.array([[1, 2]], "float32")  # rank 1, in 2
B = np.array([[1], [0], [-1]], "float32")  # out 3, rank 1
FACTORS = {"model.q.lora_A.weight": A, "model.q.lora_B.weight": B}
PRODUCT = np.array([[1, 2], [0, 0], [-1, -2]])
DENSE = "merge it into its base with PEFT first (merge_and_unload) and name the result"


def with_adapter(
    place: Path, adapter: dict[str, np.ndarray], base: dict[str, np.ndarray] | None = None, **config: Any
) -> dict[str, np.ndarray]:
    """The base with the adapter applied, merged by passthrough."""
    write_model(place / "base", base or BASE)
    write_adapter(place / "lora", adapter, **{"r": 1, "lora_alpha": 1, **config})
    merge(recipe("passthrough", [f"{place}/base+{place}/lora"]), place / "out")
    return read_model(place / "out")


def refused(place: Path, adapter: dict[str, np.ndarray], **config: Any) -> PlanError:
    write_model(place / "base", BASE)
    write_adapter(place / "lora", adapter, **{"r": 1, "lora_alpha": 1, **config})
    with pytest.raises(PlanError) as fault:
        build_plan(recipe("passthrough", [f"{place}/base+{place}/lora"]))
    assert fault.value.faults[0].where == f"{place}/base+{place}/lora"
    return fault.value.faults[0]  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 1.0),
        ({"lora_alpha": 4}, 4.0),
        ({"lora_alpha": 4, "alpha_pattern": {"q": 6}}, 6.0),
        ({"lora_alpha": 4, "alpha_pattern": {"k": 6}}, 4.0),
        ({"lora_alpha": 4, "alpha_pattern": {"model.q": 6, "q": 8}}, 6.0),
        ({"lora_alpha": 4, "alpha_pattern": {"^model.q": 6}}, 6.0),
    ],
)
def test_the_product_of_the_factors_is_added_times_the_scale(
    tmp_path: Path, config: dict[str, Any], scale: float
) -> None:
    merged = with_adapter(tmp_path, FACTORS, **config)
    assert np.array_equal(merged["model.q.weight"], np.eye(3, 2) + scale * PRODUCT)
    assert np.array_equal(merged["norm.weight"], BASE["norm.weight"])


@pytest.mark.parametrize(("rslora", "scale"), [(False, 6 / 4), (True, 6 / 2)])
def test_alpha_is_divided_by_the_rank_or_by_its_root(tmp_path: Path, rslora: bool, scale: float) -> None:
    factors = {"model.q.lora_A.weight": np.repeat(A, 4, axis=0), "model.q.lora_B.weight": np.repeat(B, 4, axis=1)}
    merged = with_adapter(tmp_path, factors, r=4, lora_alpha=6, use_rslora=rslora)
    assert np.array_equal(merged["model.q.weight"], np.eye(3, 2) + scale * 4 * PRODUCT)


def test_the_rank_is_that_of_the_factors_whatever_the_config_says(tmp_path: Path) -> None:
    factors = {"model.q.lora_A.weight": np.repeat(A, 2, axis=0), "model.q.lora_B.weight": np.repeat(B, 2, axis=1)}
    merged = with_adapter(tmp_path, factors, r=16, lora_alpha=6, rank_pattern={"q": 2})
    assert np.array_equal(merged["model.q.weight"], np.eye(3, 2) + 3 * 2 * PRODUCT)


def test_a_rank_that_the_config_does_not_say_is_noted(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", {"model.q.weight": np.eye(3, 2, dtype="float32")})
    lora = write_adapter(tmp_path / "lora", FACTORS, r=16)
    entry = {"model": f"{base}+{lora}"}
    (note,) = build_plan({"merge_method": "passthrough", "models": [entry]}).notes
    assert note == (
        f"{lora}: the factors of 'model.q' have rank 1, and its config says 16, so that PEFT does not load it; lora_alpha is taken "
        "to be over 1"
    )
    write_adapter(lora, FACTORS, r=16, rank_pattern={"model.q": 1})
    assert not build_plan({"merge_method": "passthrough", "models": [entry]}).notes


def test_layers_that_store_their_weight_the_other_way_around_get_the_transposed_product(tmp_path: Path) -> None:
    base = {"model.q.weight": np.zeros((2, 3), "float32")}
    merged = with_adapter(tmp_path, FACTORS, base, fan_in_fan_out=True)
    assert np.array_equal(merged["model.q.weight"], PRODUCT.T)


def test_an_embedding_gets_the_transposed_product(tmp_path: Path) -> None:
    base = {"wte.weight": np.zeros((2, 3), "float32")}
    merged = with_adapter(tmp_path, {"wte.lora_embedding_A": A, "wte.lora_embedding_B": B}, base)
    assert np.array_equal(merged["wte.weight"], PRODUCT.T)


def test_a_convolution_gets_the_product_over_its_window(tmp_path: Path) -> None:
    base = {"conv.weight": np.zeros((3, 2, 2, 2), "float32")}
    a, b = random_values((2, 2, 2, 2), 1), random_values((3, 2, 1, 1), 2)
    merged = with_adapter(tmp_path, {"conv.lora_A.weight": a, "conv.lora_B.weight": b}, base, r=2, lora_alpha=2)
    np.testing.assert_allclose(merged["conv.weight"], np.einsum("or,rihw->oihw", b[:, :, 0, 0], a), rtol=1e-5)


@pytest.mark.parametrize("name", ["norm.weight", "norm.modules_to_save.weight", "norm.modules_to_save.default.weight"])
def test_a_module_saved_as_a_whole_replaces_the_bases(tmp_path: Path, name: str) -> None:
    merged = with_adapter(tmp_path, {name: np.array([7, 8], "float32")})
    assert merged["norm.weight"].tolist() == [7, 8]
    assert np.array_equal(merged["model.q.weight"], BASE["model.q.weight"])


def test_a_bias_trained_beside_the_factors_replaces_the_bases(tmp_path: Path) -> None:
    base = {**BASE, "model.q.bias": np.zeros(3, "float32")}
    merged = with_adapter(tmp_path, {**FACTORS, "model.q.base_layer.bias": np.ones(3, "float32")}, base)
    assert merged["model.q.bias"].tolist() == [1, 1, 1]


def test_dora_gives_every_row_the_length_it_learned(tmp_path: Path) -> None:
    # base + product: (2, 2), (0, 1), (-1, -2), of lengths sqrt 8, 1 and sqrt 5
    factors = {**FACTORS, "model.q.lora_magnitude_vector": np.array([8**0.5 / 2, 3, 5**0.5], "float32")}
    merged = with_adapter(tmp_path, factors, use_dora=True)
    np.testing.assert_allclose(merged["model.q.weight"], [[1, 1], [0, 3], [-1, -2]], rtol=1e-6)
    assert np.array_equal(merged["norm.weight"], BASE["norm.weight"])


def test_dora_gives_every_column_its_length_where_weights_are_stored_the_other_way_around(tmp_path: Path) -> None:
    base = {"model.q.weight": np.array([[3, 0, 0], [0, 4, 0]], "float32")}
    # plus the product's transpose: (4, 2), (0, 4), (-1, -2)
    factors = {**FACTORS, "model.q.lora_magnitude_vector": np.array([20**0.5, 1, 2 * 5**0.5], "float32")}
    merged = with_adapter(tmp_path, factors, base, fan_in_fan_out=True, use_dora=True)
    np.testing.assert_allclose(merged["model.q.weight"].T, [[4, 2], [0, 1], [-2, -4]], rtol=1e-6)


def test_dora_is_the_same_however_a_tensor_is_cut(tmp_path: Path) -> None:
    """A row of 300,000 entries is longer than a chunk: every entry of base and product is 1 + 1, so a row is as long as 2 sqrt(300,000)."""
    base = {"model.q.weight": np.ones((3, 300_000), "float32")}
    ones = {
        "model.q.lora_A.weight": np.ones((1, 300_000), "float32"),
        "model.q.lora_B.weight": np.ones((3, 1), "float32"),
    }
    lengths = np.array([1, 2, 5], "float32") * 300_000**0.5
    merged = with_adapter(tmp_path, {**ones, "model.q.lora_magnitude_vector": lengths}, base, use_dora=True)
    np.testing.assert_allclose(merged["model.q.weight"], np.repeat([[1.0], [2.0], [5.0]], 300_000, axis=1), rtol=1e-6)


@pytest.mark.parametrize("embedding", [True, False])
def test_dora_on_rows_in_the_order_of_another_vocabulary(tmp_path: Path, embedding: bool) -> None:
    """The same numbers, in another order, and zeros for the row that the model lacks: lengths are those of its own rows or columns."""
    kinds = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A.weight", "lora_B.weight")
    sizes = ((2, 5), (3, 2)) if embedding else ((2, 3), (5, 2))
    factors = {
        f"head.{kind}": random_values(size, seed) for seed, (kind, size) in enumerate(zip(kinds, sizes, strict=True))
    }
    lengths = {"head.lora_magnitude_vector": np.arange(1, 4 if embedding else 6, dtype="float32")}
    write_model(tmp_path / "base", {"head.weight": random_values((5, 3), 7)})
    write_adapter(tmp_path / "lora", {**factors, **lengths}, use_dora=True)
    model = open_parent(ModelRef.parse(f"{tmp_path}/base+{tmp_path}/lora"))
    assert model.effect is not None
    meta = model.table["head.weight"]
    own = Operand(0, meta, model.effect.low_rank["head.weight"])
    order = np.array([4, 0, -1, 2])

    def read(operand: Operand, rows: int) -> np.ndarray:
        planned = PlannedParent(model.reference, "parent", None, None, model.headers, {})
        step = Step(replace(meta, shape=(rows, 3)), "merge", (operand,), None, {})
        with InputFiles([planned]) as files:
            return StepReader(step, files, Workspace()).read(0, 3 * rows)[0].view("<f4").reshape(rows, 3).copy()

    stored, mapped = read(own, 5), read(replace(own, rows=RowMap(order)), 4)
    np.testing.assert_allclose(
        np.linalg.norm(stored, axis=0 if embedding else 1), next(iter(lengths.values())), rtol=1e-5
    )
    np.testing.assert_allclose(mapped, np.where(order[:, None] < 0, 0, stored[order]), rtol=1e-6)


@pytest.mark.parametrize(
    ("magnitude", "what"),
    [
        ({}, "the adapter is DoRA's and has no lora_magnitude_vector of 'model.q'"),
        (
            {"model.q.lora_magnitude_vector": np.ones(2, "float32")},
            "the adapter's 'base_model.model.model.q.lora_magnitude_vector' has shape [2], 'model.q' 3 outputs",
        ),
    ],
)
def test_dora_without_the_lengths_of_all_outputs_is_refused(
    tmp_path: Path, magnitude: dict[str, np.ndarray], what: str
) -> None:
    assert refused(tmp_path, {**FACTORS, **magnitude}, use_dora=True).message == what


def test_a_bias_of_the_factors_is_scaled_as_they_are_and_added(tmp_path: Path) -> None:
    base = {**BASE, "model.q.bias": np.array([1, 2, 3], "float32")}
    bias = {"model.q.lora_B.bias": np.array([10, 0, -10], "float32")}
    merged = with_adapter(tmp_path, {**FACTORS, **bias}, base, lora_bias=True, lora_alpha=3)
    assert merged["model.q.bias"].tolist() == [31, 2, -27]


def test_a_bias_of_the_factors_without_one_in_the_base_is_refused(tmp_path: Path) -> None:
    fault = refused(tmp_path, {**FACTORS, "model.q.lora_B.bias": np.ones(3, "float32")}, lora_bias=True)
    assert fault.message == "the adapter changes 'model.q.bias', for which the base has no tensor"


def test_factors_are_added_to_the_embedding_that_the_adapter_brings_along(tmp_path: Path) -> None:
    base = {"wte.weight": np.zeros((2, 3), "float32")}
    factors = {"wte.lora_embedding_A": A, "wte.lora_embedding_B": B}
    merged = with_adapter(tmp_path, {**factors, "wte.base_layer.weight": np.full((2, 3), 5, "float32")}, base)
    assert np.array_equal(merged["wte.weight"], 5 + PRODUCT.T)


def test_a_module_that_is_both_saved_as_a_whole_and_added_to_is_refused(tmp_path: Path) -> None:
    fault = refused(tmp_path, {**FACTORS, "model.q.weight": np.ones((3, 2), "float32")})
    assert (fault.message, fault.hint) == (
        "the adapter both replaces 'model.q.weight' and adds to it",
        "save the adapter again",
    )


def test_an_adapter_trained_on_another_class_finds_its_tensors_by_the_end_of_their_names(tmp_path: Path) -> None:
    longer = {f"bert.{name}": values for name, values in FACTORS.items()}
    assert np.array_equal(with_adapter(tmp_path / "longer", longer)["model.q.weight"], np.eye(3, 2) + PRODUCT)
    base = {f"bert.{name}": values for name, values in BASE.items()}
    merged = with_adapter(tmp_path / "shorter", FACTORS, base)
    assert np.array_equal(merged["bert.model.q.weight"], np.eye(3, 2) + PRODUCT)


def test_base_and_factors_of_other_types_are_added_in_float32(tmp_path: Path) -> None:
    factors = {name: bfloat16(values) for name, values in FACTORS.items()}
    base = {"model.q.weight": bfloat16(np.full((3, 2), 1.0)), "norm.weight": bfloat16(np.ones(2))}
    merged = with_adapter(tmp_path, factors, base, lora_alpha=1 / 64)
    # 1 + 1/64 and 1 - 1/64 need 7 bits, 1 - 2/64 and 1 + 2/64 fewer: all are bfloat16 numbers
    assert np.array_equal(numbers(merged["model.q.weight"]), 1 + PRODUCT / 64)


def test_an_adapter_is_a_parent_like_any_other(tmp_path: Path) -> None:
    write_model(tmp_path / "base", BASE)
    write_model(tmp_path / "other", {**BASE, "model.q.weight": np.full((3, 2), 4, "float32")})
    write_adapter(tmp_path / "lora", FACTORS, r=1, lora_alpha=1)
    asked = recipe(
        "task_arithmetic",
        [f"{tmp_path}/base+{tmp_path}/lora", tmp_path / "other"],
        base=tmp_path / "base",
        own=[{"weight": 2}, {"weight": 0.5}],
    )
    merge(asked, tmp_path / "out")
    expected = np.eye(3, 2) + 2 * PRODUCT + 0.5 * (4 - np.eye(3, 2))
    assert np.array_equal(read_model(tmp_path / "out")["model.q.weight"], expected)


def test_a_head_tied_to_an_embedding_that_an_adapter_replaces_is_the_replaced_one(tmp_path: Path) -> None:
    tied = {"model_type": "llama", "tie_word_embeddings": True}
    embedding = {"embed_tokens.weight": np.zeros((4, 2), "float32")}
    write_model(tmp_path / "tied", embedding, config=tied)
    write_model(tmp_path / "untied", {**embedding, "lm_head.weight": np.ones((4, 2), "float32")})
    write_adapter(tmp_path / "lora", {"embed_tokens.weight": np.full((4, 2), 3, "float32")})
    models = [tmp_path / "untied", f"{tmp_path}/tied+{tmp_path}/lora"]
    merge(recipe("linear", models), tmp_path / "out")
    assert (read_model(tmp_path / "out")["lm_head.weight"] == 2).all()


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"peft_type": "IA3"}, "adapter type IA3 is not a low-rank term to add"),
        ({"peft_type": "ADALORA"}, "adapter type ADALORA is not a low-rank term to add"),
        ({"target_parameters": ["q"]}, "the adapter targets single parameters (target_parameters)"),
        (
            {"alora_invocation_tokens": [1, 2]},
            "the adapter is at work only after certain tokens (alora_invocation_tokens)",
        ),
        (
            {"layer_replication": [[0, 2], [1, 2]]},
            "the adapter was trained on a base with repeated layers (layer_replication)",
        ),
        ({"use_bdlora": {"nblocks": 2}}, "the adapter has factors in blocks (use_bdlora)"),
        (
            {"kasa_config": {"beta": 1.0}},
            "the adapter was trained on a base without its smallest singular values (kasa_config)",
        ),
        ({"use_qalora": True}, "the adapter was trained on the groups of a quantised base (use_qalora)"),
        ({"arrow_config": {"top_k": 3}}, "the adapter chooses between other adapters for every token (arrow_config)"),
    ],
)
def test_an_adapter_that_is_no_low_rank_term_is_refused(tmp_path: Path, config: dict[str, Any], what: str) -> None:
    fault = refused(tmp_path, FACTORS, **config)
    assert (fault.message, fault.hint) == (what, DENSE)


@pytest.mark.parametrize(
    ("start", "peft"),
    [
        ("pissa_niter_16", True),
        ("corda", True),
        ("lora_ga", True),
        ("loftq", False),
    ],
)
def test_an_adapter_whose_start_cannot_be_taken_off_its_base_is_refused(tmp_path: Path, start: str, peft: bool) -> None:
    fault = refused(tmp_path, FACTORS, init_lora_weights=start)
    moved = "for which its base was quantised" if start == "loftq" else "which also moved the base it was trained on"
    assert fault.message == f"the adapter was initialised by {start}, {moved}"
    assert fault.hint == (
        "convert it to plain LoRA by hubmerge.lora.plain_adapter with initial, the adapter before training"
        + (", or by PEFT (save_pretrained with path_initial_model_for_weight_conversion)" if peft else "")
    )


def test_a_start_by_pissa_is_found_again_in_the_base_and_taken_off(tmp_path: Path) -> None:
    """PiSSA of rank 1 took 4 e2 e2' off diag(1, 4): what was trained is on top of diag(1, 0)."""
    base = {"model.q.weight": np.diag([1, 4]).astype("float32")}
    factors = {"model.q.lora_A.weight": A, "model.q.lora_B.weight": np.array([[1], [0]], "float32")}
    merged = with_adapter(tmp_path, factors, base, init_lora_weights="pissa", lora_alpha=3)
    np.testing.assert_allclose(merged["model.q.weight"], [[1 + 3, 6], [0, 0]], atol=1e-6)
    plan = build_plan(recipe("passthrough", [f"{tmp_path}/base+{tmp_path}/lora"]))
    assert plan.notes == (
        f"{tmp_path}/lora: its start also moved the base it was trained on; it was found again in the base and taken off",
    )


def test_a_start_by_olora_is_found_again_in_the_base_and_taken_off(tmp_path: Path) -> None:
    """Q R of [[0, 5], [2, 1]]: q1 = e2, r1 = (2, 1). Rank 1 and scale .5 took half of e2 (2, 1)' off: (0, 5), (1, .5) is left."""
    base = {"model.q.weight": np.array([[0, 5], [2, 1]], "float32")}
    factors = {"model.q.lora_A.weight": A, "model.q.lora_B.weight": np.array([[0], [4]], "float32")}
    merged = with_adapter(tmp_path, factors, base, init_lora_weights="olora", lora_alpha=0.5)
    np.testing.assert_allclose(merged["model.q.weight"], [[0, 5], [1 + 2, 0.5 + 4]], atol=1e-6)


@pytest.mark.parametrize("start", [True, False, "gaussian", "eva", "orthogonal", "mica"])
def test_other_starts_change_nothing(tmp_path: Path, start: object) -> None:
    merged = with_adapter(tmp_path, FACTORS, init_lora_weights=start)
    assert np.array_equal(merged["model.q.weight"], np.eye(3, 2) + PRODUCT)


@pytest.mark.parametrize("kept", ["A", "B"])
def test_a_factor_without_its_partner_is_refused(tmp_path: Path, kept: str) -> None:
    name = f"model.q.lora_{kept}.weight"
    fault = refused(tmp_path, {name: FACTORS[name]})
    assert fault.message == f"the adapter has lora_{kept} of 'model.q' without its partner"
    assert fault.hint == "the adapter is incomplete; fetch or save it again"


@pytest.mark.parametrize(
    ("kind", "rest"), [("lora_magnitude_vector", ""), ("lora_diag", ".default"), ("lora_B", ".bias")]
)
def test_a_tensor_that_is_no_factor_is_refused(tmp_path: Path, kind: str, rest: str) -> None:
    fault = refused(tmp_path, {**FACTORS, f"model.q.{kind}{rest}": np.ones(3, "float32")})
    assert fault.message == (f"the adapter's 'base_model.model.model.q.{kind}{rest}' ({kind}) is not a low-rank factor")
    assert fault.hint == "merge it into its base with PEFT first (merge_and_unload)"


@pytest.mark.parametrize(
    ("a", "b"),
    [((1, 5), (3, 1)), ((1, 2), (4, 1)), ((2, 2), (3, 1)), ((1, 3), (2, 1)), ((1, 2, 1, 1), (3, 1, 2, 2))],
)
def test_factors_that_do_not_fit_the_base_are_refused(tmp_path: Path, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    factors = {"model.q.lora_A.weight": np.ones(a, "float32"), "model.q.lora_B.weight": np.ones(b, "float32")}
    fault = refused(tmp_path, factors)
    assert fault.message == (
        f"the adapter's factors {list(a)} and {list(b)} do not fit 'model.q.weight' of shape [3, 2]"
    )
    assert fault.hint == "is this the base it was trained on?"


def test_a_module_that_the_base_does_not_have_is_refused(tmp_path: Path) -> None:
    fault = refused(tmp_path, {name.replace("q", "gate"): values for name, values in FACTORS.items()})
    assert fault.message == "the adapter changes 'model.gate.weight', for which the base has no tensor"
    assert fault.hint == "is this the base it was trained on?"


def test_a_saved_module_of_another_shape_is_refused(tmp_path: Path) -> None:
    fault = refused(tmp_path, {"norm.weight": np.ones(5, "float32")})
    assert fault.message == ("the adapter's 'base_model.model.norm.weight' has shape [5], the base's 'norm.weight' [2]")
    assert fault.hint == "an adapter with resized embeddings needs a base with the same vocabulary"


def test_an_adapter_without_tensors_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, {}).message == "the adapter changes nothing: it has no tensors"


def test_a_folder_that_is_no_adapter_is_refused_after_the_plus(tmp_path: Path) -> None:
    for name in ("base", "lora"):
        write_model(tmp_path / name, BASE)
    with pytest.raises(PlanError) as fault:
        build_plan(recipe("passthrough", [f"{tmp_path}/base+{tmp_path}/lora"]))
    assert str(fault.value) == (
        f"no adapter_config.json, so this is not an adapter · {tmp_path}/lora · after the + comes a PEFT adapter"
    )


def test_a_nan_in_a_factor_is_refused_by_name_and_nothing_is_left(tmp_path: Path) -> None:
    write_model(tmp_path / "base", BASE)
    write_adapter(tmp_path / "lora", {**FACTORS, "model.q.lora_B.weight": B * np.nan}, r=1, lora_alpha=1)
    with pytest.raises(MergeError) as fault:
        merge(recipe("passthrough", [f"{tmp_path}/base+{tmp_path}/lora"]), tmp_path / "out")
    assert str(fault.value) == (
        "adapter tensor 'base_model.model.model.q.lora_B.weight' holds a number that is not finite · "
        f"{tmp_path}/lora/adapter_model.safetensors · the adapter is damaged; nothing was left behind"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "lora"]


def test_an_adapter_that_overflows_its_base_is_named(tmp_path: Path) -> None:
    factors = {"model.q.lora_A.weight": A * 1e38, "model.q.lora_B.weight": B}
    with pytest.raises(MergeError, match=r"tensor 'model.q.weight' of .*/base\+.*/lora is not finite: entry 0 is inf"):
        with_adapter(tmp_path, factors, lora_alpha=1e10)


def test_no_tensor_of_the_base_is_read_whole_for_its_adapter(tmp_path: Path) -> None:
    # the plan's memory counts the factors and one chunk, not the 4 MB tensor
    base = {"q.weight": np.zeros((1024, 1024), "float32")}
    write_model(tmp_path / "base", base)
    factors = {"q.lora_A.weight": np.ones((1, 1024), "float32"), "q.lora_B.weight": np.ones((1024, 1), "float32")}
    write_adapter(tmp_path / "lora", factors, r=1)
    plan = build_plan(recipe("passthrough", [f"{tmp_path}/base+{tmp_path}/lora"], dtype="float32"), jobs=1)
    assert plan.peak_memory < 8_000_000
    assert math.isclose(plan.bytes_read, 4 * 1024**2 + 2 * 4096)
