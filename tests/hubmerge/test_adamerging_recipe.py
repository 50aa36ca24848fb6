"""AdaMerging as a recipe: what the plan says, the numbers of the models in memory, what is recorded, kept and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification

from hubmerge import MergedState, build_plan, merge, merge_state_dicts, verify_merge
from hubmerge.adamerging import preparing
from hubmerge.assemble import merge_plan
from hubmerge.errors import HubmergeError
from hubmerge.prepared_words import prepared_lines

NAMES = ("base", "a", "b")


def classifier(seed: int, labels: str = "abc") -> Any:
    """A small ResNet, its BatchNorm's statistics those of a little noise; seed 0 is the base, the others are near it."""
    names = dict(enumerate(labels))
    config = ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 4], depths=[1, 1], num_labels=3, layer_type="basic", id2label=names,
        label2id={name: i for i, name in names.items()},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ResNetForImageClassification(config)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * (seed > 0) * torch.randn(parameter.shape))
            model.train()(torch.randn(8, 3, 16, 16))
    return model.eval()


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(5, 3, 16, 16)).astype(np.float32)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        classifier(seed).save_pretrained(tmp_path / name)
        np.savez(tmp_path / f"{name}.npz", pixel_values=pixels(seed))
    return tmp_path


def asked(place: Path, method: str = "adamerging", **parameters: Any) -> dict[str, Any]:
    entries = [
        {"model": str(place / name), "calibration": {"data": str(place / f"{name}.npz"), "samples": 5}} for name in "ab"
    ]
    given = {"steps": 4, "learning_rate": 0.05, "batch": 2, **parameters}
    return {"merge_method": method, "base_model": str(place / "base"), "models": entries, "parameters": given}


def test_the_plan_says_what_is_run_before_anything_is(place: Path) -> None:
    found = str(build_plan(asked(place))).split("\n\n")
    (section,) = (part for part in found if part.startswith("run before"))
    assert section.splitlines()[1:-1] == [
        f"  {place}/a: 5 samples of {place}/a.npz, column pixel_values",
        f"  {place}/b: 5 samples of {place}/b.npz, column pixel_values",
        "  4 steps of the merge forwards and backwards, each on up to 2 samples of every parent: 8 batches",
        "  12 batches forwards, to tell the entropy before and after",
        "  the base, a delta of every parent, and the model that is run, in float32",
    ]
    headline = str(build_plan(asked(place, "awd", inner="adamerging"))).split("\n")[0]
    assert headline.startswith(
        "awd: Subtract from the parents' deltas what makes them alike, then merge what is left by adamerging"
    )


@pytest.mark.filterwarnings("ignore:running statistics")
@pytest.mark.parametrize("method", ["adamerging", "awd"])
def test_a_recipe_gives_the_numbers_of_the_models_in_memory_and_is_derived_again(place: Path, method: str) -> None:
    own = {"inner": "adamerging"} if method == "awd" else {}
    recipe = asked(place, method, **own)
    for entry in recipe["models"]:
        entry["calibration"]["batch"] = 5
    manifest = merge(recipe, place / "out")
    record = manifest.prepared
    assert record is not None
    assert [data.samples for data in record.calibration] == [5, 5]
    assert (manifest.disentangled is not None) == (method == "awd")
    parents = [classifier(1), classifier(2)]
    rows = [[{"pixel_values": torch.from_numpy(pixels(seed))}] for seed in (1, 2)]
    found = merge_state_dicts(method, parents, classifier(0), recipe["parameters"], calibration=rows)
    assert isinstance(found, MergedState)
    # the rows are drawn in another order, which the parts of a step follow
    assert record.state["entropies_before"] == pytest.approx(found.state["entropies_before"], rel=1e-4)
    assert record.layers.keys() == found.coefficients.keys()
    (told, *warned) = prepared_lines(record)[2:]
    changed = list(zip(record.parents, record.state["entropies_before"], record.state["entropies"], strict=True))
    assert told == "mean entropy of the answers " + ", ".join(
        f"{a:.3f} to {b:.3f} on data of {n}" for n, a, b in changed
    )
    assert bool(warned) == any(b > a for _, a, b in changed)
    assert all(abs(share - 0.3) <= 4 * 0.05 + 1e-6 for row in record.layers.values() for share in row)
    assert verify_merge(place / "out", reload=False).level == "exact"


def test_a_merge_that_goes_on_runs_no_model_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    own = preparing.descended
    monkeypatch.setattr(preparing, "descended", lambda *given, **rest: runs.append(1) or own(*given, **rest))
    plan = build_plan(asked(place))

    def interrupt(_: int) -> None:
        raise OSError("stopped")

    with pytest.raises(HubmergeError, match="stopped"):
        merge_plan(plan, place / "out", progress=interrupt)
    merge_plan(plan, place / "out")
    assert runs == [1]


def test_parents_of_other_labels_answer_with_their_own_heads(place: Path) -> None:
    classifier(2, labels="xyz").save_pretrained(place / "b")
    record = merge(asked(place, granularity="task"), place / "out").prepared
    assert record is not None
    assert record.state["own_heads"] == ["classifier.1.bias", "classifier.1.weight"]
    assert list(record.layers) == ["model"]


def test_labels_are_refused_and_data_is_asked_for(place: Path) -> None:
    recipe = asked(place)
    recipe["models"][0]["calibration"]["labels"] = "kind"
    del recipe["models"][1]["calibration"]
    with pytest.raises(HubmergeError) as caught:
        build_plan(recipe)
    hint = "name data of its own task: calibration: file.parquet, without labels"
    assert list(map(str, caught.value.faults)) == [
        "adamerging takes no labels · models[0].calibration.labels · leave them out",
        f"adamerging needs calibration, and {place}/b has none · models[1].calibration · {hint}",
    ]
