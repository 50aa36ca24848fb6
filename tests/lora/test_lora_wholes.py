"""Whole tensors and biases beside low-rank factors, merged with them, by hand; and adapters of other bases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lora_models import dense
from zoo import write_adapter, write_model

import hubmerge
from hubmerge.lora import merge_adapters
from hubmerge.lora.reading import read_adapter

A, B = np.array([[1, 2]], "float32"), np.array([[1], [0]], "float32")
FACTORS = {"q.lora_A.weight": A, "q.lora_B.weight": B}
HEAD = "classifier.weight"


def adapter(folder: Path, head: list[float] | None = None, **config: Any) -> Path:
    """Rank 1 with scale 1 and, where one is given, a head of its own."""
    own = {} if head is None else {HEAD: np.array(head, "float32")}
    saved = {} if head is None else {"modules_to_save": ["classifier"]}
    return write_adapter(
        folder, {**FACTORS, **own}, **{"r": 1, "lora_alpha": 1, "base_model_name_or_path": "b", **saved, **config}
    )


def head(folders: list[Path], name: str = "task_arithmetic", **rest: Any) -> list[float]:
    merged = merge_adapters(name, folders, **rest)
    assert np.isclose(merged["q"][0].shape[1], 2)
    return merged.tensors[HEAD].tolist()


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [adapter(tmp_path / "one", [1, 5, 1]), adapter(tmp_path / "two", [3, 1, 2])]


def test_without_the_base_whole_tensors_get_their_weighted_mean(two: list[Path]) -> None:
    assert head(two) == [2, 3, 1.5]
    assert head(two, parameters={"weight": [3, 1]}) == [1.5, 4, 1.25]
    assert head(two, "cat", parameters={"weight": [3, 1]}) == [1.5, 4, 1.25]
    assert head(two, parameters={"weight": [1, -1]}) == [2, 3, 1.5]  # no sum to divide by: equal shares


def test_with_the_base_their_changes_are_merged_by_the_method(two: list[Path]) -> None:
    """Of the base (1, 1, 1) they change by (0, 4, 0) and (2, 0, 1); TIES keeps the largest third of each."""
    base = {"q.weight": np.zeros((2, 2), "float32"), HEAD: np.ones(3, "float32")}
    assert head(two, base=base, parameters={"weight": [0.5, 2]}) == [5, 3, 3]
    assert head(two, "cat", base=base, parameters={"weight": [0.5, 2]}) == [5, 3, 3]
    assert head(two, "ties", basis="knots", base=base, parameters={"density": 0.34}) == [3, 5, 1]
    assert head(two, "linear", basis="core", base=base) == [2, 3, 1.5]


def test_a_base_on_disk_is_read_by_the_ends_of_names(two: list[Path], tmp_path: Path) -> None:
    base = write_model(
        tmp_path / "base", {"model.q.weight": np.zeros((2, 2), "float32"), f"model.{HEAD}": np.ones(3, "float32")}
    )
    assert head(two, base=base) == [3, 5, 2]


def test_an_adapter_without_the_tensor(tmp_path: Path) -> None:
    folders = [adapter(tmp_path / "one", [1, 5, 1]), adapter(tmp_path / "two")]
    assert head(folders, parameters={"weight": [0.5, 0.5]}) == [1, 5, 1]
    assert head(folders, base={HEAD: np.ones(3, "float32")}, parameters={"weight": 0.5}) == [1, 3, 1]
    assert merge_adapters("task_arithmetic", folders, missing="intersect").tensors == {}
    with pytest.raises(hubmerge.PlanError) as refused:
        merge_adapters("task_arithmetic", folders, missing="error")
    assert str(refused.value) == (
        f"{folders[1]} does not change {HEAD!r}, which another adapter does · missing · "
        "missing: zero takes the base's for it, missing: intersect leaves it out"
    )


def test_biases_of_factors_are_changes_with_the_scale_of_their_factors(tmp_path: Path) -> None:
    bias = {"q.lora_B.bias": np.array([1, -1], "float32")}
    folders = [
        write_adapter(tmp_path / str(alpha), {**FACTORS, **bias}, r=1, lora_alpha=alpha, lora_bias=True)
        for alpha in (2, 6)
    ]
    merged = merge_adapters("task_arithmetic", folders, parameters={"weight": [1, 0.5]})
    assert merged.biases["q"].tolist() == [5, -5]
    np.testing.assert_allclose(dense(merged)["q"], 5 * B @ A, rtol=1e-6)
    assert merge_adapters("ties", folders, basis="core", parameters={"density": 1}).biases["q"].tolist() == [4, -4]


def refusal(folders: list[Path], **rest: Any) -> str:
    with pytest.raises(hubmerge.PlanError) as refused:
        merge_adapters("task_arithmetic", folders, **rest)
    return str(refused.value)


def test_what_does_not_go_together_is_refused_by_name(two: list[Path], tmp_path: Path) -> None:
    other = adapter(tmp_path / "other", [1, 2, 3, 4])
    assert refusal([two[0], other]) == (
        f"{HEAD!r} has another size in each ({two[0]} 3, {other} 4) · adapters · "
        "heads of other labels are no one head: merge adapters that were saved without them"
    )
    assert refusal(two, base={HEAD: np.ones(4, "float32")}) == (
        f"{HEAD!r} has the shape [3] in the adapters and [4] in base · base · "
        "is this the base they were trained on? Without base copies get their mean"
    )
    whole = write_adapter(
        tmp_path / "whole", {"k.lora_A.weight": A, "k.lora_B.weight": B, "q.weight": np.eye(2, dtype="float32")}, r=1
    )
    assert refusal([whole, two[0]]).startswith(f"'q' is trained whole in {whole} and by factors in {two[0]} · adapters")
    bad = adapter(tmp_path / "bad", [1, np.nan, 1])
    assert refusal([bad]) == f"'base_model.model.{HEAD}' has numbers that are not finite · {bad} · fetch it again"
    heads = write_adapter(tmp_path / "heads", {HEAD: np.ones(3, "float32")}, modules_to_save=["classifier"])
    assert refusal([heads]) == f"the adapter has no low-rank factors · {heads} · fetch or save it again"


def test_tables_that_factors_are_added_to_must_be_the_same(tmp_path: Path) -> None:
    def on(table: float, name: str) -> Path:
        carried = {"wte.base_layer.weight": np.full((2, 2), table, "float32")}
        return write_adapter(tmp_path / name, {"wte.lora_embedding_A": A, "wte.lora_embedding_B": B, **carried}, r=1)

    one, two, three = on(1, "one"), on(1, "two"), on(3, "three")
    assert merge_adapters("cat", [one, two]).tensors == {}
    assert refusal([one, three]) == (
        f"{one} and {three} were trained on different 'wte.weight', which they bring along · adapters · are they of one base?"
    )


def test_whoever_wants_factors_alone_is_told_what_else_there_is(two: list[Path]) -> None:
    with pytest.raises(hubmerge.PlanError, match="the adapter also replaces 1 of its base's tensors, 'classifier"):
        read_adapter(str(two[0]))


def test_adapters_of_other_bases_are_merged_where_that_is_asked_for(tmp_path: Path) -> None:
    folders = [adapter(tmp_path / name, base_model_name_or_path=name, revision=name) for name in ("one", "two")]
    told = f"the adapters were trained on different models ({folders[0]} on one, {folders[1]} on two)"
    assert refusal(folders) == (
        f"{told} · adapters · other_bases merges them all the same, or each with its own base by models named base+adapter"
    )
    with pytest.warns(UserWarning, match="different models") as warned:
        merged = merge_adapters("task_arithmetic", folders, out=tmp_path / "out", other_bases=True)
    assert [str(each.message) for each in warned] == [f"{told}; the result says that it is of the first's"]
    np.testing.assert_allclose(dense(merged)["q"], 2 * B @ A, rtol=1e-6)
    assert '"base_model_name_or_path": "one"' in (tmp_path / "out" / "adapter_config.json").read_text()
    turned = adapter(tmp_path / "turned", fan_in_fan_out=True)
    assert (
        refusal([folders[0], turned], other_bases=True)
        == "fan_in_fan_out differs between the adapters · adapters · are they of one base?"
    )


def test_a_module_that_ends_anothers_name_has_a_rank_of_its_own(tmp_path: Path) -> None:
    ones = {
        f"{module}.lora_{kind}.weight": np.ones((1, 2) if kind == "A" else (2, 1), "float32")
        for module in ("q", "x.q")
        for kind in "AB"
    }
    wide = {"x.q.lora_A.weight": np.eye(2, dtype="float32"), "x.q.lora_B.weight": np.eye(2, dtype="float32")}
    folders = [
        write_adapter(tmp_path / "one", {**ones, **wide}, r=1, rank_pattern={"x.q": 2}, base_model_name_or_path="b")
    ]
    merge_adapters("task_arithmetic", folders, out=tmp_path / "out")
    assert '"rank_pattern": {\n    "^q": 1\n  }' in (tmp_path / "out" / "adapter_config.json").read_text()
