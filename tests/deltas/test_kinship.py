"""Kinship: numbers worked by hand, numpy's, and what the factors of adapters give."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad.models import hubmerge as command
from zoo import Tensors, bfloat16, numbers, random_values, write_adapter, write_model

import hubmerge
from hubmerge import PlanError, kinship
from hubmerge.errors import NumbersError

SHAPES = {"model.embed_tokens.weight": (6, 4), "model.layers.0.up.weight": (5, 4), "model.layers.1.up.weight": (5, 4)}


def models(place: Path, *deltas: Tensors, base: Tensors) -> list[str]:
    """A base, and models that differ from it by `deltas`."""
    rows = [base, *({name: base[name] + delta[name] for name in base} for delta in deltas)]
    return [str(write_model(place / name, row)) for name, row in zip(("base", "a", "b", "c"), rows, strict=False)]


def test_two_deltas_by_hand(tmp_path: Path) -> None:
    """Deltas (1, 0, 1, 0) and (1, 1, 0, 0) in one tensor, 2 and -1 in the other.

    As vectors of five entries: inner product 1 - 2, squares 6 and 3, sums 4 and 1.  In the first tensor the cosine is 1/2 and the
    correlation 0; in the second the cosine is -1 and there is no correlation.
    """
    base = {"v": np.ones(4, np.float32), "w": np.ones(1, np.float32)}
    first = {"v": np.array([1, 0, 1, 0], np.float32), "w": np.array([2], np.float32)}
    second = {"v": np.array([1, 1, 0, 0], np.float32), "w": np.array([-1], np.float32)}
    origin, *both = models(tmp_path, first, second, base=base)
    (pair,) = kinship(both, origin).pairs()
    assert pair.numbers == pytest.approx(
        {
            "cosine": -1 / 18**0.5, "absolute": 1 / 18**0.5, "pearson": -1.8 / 2.8, "euclid": 11**0.5,
            "split_cosine": (4 * 0.5 - 1) / 5, "split_absolute": (4 * 0.5 + 1) / 5, "split_pearson": 0.0,
            "split_euclid": (4 * 2**0.5 + 3) / 5,
        },
        abs=1e-12,
    )  # fmt: skip


def test_three_models_have_numpys_numbers_whole_and_layer_by_layer(tmp_path: Path) -> None:
    tensors = [{n: bfloat16(random_values(s, seed)) for n, s in SHAPES.items()} for seed in range(4)]
    folders = [str(write_model(tmp_path / f"m{i}", own)) for i, own in enumerate(tensors)]
    found = kinship(folders[1:], folders[0])
    deltas = [{n: numbers(own[n]) - numbers(tensors[0][n]) for n in SHAPES} for own in tensors[1:]]
    whole = [np.concatenate([delta[n].ravel() for n in SHAPES]).astype(np.float64) for delta in deltas]
    np.testing.assert_allclose(found.flat.pearson, np.corrcoef(whole), rtol=1e-10)
    assert found.norms.tolist() == pytest.approx([float(np.linalg.norm(delta)) for delta in whole])
    base = np.linalg.norm(np.concatenate([numbers(tensors[0][n]).ravel() for n in SHAPES]).astype(np.float64))
    assert found.ratios.tolist() == pytest.approx((found.norms / base).tolist())
    layer = [delta["model.layers.1.up.weight"].ravel().astype(np.float64) for delta in deltas]
    for i, j in combinations(range(3), 2):
        assert found.flat.euclid[i, j] == pytest.approx(np.linalg.norm(whole[i] - whole[j]))
        cosine = layer[i] @ layer[j] / np.linalg.norm(layer[i]) / np.linalg.norm(layer[j])
        assert found.layers["model.layers.1"].cosine[i, j] == pytest.approx(cosine)
        means = [np.corrcoef(deltas[i][n].ravel(), deltas[j][n].ravel())[0, 1] for n in SHAPES]
        assert found.split.pearson[i, j] == pytest.approx(np.average(means, weights=[24, 20, 20]))
    assert list(found.layers) == ["model.layers.0", "model.layers.1", "outside the layers"]
    assert found.mean["pearson"] == pytest.approx(np.corrcoef(whole)[np.triu_indices(3, 1)].mean())


def test_state_dicts_and_folders_have_the_same_kinship_whatever_the_threads(tmp_path: Path) -> None:
    tensors = [{n: random_values(s, seed) for n, s in SHAPES.items()} for seed in range(3)]
    folders = [str(write_model(tmp_path / f"m{i}", own)) for i, own in enumerate(tensors)]
    own = kinship(tensors[1:], tensors[0], jobs=1)
    assert own.pairs().rows()[0][2:] == kinship(folders[1:], folders[0], jobs=3).pairs().rows()[0][2:]
    assert own.models == ("models[0]", "models[1]")


def factors(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: (random_values((2, 4), seed), random_values((5, 2), seed + 9)) for name in ("up", "down")}


def test_adapters_are_compared_by_their_products_whatever_their_factors() -> None:
    """A and B of one product are not its own: (B R)(R^-1 A) is the same change, and gets the same numbers."""
    one, other = factors(0), factors(1)
    mixing = np.array([[1.0, 2.0], [0.5, -1.0]])
    turned = {name: (np.linalg.inv(mixing) @ a, b @ mixing) for name, (a, b) in other.items()}
    dense = [np.concatenate([(b.astype(float) @ a).ravel() for a, b in each.values()]) for each in (one, other)]
    for second in (other, turned):
        found = kinship([one, second])
        assert found.flat.pearson[0, 1] == pytest.approx(np.corrcoef(dense)[0, 1], rel=1e-5)
        assert found.flat.euclid[0, 1] == pytest.approx(np.linalg.norm(dense[0] - dense[1]), rel=1e-5)
    assert np.isnan(found.ratios).all()


def adapted(place: Path) -> list[str]:
    """A base of two layers and two adapters of it, of which the second has one module more."""
    base = str(write_model(place / "base", {n: random_values(s, 5) for n, s in SHAPES.items()}))
    for name, seed, layers in (("a", 1, 1), ("b", 2, 2)):
        tensors = {}
        for layer in range(layers):
            module = f"model.layers.{layer}.up"
            tensors[f"{module}.lora_A.weight"] = random_values((2, 4), seed + layer, 0.1)
            tensors[f"{module}.lora_B.weight"] = random_values((5, 2), seed - layer, 0.1)
        write_adapter(place / name, tensors)
    return [base, str(place / "a"), str(place / "b")]


def test_adapters_alone_have_the_numbers_that_they_have_on_their_base(tmp_path: Path) -> None:
    base, a, b = adapted(tmp_path)
    alone = kinship([a, b], base)
    assert [tensor.name for tensor in alone.tensors] == ["model.layers.0.up", "model.layers.1.up"]
    other = str(write_model(tmp_path / "copy", {n: random_values(s, 5) for n, s in SHAPES.items()}))
    streamed = kinship([f"{other}+{a}", b], base)
    assert streamed.flat.cosine[0, 1] == pytest.approx(alone.flat.cosine[0, 1], rel=1e-5)
    assert streamed.norms.tolist() == pytest.approx(alone.norms.tolist(), rel=1e-5)
    assert kinship([f"{base}+{a}", b], base).tensors[0].gram.tolist() == alone.tensors[0].gram.tolist()
    squares = float((random_values((5, 4), 5).astype(float) ** 2).sum())  # both layers are drawn alike
    assert alone.ratios.tolist() == pytest.approx((alone.norms / (2 * squares) ** 0.5).tolist())


def test_adapters_that_state_other_bases_are_changes_of_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    adapted(Path())
    for name in "ab":
        config = json.loads(Path(name, "adapter_config.json").read_text())
        Path(name, "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": f"org/{name}"}))
    told = "the adapters were trained on different models (./a on org/a, ./b on org/b)"
    with pytest.raises(PlanError) as refused:
        kinship(["./a", "./b"])
    assert str(refused.value) == f"{told} · models · name the model that all are changes of: base=..., or --base"
    assert kinship(["./a", "./b"], "./base").notes == (f"{told}: all are taken as changes of ./base",)


def test_a_vocabulary_that_grew_is_cut_to_the_bases(tmp_path: Path) -> None:
    base = {name: random_values(shape, 5) for name, shape in SHAPES.items()}
    plain = [{name: values + 0.01 * random_values(values.shape, i) for name, values in base.items()} for i in (1, 2)]
    embedding = "model.embed_tokens.weight"
    grown = {**plain[1], embedding: np.concatenate([plain[1][embedding], np.full((2, 4), 9, np.float32)])}
    found = kinship([plain[0], grown], base)
    np.testing.assert_array_equal(found.flat.pearson, kinship(plain, base).flat.pearson)
    assert found.notes == (
        "'model.embed_tokens.weight' of models[1] has 8 rows: the first 6, which the base has, are taken",
    )


def test_tensors_that_not_all_have_are_left_out_and_told(tmp_path: Path) -> None:
    base = {name: random_values(shape, 5) for name, shape in SHAPES.items()}
    rest = {name: values for name, values in base.items() if "embed" not in name}
    others = [
        {**{n: v + random_values(v.shape, i) for n, v in base.items()}, "score.weight": np.ones((2, 4), np.float32)}
        for i in (1, 2)
    ]
    found = kinship(others, rest)
    assert [tensor.name for tensor in found.tensors] == list(rest)
    assert found.notes[0] == "2 tensors (first 'model.embed_tokens.weight') of models[0] are not in base: left out"


def test_a_wrong_base_and_a_model_that_learned_nothing_are_warned_of(tmp_path: Path) -> None:
    base = {"w": np.array([10.0, 0.0, 0.0], np.float32)}
    one, other = {"w": np.array([10.0, 3.0, 0.1], np.float32)}, {"w": np.array([10.0, 3.0, 0.0], np.float32)}
    found = kinship([one, other, dict(base)], base)
    assert found.warnings == (
        "models[2] has the base's numbers everywhere: nothing was learned, and it is like no other",
        (
            "models[0] and models[1]: the cosine of their deltas is 0.999, above 0.9: one is made of the other, or this is not the base "
            "they were trained from"
        ),
        "models[0]: its delta has 0.300 of the norm of base, more than 0.1: is this the base it was trained from?",
        "models[1]: its delta has 0.300 of the norm of base, more than 0.1: is this the base it was trained from?",
    )
    assert np.isnan(found.mean["cosine"])
    assert found.to_dict()["mean"]["cosine"] is None


@pytest.mark.parametrize(
    ("given", "base", "text"),
    [
        ([{}], None, "two models or more are compared · models · name every model that is to be compared"),
        (
            [{"w": np.ones(2, np.float32)}] * 2, None,
            ("models are compared by what they learned on top of their base, and none is named · base · "
            "name the model that they were trained from: base=..., or --base"),
        ),
        (
            [{"w": np.ones((2, 3), np.float32)}, {"w": np.ones((2, 4), np.float32)}], {"w": np.ones((2, 4), np.float32)},
            "'w' is [2, 3], in base [2, 4] · models[0] · name the base it was trained from",
        ),
        (
            [{"v": np.ones(2, np.float32)}, {"w": np.ones(2, np.float32)}], {"w": np.ones(2, np.float32)},
            "no tensor has the name of one of base ('v' here, 'w' there) · models[0] · name the base it was trained from",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(given: Any, base: Any, text: str) -> None:
    with pytest.raises(PlanError) as refused:
        kinship(given, base)
    assert str(refused.value) == text


def test_a_number_that_is_not_finite_is_refused_by_name() -> None:
    whole, broken = {"w": np.ones(2, np.float32)}, {"w": np.array([1, np.nan], np.float32)}
    with pytest.raises(NumbersError) as refused:
        kinship([whole, broken], {"w": np.zeros(2, np.float32)})
    assert str(refused.value) == (
        "tensor 'w' has a number that is not finite · models[1] · the model is damaged; fetch or save it again"
    )


def test_the_command_prints_every_pair_and_draws_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = {"v": np.full(4, 20, np.float32)}
    rows = ([1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 2])
    names = models(Path(), *({"v": np.array(row, np.float32)} for row in rows), base=base)
    assert command("kinship", *names[1:], "--base", names[0], "--plot", "map.html") == 0
    out, err = capsys.readouterr()
    assert out == (
        "model  norm of the delta  of the base's\n"
        "a                  1.414        0.03536\n"
        "b                  1.414        0.03536\n"
        "c                      2           0.05\n"
        "\n"
        "model            other  pearson  cosine  euclid  split pearson  split cosine  split euclid\n"
        "a                b       0.0000  0.5000  1.4142         0.0000        0.5000        1.4142\n"
        "a                c      -0.5774  0.0000  2.4495        -0.5774        0.0000        2.4495\n"
        "b                c      -0.5774  0.0000  2.4495        -0.5774        0.0000        2.4495\n"
        "mean over pairs         -0.3849  0.1667  2.1044        -0.3849        0.1667        2.1044\n"
        "\n"
        "compared: 4 entries, tensors: 1\n"
    )
    assert err == "written: map.html\n"
    page = Path("map.html").read_text(encoding="utf-8")
    assert page.count("http") == 1, "nothing but the namespace of SVG: the file needs no other"
    assert "cosine of the deltas" in page
    assert command("kinship", *names[1:], "--base", names[0], "--per-layer", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["part"] for row in told["layers"]] == ["outside the layers"] * 3
    assert told["pairs"][0]["cosine"] == pytest.approx(0.5)
    assert command("kinship", *names[1:], "--base", names[0], "--format", "quiet") == 0
    assert float(capsys.readouterr().out) == pytest.approx(-2 / 27**0.5)


def test_a_notebook_shows_the_drawing_and_pandas_takes_the_pairs() -> None:
    found = kinship([factors(0), factors(1)])
    assert found._repr_html_().startswith("<svg")
    frame = found.to_pandas("tensor")
    assert list(frame["tensor"]) == ["down", "up"]
    assert frame["cosine"][0] == pytest.approx(frame["cosine"][1])


def test_kinship_needs_no_torch(tmp_path: Path) -> None:
    from zoo import run_python

    code = (
        "import sys, numpy as np, hubmerge; f = {'m': (np.ones((1, 2)), np.ones((2, 1)))}; "
        "hubmerge.kinship([f, f]); assert 'torch' not in sys.modules"
    )
    ended = run_python(code, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert hubmerge.kinship is kinship
