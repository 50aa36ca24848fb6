"""Every recipe that mergekit takes is merged, and the numbers are held against mergekit's.

The recipes lie in ``recipes/``, what mergekit 0.1.5 made of them in ``expected/`` (`benchmarks/parity` writes it).  Numbers agree
to 1e-5, or to one unit in the last place of the type that is written.  Left open are entries that lie on a trimming
threshold, of which mergekit keeps some by the order of a sort; random methods are held to what they keep and to its size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import parity_records
import pytest
import zoo

import hubmerge
from hubmerge.recipe import Recipe

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in (HERE / "recipes").iterdir())
SECOND = {
    "arcee-fusion-bias", "breadcrumbs-gradients", "dare-linear-two", "della-two", "karcher-base-is-an-input", "karcher-three",
    "linear-three-normalized", "model-stock", "model-stock-base-listed", "multislerp-eps", "multislerp-on-deltas",
    "multislerp-three", "nuslerp-base-listed", "sce-select-topk", "sce-wild", "ties-normalize-off",
}  # fmt: skip
"""Recipes of a method that another one covers, with a number of parents that makes numba compile it again: a second each."""
PARAMETERS = [pytest.param(name, marks=[pytest.mark.real] if name in SECOND else []) for name in NAMES]
RANDOM = {"dare_linear", "dare_ties", "della", "della_linear"}
TYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
STEPS = {"BF16": 2.0**-7, "F16": 2.0**-10}
"""One unit in the last place, as a share of the number; half of it where a power of two lies between."""


OWN_TEMPLATES = {
    "alpaca": (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\na b\n\n### Response:\nc</s>\n\n### Instruction:\nd\n e \n\n### Response:\n"
    ),
    "exaone": "[|system|][|endofturn|]\n[|user|]a b\n[|assistant|]c[|endofturn|]\n[|user|]d\n e \n[|assistant|]",
    "llama3": (
        "<s><|start_header_id|>user<|end_header_id|>\n\na b<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nc"
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nd\n e<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "mistral": "<s>[INST] a b [/INST] c</s>[INST] d\n e  [/INST]",
}
"""Where a built-in template follows the format's own description and mergekit's does not: alpaca without its preamble and the line
before the last answer, exaone with the indentation of its source, llama3 with a line break after each turn, mistral with
more blanks."""


def expected(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((HERE / "expected" / f"{name}.json").read_text())
    return content


@pytest.fixture(scope="module", params=PARAMETERS)
def merge(request: pytest.FixtureRequest, parity_place: Path) -> tuple[str, Recipe, Path]:
    """The name of a recipe, the recipe, and the folder that it was merged into; the models are in the current folder."""
    recipe = hubmerge.load_recipe(HERE / "recipes" / f"{request.param}.yaml")
    out = parity_place / "out" / request.param
    hubmerge.merge(recipe, out, jobs=1)
    return request.param, recipe, out


def close(name: str, ours: np.ndarray, theirs: np.ndarray, stored: str, where: str) -> None:
    """Equal to 1e-5, or to one unit in the last place; where a sum cancels, to 1e-6 of the tensor's size."""
    size = float(np.sqrt(np.mean(np.square(theirs, dtype=np.float64)))) if theirs.size else 0.0
    allowed = 1e-5 * np.abs(theirs) + 1e-6 * size
    if stored in STEPS:
        least = 2.0**-24 if stored == "F16" else 0.0
        allowed = np.maximum(STEPS[stored] * np.maximum(np.abs(theirs), np.abs(ours)), least)
    wrong = np.flatnonzero(~(np.abs(ours.astype(np.float64) - theirs) <= allowed))
    first = f"{wrong.size} of {ours.size} entries of {where} differ, first {ours[wrong[:4]]} for {theirs[wrong[:4]]}"
    assert not wrong.size, f"{name}: {first}"


def tied(recipe: Recipe, tensor: str) -> np.ndarray | None:
    """Which entries of a tensor lie on the trimming threshold of some delta; None where nothing is trimmed by size."""
    if recipe.merge_method != "ties" or recipe.models is None:
        return None
    base = zoo.numbers(zoo.read_model(Path(str(recipe.base_model)))[tensor])
    found = np.zeros(base.size, bool)
    for entry in recipe.models:
        density = entry.parameters.get("density", recipe.parameters.get("density", 1.0))
        if entry.model == recipe.base_model or not isinstance(density, float) or density >= 1:
            continue
        delta = np.abs(zoo.numbers(zoo.read_model(Path(str(entry.model)))[tensor]) - base).reshape(-1)
        threshold = np.sort(delta)[::-1][max(1, int(density * delta.size)) - 1]
        on = delta == threshold
        found |= on & (np.count_nonzero(on) > 1)
    return found


