"""Intruder dimensions: a direction worked by hand, numpy's singular vectors, and models side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad.models import hubmerge as command
from zoo import Tensors, random_values, write_adapter, write_model

import hubmerge
from hubmerge import intruder_dimensions
from hubmerge.deltas.directions import BaseDirections, leading

TOY = {"model_type": "toy"}
NOTE = "base: the config names no architecture; which matrices are linear layers is told by their names"
UP = "layers.0.up.weight"


def write(place: Path, **models: Tensors) -> list[str]:
    return [str(write_model(place / name, tensors, config=TOY)) for name, tensors in models.items()]


def test_a_direction_between_those_of_the_base_by_hand(tmp_path: Path) -> None:
    """diag(3, 2, 1) has the unit vectors. (1, 1, 1) e1^T has one direction, whose cosine with each is 1 / sqrt(3) = 0.577."""
    base = {UP: np.diag([3, 2, 1]).astype(np.float32)}
    model = {UP: np.outer([1, 1, 1], [1, 0, 0]).astype(np.float32)}
    names = write(tmp_path, base=base, model=model, same=base)
    found = intruder_dimensions(names[0], names[1:])
    assert found.total == (1, 0)
    assert [own.tolist() for own in found.tensors[0].cosines] == [pytest.approx([3**-0.5]), pytest.approx([1, 1, 1])]
    assert found.tensors[0].values[1].tolist() == pytest.approx([3, 2, 1])
    assert intruder_dimensions(names[0], names[1:], threshold=0.5).total == (0, 0)
    assert found.counts(threshold=0.5).tolist() == [[0, 0]]
    assert found.lowest == pytest.approx((3**-0.5, 1))


@pytest.mark.parametrize("shape", [(90, 70), (70, 90), (80, 80), (6, 5), (5, 6)])
def test_cosines_are_those_of_numpys_singular_vectors(shape: tuple[int, int]) -> None:
    base = random_values(shape, 1).astype(np.float64)
    model = base + 40 * np.outer(random_values((shape[0],), 2), random_values((shape[1],), 3)) / max(shape)
    vectors, values = leading(model, 4)
    u, s, _ = np.linalg.svd(model, full_matrices=False)
    own = np.linalg.svd(base, full_matrices=False)[0]
    np.testing.assert_allclose(values, s[:4], rtol=1e-10)
    np.testing.assert_allclose(
        BaseDirections(base).largest_cosines(vectors), np.abs(own.T @ u[:, :4]).max(0), rtol=1e-7
    )


def test_what_the_base_has_no_rank_for_is_no_direction_of_it() -> None:
    """Of diag(1, 0) the second unit vector is a vector that any solver could have given: it is none of the base's."""
    for shape in ((2, 3), (3, 2), (2, 2)):
        base = np.zeros(shape)
        base[0, 0] = 1
        assert BaseDirections(base).largest_cosines(np.eye(shape[0])[:, :2]).tolist() == pytest.approx([1, 0])
    assert BaseDirections(np.zeros((2, 3))).largest_cosines(np.eye(2)).tolist() == [0, 0]
    assert leading(np.zeros((3, 2)), 2)[1].size == 0


def test_spikes_are_found_in_their_layers_before_and_after_a_merge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One spike in each of two models, in different layers, and embeddings that are not looked at; their mean has half of each."""
    monkeypatch.chdir(tmp_path)
    names = [f"layers.{i}.{part}.weight" for i in range(2) for part in ("up", "down")]
    base = {name: random_values((12, 10), i) for i, name in enumerate(names)} | {
        "embed.weight": random_values((9, 4), 7)
    }
    spike = 30 * np.outer(random_values((12,), 8), random_values((10,), 9)).astype(np.float32)
    one, other = {**base, names[0]: base[names[0]] + spike}, {**base, names[3]: base[names[3]] + spike}
    mean = {name: (one[name] + other[name]) / 2 for name in base}
    write(Path(), base=base, one=one, other=other, mean=mean)
    assert command("intruders", "./base", "./one", "./other", "./mean", "--top", 3) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[:4] == [
        "layer     directions  one  other  mean",
        "layers.0           6    1      0     1",
        "layers.1           6    0      1     1",
        "all               12    1      1     2",
    ]
    assert lines[5].startswith("lowest cosine: one 0.")
    assert err == f"./{NOTE}\n"
    assert command("intruders", "./base", "./one", "--top", 3, "--per-tensor", "--modules", "down") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:4]] == [
        ["layers.0.down.weight", "3", "0"], ["layers.1.down.weight", "3", "0"], ["all", "6", "0"],
    ]  # fmt: skip
    assert command("intruders", "./base", "./one", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["layers"] == [{"layer": "layers.0", "counts": [1]}, {"layer": "layers.1", "counts": [0]}]
    assert command("intruders", "./base", "./one", "./mean", "--format", "quiet") == 0
    assert capsys.readouterr().out == "1\n2\n"
    frame = intruder_dimensions("./base", ["./one"], jobs=2).to_pandas("tensor")
    assert frame["./one"].tolist() == [0, 1, 0, 0]


def test_an_adapter_alone_is_put_on_the_base(tmp_path: Path) -> None:
    base = {UP: np.diag([3, 2, 1]).astype(np.float32)}
    (origin,) = write(tmp_path, base=base)
    factors = {"lora_A.weight": 50 * np.eye(1, 3, dtype=np.float32), "lora_B.weight": np.ones((3, 1), np.float32)}
    adapter = write_adapter(
        tmp_path / "lora", {f"layers.0.up.{name}": values for name, values in factors.items()}, r=1, lora_alpha=1
    )
    assert intruder_dimensions(origin, [adapter]).total == (1,)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"models": "tuned"}, "models must be a list · models · write ['tuned']"),
        ({"models": []}, "one model or more is compared with its base · models · name at least one"),
        ({"top": 0}, "top must be 1 or more, got 0 · --top · 10 is the default"),
        ({"threshold": 60}, "threshold must be in (0, 1], got 60 · --threshold · 0.6 is the default"),
        (
            {"modules": ["q"]},
            "no linear layer is called 'q' · --modules · a module's name, its end, or a pattern: layers.0.up is one",
        ),
        (
            {"models": ["wide"]},
            "'layers.0.up.weight' is [3, 3], in base [2, 2] · wide · name the base it was trained from",
        ),
        (
            {"models": ["broken"]},
            "tensor 'layers.0.up.weight' has a number that is not finite · broken · the model is damaged; fetch or save it again",
        ),
    ],
)
def test_what_cannot_be_looked_at_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shapes = {"base": (2, 2), "model": (2, 2), "wide": (3, 3), "broken": (2, 2)}
    tensors = {
        name: {UP: np.full(shape, np.nan if name == "broken" else 1, np.float32)} for name, shape in shapes.items()
    }
    write(Path(), **{**tensors, "model": {UP: np.eye(2, dtype=np.float32)}})
    with pytest.raises(hubmerge.errors.HubmergeError) as refused:
        intruder_dimensions(**{"base": "base", "models": ["model"], **arguments})
    assert str(refused.value) == text
