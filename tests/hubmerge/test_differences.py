"""What mergekit does otherwise is part of the plan of every merge that is concerned, and of no other."""

from pathlib import Path

import pytest
import zoo
from vocabularies import word_model

from hubmerge import build_plan

TIED = "entries that tie with a threshold are all kept (mergekit: some, by the order of a sort)"
DRAWN = "the random entries are others than mergekit's: seed, parent, tensor and entry decide"
EXACT = "quartiles and divergences of rows are exact (mergekit: of a sample, and rounded to float32)"
HALF = "numbers are computed in float32 and rounded once (mergekit: every step in bfloat16)"
DONOR = "config.json is that of the first model listed (mergekit: of any, another from run to run)"
ADAPTED = "adapters are added in float32 (mergekit: rounded to the model's type before it is merged)"
SIDES = {"A": (2, 4), "B": (4, 2)}
LAST = "after the layers all sources of the last slice count (mergekit: as many as the first slice has)"


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = {**zoo.CONFIG, "num_hidden_layers": 2}
    names = ("model.embed_tokens.weight", "model.layers.0.weight", "model.layers.1.weight", "lm_head.weight")
    for seed, name in enumerate(("base", "a", "b")):
        values = {tensor: zoo.random_values((4, 4), seed) for tensor in names}
        zoo.write_model(tmp_path / name, values, config=config)
        halves = {tensor: zoo.bfloat16(numbers) for tensor, numbers in values.items()}
        zoo.write_model(tmp_path / f"half-{name}", halves, config=config)


def told(method: str, kind: str = "", **keys: object) -> tuple[str, ...]:
    parameters = keys.pop("parameters", {})
    others = ["a"] if method in {"nearswap", "arcee_fusion", "slerp"} else ["a", "b"]
    recipe = {
        "merge_method": method,
        "base_model": f"./{kind}base",
        "models": [{"model": f"./{kind}{name}"} for name in others],
        "parameters": parameters,
        **keys,
    }
    plan = build_plan(recipe)
    found = tuple(plan.to_dict()["differences"])
    lines = [line.removeprefix("differs").strip() for line in str(plan).splitlines() if line.startswith("differs")]
    assert lines == list(found)
    return found


@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "breadcrumbs_ties"])
def test_thresholds_are_told_of_where_there_is_one(method: str) -> None:
    assert told(method, parameters={"density": 0.5}) == (TIED,)
    assert told(method) == ()


def test_the_selection_of_sce_has_a_threshold() -> None:
    assert told("sce", parameters={"select_topk": 0.5}) == (TIED,)
    assert told("sce") == ()


@pytest.mark.parametrize("method", ["dare_ties", "dare_linear", "della", "della_linear"])
def test_random_entries_are_told_of_where_any_are_dropped(method: str) -> None:
    assert told(method, parameters={"density": 0.5}) == (DRAWN,)


def test_of_the_methods_only_arcee_fusion_has_exact_quartiles() -> None:
    assert told("arcee_fusion") == (EXACT,)
    assert told("nearswap", parameters={"t": 0.1}) == ()


def test_arithmetic_is_told_of_where_mergekit_rounds_every_step() -> None:
    assert told("task_arithmetic", "half-") == (HALF,)
    assert told("task_arithmetic", dtype="bfloat16") == (HALF,)
    assert told("task_arithmetic", "half-", dtype="float32") == ()
    assert told("task_arithmetic", out_dtype="bfloat16") == ()
    assert told("slerp", "half-", parameters={"t": 0.5}) == ()


def test_without_a_base_model_the_config_is_the_first_models() -> None:
    two = [{"model": "./a"}, {"model": "./b"}]
    assert told("linear", base_model=None, models=two) == (DONOR,)
    assert told("passthrough", base_model=None, models=two[:1]) == ()


def test_a_last_slice_with_more_sources_than_the_first_merges_the_head_of_all() -> None:
    def sources(*names: str, layer: int) -> dict[str, object]:
        return {"sources": [{"model": f"./{name}", "layer_range": [layer, layer + 1]} for name in names]}

    more = [sources("a", layer=0), sources("a", "b", layer=1)]
    assert told("linear", base_model=None, models=None, slices=more) == (DONOR, LAST)
    fewer = [sources("a", "b", layer=0), sources("a", layer=1)]
    assert told("linear", base_model=None, models=None, slices=fewer) == (DONOR,)


@pytest.mark.parametrize("kind", ["", "half-"])
def test_adapters_on_halves_are_told(kind: str, tmp_path: Path) -> None:
    low_rank = {f"model.layers.0.lora_{side}.weight": zoo.random_values(shape, 1) for side, shape in SIDES.items()}
    zoo.write_adapter(tmp_path / "lora", low_rank, target_modules=["0"])
    two = [{"model": f"./{kind}a+./lora"}, {"model": f"./{kind}b"}]
    found = told("linear", base_model=None, models=two)
    assert found == ((ADAPTED, DONOR) if kind else (DONOR,))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("alpaca", "with Alpaca's preamble (mergekit: without)"),
        ("exaone", "without indentation (mergekit: with that of its source)"),
        ("llama3", "without line breaks between turns (mergekit: with)"),
        ("mistral", "without a space before [INST] (mergekit: with one)"),
    ],
)
def test_built_in_chat_templates_that_read_otherwise_are_told(name: str, text: str, tmp_path: Path) -> None:
    word_model(tmp_path / "words", ["a", "b"], 1)

    def of_template(template: str) -> list[str]:
        recipe = {"merge_method": "passthrough", "models": [{"model": "./words"}], "chat_template": template}
        return list(build_plan(recipe).to_dict()["differences"])

    assert of_template(name) == [f"chat template {name}: {text}"]
    assert of_template("chatml") == of_template("{{ messages }}") == []