def test_a_recipe_gives_the_numbers_that_mergekit_gives(merge: tuple[str, Recipe, Path]) -> None:
    name, recipe, out = merge
    wanted, tokens = expected(name)["tensors"], parity_records.vocabulary(out)
    merged = parity_records.read_tensors(out, tokens)
    assert sorted(merged) == sorted(wanted)
    left_open = 0
    for tensor, (values, stored) in merged.items():
        row = wanted[tensor]
        assert (stored, list(values.shape)) == (row["dtype"], row["shape"]), tensor
        if recipe.merge_method in RANDOM and "changed" in row:
            continue
        ours, theirs = values.reshape(-1)[parity_records.places(values.size)], parity_records.decoded(row["values"])
        on_threshold = tied(recipe, tensor) if stored in STEPS else None
        if on_threshold is not None and on_threshold.any():
            open_ = on_threshold[parity_records.places(values.size)]
            left_open += int(on_threshold.sum())
            close(name, ours[~open_], theirs[~open_], stored, tensor)
            continue
        close(name, ours, theirs, stored, tensor)
        exact = values.astype(np.float64)
        share = max(STEPS.get(stored, 0.0) / 8, 1e-5)
        for kind, total in (("sum", exact.sum()), ("l1", np.abs(exact).sum())):
            assert abs(total - row[kind]) <= share * row["l1"], f"{tensor}: {kind} {total} for {row[kind]}"
    entries = sum(values.size for values, _ in merged.values())
    assert left_open <= 0.02 * entries, f"{name}: {left_open} of {entries} entries lie on a threshold"


@pytest.mark.parametrize("name", [row for row in PARAMETERS if str(row.values[0]).startswith(("dare", "della"))])
def test_a_random_method_keeps_as_much_as_mergekit_and_as_large(name: str, parity_place: Path) -> None:
    """Over all tensors: the share of entries that change, to four standard errors of both, and their sum of magnitudes to 5 %."""
    recipe = hubmerge.load_recipe(HERE / "recipes" / f"{name}.yaml")
    out = parity_place / "out" / name
    hubmerge.merge(recipe, out, jobs=1)  # or is already there
    ours = parity_records.record(out, Path(str(recipe.base_model)))["tensors"]
    theirs = expected(name)["tensors"]
    entries = sum(int(np.prod(row["shape"])) for row in theirs.values())
    changed = [sum(row["changed"] for row in rows.values()) / entries for rows in (ours, theirs)]
    change = [sum(row["change"] for row in rows.values()) for rows in (ours, theirs)]
    assert abs(changed[0] - changed[1]) <= 4 * np.sqrt(2 * changed[1] * (1 - changed[1]) / entries)
    assert change[0] == pytest.approx(change[1], rel=0.05)


def test_the_files_beside_the_weights_say_what_mergekits_say(merge: tuple[str, Recipe, Path]) -> None:
    """Config, tokens and chat template; without base_model mergekit takes them from any model, so what may differ is left out."""
    name, recipe, out = merge
    wanted, ours = expected(name), parity_records.record(out)
    common = ours["config"].keys() & wanted["config"].keys()  # transformers adds defaults when mergekit saves a config
    assert {"model_type", "vocab_size"} < common
    assert {field: ours["config"][field] for field in common} == {field: wanted["config"][field] for field in common}
    assert ours["tokens"] == wanted["tokens"]
    if recipe.base_model is not None:
        own = OWN_TEMPLATES.get(recipe.chat_template or "")
        assert ours["conversation"] == (own or wanted["conversation"])
        assert ours["conversation"] != wanted["conversation"] or own is None
    config = json.loads((out / "config.json").read_text())
    written = {row["dtype"] for row in ours["tensors"].values()}
    assert {TYPES[config.get("dtype") or config["torch_dtype"]]} == written
    manifest = hubmerge.read_manifest(out)
    assert manifest.recipe == recipe.to_dict()
    assert sum(manifest.tensors.values()) == len(ours["tensors"])


@pytest.mark.real
@pytest.mark.parametrize(
    "name",
    [
        "bert-ties", "chat-template-llama3", "franken-bert", "franken-gpt2", "franken-merged-middle", "franken-tied",
        "lora-in-slices", "slices-with-union", "tied-into-untied", "tokenizer-padded", "tokenizer-tokens", "tokenizer-union-gpt2",
    ],
)  # fmt: skip
def test_what_was_merged_is_derived_again_and_runs_in_transformers(name: str, parity_place: Path) -> None:
    out = parity_place / "out" / name
    hubmerge.merge(HERE / "recipes" / f"{name}.yaml", out, jobs=1)
    found = hubmerge.verify_merge(out)
    assert (found.level, [check.passed for check in found.checks]) == ("exact", [True, True, True]), found
    model = hubmerge.AutoMergedModel.from_pretrained(HERE / "recipes" / f"{name}.yaml")
    stored = zoo.read_model(out)
    loaded = {key: values for key, values in model.state_dict().items() if key in stored}
    assert len(loaded) == len(stored)
    for key, values in loaded.items():
        assert np.array_equal(values.float().numpy(), zoo.numbers(stored[key]).astype(np.float32)), key
