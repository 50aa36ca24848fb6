"""What mergekit 0.1.5 does wrong without a word, one test for each: here it is an error, or a decision that is told and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zoo

import hubmerge
from hubmerge import MergeError, PlanError, RecipeError

LLAMA = {
    "model.embed_tokens.weight": (6, 4), "model.layers.0.mlp.up_proj.weight": (8, 4),
    "model.layers.1.mlp.up_proj.weight": (8, 4), "model.norm.weight": (4,), "lm_head.weight": (6, 4),
}  # fmt: skip


def tensors(seed: int, **more: np.ndarray) -> dict[str, np.ndarray]:
    return {**{name: zoo.random_values(shape, seed) for name, shape in LLAMA.items()}, **more}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: models a, b and base, of which b was made for longer texts."""
    for seed, name in enumerate(("base", "a", "b")):
        longest = 256 if name == "b" else 128
        config = {**zoo.CONFIG, "max_position_embeddings": longest}
        zoo.write_model(
            tmp_path / name, tensors(seed), config=config, files={"tokenizer.json": json.dumps({"of": name})}
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def linear(**more: Any) -> dict[str, Any]:
    return {"merge_method": "linear", "models": [{"model": "./a"}, {"model": "./b"}], **more}


def faults(recipe: dict[str, Any]) -> list[str]:
    with pytest.raises((RecipeError, PlanError)) as caught:
        hubmerge.build_plan(recipe)
    return [str(fault) for fault in caught.value.faults]


def test_misspelt_keys_do_not_run_the_merge_with_defaults() -> None:
    """mergekit ignores `dtpye`, `paramters` and a model's `densty`, exits 0, and merges with the defaults."""
    assert faults(linear(dtpye="float16", paramters={"normalize": False})) == [
        "unknown key 'dtpye' · recipe: dtpye · did you mean dtype?",
        "unknown key 'paramters' · recipe: paramters · did you mean parameters?",
    ]
    ties = {"merge_method": "ties", "base_model": "./base", "models": [{"model": "./a", "parameters": {"densty": 0.5}}]}
    assert faults(ties) == ["unknown parameter 'densty' · recipe: models[0].parameters.densty · did you mean density?"]


def test_config_and_tokenizer_do_not_come_from_a_random_model(place: Path) -> None:
    """mergekit takes them from the first of a set: max_position_embeddings is 128 or 256, by PYTHONHASHSEED."""
    (place / "r.yaml").write_text(json.dumps(linear()))
    hashes = set()
    for seed in ("0", "1", "5"):
        ended = zoo.run_hubmerge("plan", "r.yaml", "--json", cwd=place, PYTHONHASHSEED=seed)
        assert ended.returncode == 0, ended.stderr
        hashes.add(json.loads(ended.stdout)["hash"])
    assert len(hashes) == 1
    assert "  ./a  (parent, config, tokenizer)" in str(hubmerge.build_plan(linear())).splitlines()
    manifest = hubmerge.merge(linear(), "out")
    assert (manifest.config_donor, manifest.tokenizer_donor) == ("./a", "./a")
    assert json.loads(Path("out/config.json").read_text())["max_position_embeddings"] == 128
    assert json.loads(Path("out/tokenizer.json").read_text()) == {"of": "a"}


def test_an_old_weight_file_does_not_stay_beside_the_new_ones(place: Path) -> None:
    """mergekit leaves model.safetensors of an earlier merge beside new shards, and transformers loads the old one."""
    hubmerge.merge(linear(), "out")
    assert "model.safetensors" in zoo.names(place / "out")
    again = linear(output={"shard_size": 300}, parameters={"weight": 2, "normalize": False})
    with pytest.raises(PlanError, match="out exists and is a merge of another plan · out · --overwrite replaces it"):
        hubmerge.merge(again, "out")
    hubmerge.merge(again, "out", overwrite=True)
    weights = {name for name in zoo.names(place / "out") if name.endswith(".safetensors")}
    index = json.loads(Path("out/model.safetensors.index.json").read_text())
    assert weights == set(index["weight_map"].values())
    assert len(weights) > 1
    assert "model.safetensors" not in weights


@pytest.mark.parametrize("method", ["linear", "slerp", "ties"])
def test_a_not_a_number_in_one_model_does_not_spread(place: Path, method: str) -> None:
    """mergekit writes one NaN under linear and ties, a whole tensor of them under slerp, and exits 0."""
    damaged = tensors(1)
    damaged["model.layers.1.mlp.up_proj.weight"][2, 3] = np.nan
    zoo.write_model(place / "a", damaged)
    own: dict[str, Any] = {"slerp": {"base_model": "./a", "parameters": {"t": 0.5}}, "ties": {"base_model": "./base"}}
    with pytest.raises(MergeError) as caught:
        hubmerge.merge({**linear(**own.get(method, {})), "merge_method": method}, "out")
    assert str(caught.value).startswith(
        "tensor 'model.layers.1.mlp.up_proj.weight' of ./a is not finite: entry 11 is nan"
    )
    assert not (place / "out").exists()


def test_weights_that_sum_to_zero_are_not_divided_by() -> None:
    """mergekit writes 188,992 of 188,992 weights that are no number, and exits 0; in one layer only, a quarter of them."""
    rows = [{"model": "./a", "parameters": {"weight": 1}}, {"model": "./b", "parameters": {"weight": -1}}]
    hint = "change the weights, or set normalize: false to add them as they are"
    assert faults(linear(models=rows)) == [
        f"weights [1.0, -1.0] sum to zero, so they cannot be normalised · recipe: parameters.weight · {hint}"
    ]
    rows = [{"model": "./a", "parameters": {"weight": [1, 0]}}, {"model": "./b", "parameters": {"weight": [1, 0]}}]
    assert faults(linear(models=rows)) == [
        "weights [0.0, 0.0] sum to zero, so they cannot be normalised: 3 tensors"
        " (first 'model.layers.1.mlp.up_proj.weight') · parameters.weight · " + hint
    ]


def test_a_tensor_that_no_list_knows_is_not_dropped(place: Path) -> None:
    """mergekit drops a tensor that its list for the architecture lacks, a bias of a Llama for one, and exits 0."""
    name = "model.layers.0.self_attn.q_proj.bias"
    zoo.write_model(place / "a", tensors(1, **{name: np.full(4, 2, "float32")}))
    hint = "every parent must have the same tensors; `hubmerge zoo compatible` finds such models"
    assert faults(linear()) == [f"tensor {name!r} of ./a is not in ./b · models · {hint}"]
    zoo.write_model(place / "b", tensors(2, **{name: np.full(4, 4, "float32")}))
    hubmerge.merge(linear(), "out")
    assert zoo.read_model(place / "out")[name].tolist() == [3, 3, 3, 3]


def test_an_option_is_not_without_effect(place: Path) -> None:
    """mergekit's `--write-threads N` does nothing; here `--jobs` is what the plan says, and an unknown option is an error."""
    (place / "r.yaml").write_text(json.dumps(linear()))
    assert [hubmerge.build_plan(linear(), jobs=jobs).jobs for jobs in (1, 3)] == [1, 3]
    ended = zoo.run_hubmerge("merge", "r.yaml", "out", "--write-threads", "2", cwd=place)
    assert ended.returncode == 2
    assert "--write-threads" in ended.stderr


def test_the_head_is_not_merged_with_the_first_layers_value() -> None:
    """Under a gradient mergekit gives final norm and head the value of the first layer; here the last, and the plan says so."""
    plan = hubmerge.build_plan(linear(parameters={"weight": [1, 0.5], "normalize": False}))
    weight = {step.output.name: step.values["weight"] for step in plan.steps}
    assert weight["model.embed_tokens.weight"] == weight["model.layers.0.mlp.up_proj.weight"] == (1, 1)
    assert weight["model.layers.1.mlp.up_proj.weight"] == (0.5, 0.5)
    assert weight["model.norm.weight"] == weight["lm_head.weight"] == (0.5, 0.5)
    note = (
        "gradients run from the first layer to the last; embeddings take the first value,"
        " final norm and head the last (mergekit: the first)"
    )
    assert note in plan.warnings
    assert f"note         {note}" in str(plan).splitlines()


def test_a_key_of_a_slice_is_not_read_for_nothing() -> None:
    """mergekit reads `residual_weight` of a slice and never looks at it."""
    sources = [{"model": "./a", "layer_range": [0, 2]}]
    asked = {"merge_method": "passthrough", "slices": [{"sources": sources, "residual_weight": 0.5}]}
    told = hubmerge.build_plan(asked).warnings
    assert told == ("slices[0].residual_weight is ignored: it has no meaning, in mergekit neither; remove it",)


def test_a_t_of_forty_does_not_pass_unseen() -> None:
    """mergekit extrapolates without a word where a percentage was meant."""
    asked = {**linear(base_model="./a", parameters={"t": 40}), "merge_method": "slerp"}
    assert "t reaches 40: outside 0 and 1 slerp goes beyond its two models" in hubmerge.build_plan(asked).warnings
    with pytest.raises(PlanError, match="t reaches 40"):
        hubmerge.build_plan(asked, strict=True)


def test_norm_and_head_of_a_stack_are_merged_from_all_models_of_the_last_slice() -> None:
    """mergekit takes as many of them as the *first* slice has sources, and leaves the others out without a word."""
    one = {"model": "./a", "layer_range": [0, 1]}
    two = [{"model": "./a", "layer_range": [1, 2]}, {"model": "./b", "layer_range": [1, 2]}]
    asked = {"merge_method": "linear", "slices": [{"sources": [one]}, {"sources": two}], "parameters": {"weight": 1}}
    hubmerge.merge(asked, "out")
    merged, a, b = (zoo.read_model(Path(name)) for name in ("out", "a", "b"))
    assert np.array_equal(merged["model.embed_tokens.weight"], a["model.embed_tokens.weight"])
    for name in ("model.norm.weight", "lm_head.weight"):
        np.testing.assert_allclose(merged[name], (a[name] + b[name]) / 2, rtol=1e-6)
