"""What users of mergekit and PEFT ask for or suffer from, one test for each: here it works, or is refused by name at once."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import parity_models
import parity_records
import pytest
import zoo

import cards
import hubmerge
from hubmerge import PlanError, RecipeError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def place(parity_place: Path, tmp_path: Path) -> Path:
    """Where a test may write; the current folder holds the models."""
    return tmp_path


def linear(*models: object, **more: Any) -> dict[str, Any]:
    return {"merge_method": "linear", "models": [{"model": str(model)} for model in models], **more}


def fault(recipe: dict[str, Any], **options: Any) -> str:
    with pytest.raises((RecipeError, PlanError)) as caught:
        hubmerge.build_plan(recipe, **options)
    return str(caught.value)


def small(
    folder: Path, config: dict[str, Any] | None = None, files: dict[str, str] | None = None, **tensors: Any
) -> Path:
    """A model of a few tensors, whose names are written with __ for a point."""
    named = {name.replace("__", "."): np.asarray(values, np.float32) for name, values in tensors.items()}
    return zoo.write_model(folder, named, config=config, files=files)


def test_mistakes_show_before_anything_is_downloaded_or_merged(place: Path) -> None:
    """dare-ties for dare_ties, or another count of layers, show in mergekit after the download, in the middle of the merge."""
    assert fault(linear("nobody/a", "nobody/b", merge_method="dare-ties", base_model="nobody/base")) == (
        "unknown merge_method 'dare-ties' · recipe: merge_method · did you mean dare_ties?"
    )
    with pytest.raises(PlanError, match="num_hidden_layers 4 vs 6"):
        hubmerge.merge(linear("./llama-math", "./llama-deep"), place / "out")
    assert list(place.iterdir()) == []


def test_a_merge_can_be_published_with_its_lineage(place: Path) -> None:
    """mergekit cannot upload, and its card says neither `base_model_relation` nor what was merged at which revision."""
    hubmerge.merge(linear("./gpt2-story", "./gpt2-verse"), place / "out")
    cards.write_card(place / "out")
    assert "base_model_relation: merge\n" in (place / "out" / "README.md").read_text()
    plan = cards.publish(place / "out", place / "shared", dry_run=True)
    assert {"README.md", "config.json", "hubmerge.json", "model.safetensors"} <= {file.name for file in plan.files}


def test_memory_is_bounded_whatever_the_models_size(place: Path) -> None:
    """mergekit holds a whole shard of the output, 5 GB by default.  These models say that they have 8 GB; no byte is read."""
    rows = 1_000_000
    header = {"w": {"dtype": "F32", "shape": [rows, 2000], "data_offsets": [0, rows * 8000]}}
    raw = json.dumps(header).encode()
    for name in ("a", "b"):
        folder = small(place / name, w=[[1]])
        with (folder / "model.safetensors").open("wb") as file:
            file.write(len(raw).to_bytes(8, "little") + raw)
            file.truncate(8 + len(raw) + rows * 8000)
    for memory in (50_000_000, 400_000_000):
        plan = hubmerge.build_plan(linear(place / "a", place / "b"), memory=memory, jobs=2)
        assert 0 < plan.peak_memory <= memory
    assert plan.bytes_read == 2 * rows * 8000


def test_models_of_other_sizes_are_refused_by_the_fields_that_differ() -> None:
    """The most repeated question to mergekit, answered by an error about a tensor in the middle of the merge."""
    assert (
        fault(linear("./llama-math", "./qwen-math"))
        .split(": ", 1)[1]
        .startswith(
            'model_type llama vs qwen2, architectures ["LlamaForCausalLM"] vs ["Qwen2ForCausalLM"], num_hidden_layers 4 vs 3'
        )
    )


def test_another_vocabulary_is_named_and_the_key_that_aligns_it(place: Path) -> None:
    """mergekit stops at a shape, or writes garbled text; here the error shows the key, and with it the rows moved are told."""
    asked = linear("./llama-math", "./llama-more", base_model="./llama-math")
    assert "vocab_size 24 vs 26" in fault(asked)
    assert "tokenizer_source: union" in fault(asked)
    plan = hubmerge.build_plan({**asked, "tokenizer_source": "union"})
    assert "26 tokens" in str(plan)
    manifest = hubmerge.merge({**asked, "tokenizer_source": "union"}, place / "out")
    assert "26 tokens" in json.dumps(manifest.to_json())


def test_the_new_tokens_of_a_union_have_the_same_ids_every_time(place: Path) -> None:
    """mergekit numbers them in the order of a hash map, another one with every run."""
    models = ("./llama-base", "./llama-other", "./llama-more")
    hubmerge.merge(linear(*models, base_model="./llama-base", tokenizer_source="union"), place / "out")
    ids = parity_records.vocabulary(place / "out")
    assert sorted(ids, key=ids.__getitem__) == [*parity_models.WORDS, "fh", "ik", "<end>", "<tool>"]


def test_a_token_that_one_model_of_a_stack_lacks_is_no_row_of_zeros(place: Path) -> None:
    """mergekit looks for a token's row only in the models that bring the tensor: head rows of a stack become zeros."""
    rows = [{"sources": [{"model": f"./llama-{name}", "layer_range": [0, 2]}]} for name in ("math", "other")]
    asked = {"merge_method": "passthrough", "slices": rows, "base_model": "./llama-math", "tokenizer_source": "union"}
    hubmerge.merge(asked, place / "out")
    math, other, out = (Path(name) for name in ("llama-math", "llama-other", place / "out"))
    ids = {folder: parity_records.vocabulary(folder) for folder in (math, other, out)}
    head = {folder: zoo.read_model(folder)["lm_head.weight"] for folder in (math, other, out)}
    for token, donor in (("ac", math), ("ab", other), ("ik", other)):  # llama-other lacks ac
        assert np.array_equal(head[out][ids[out][token]], head[donor][ids[donor][token]])
    assert "3 filled from ./llama-math (3)" in str(hubmerge.build_plan(asked))


@pytest.mark.real
def test_a_merge_that_computes_nonsense_is_found_by_verify(place: Path) -> None:
    """A merge "succeeds" in mergekit and its output is gibberish; `verify` loads it and looks at what it computes."""
    hubmerge.merge(linear("./llama-math", "./llama-code"), place / "out")
    found = {check.name: check for check in hubmerge.verify_merge(place / "out").checks}
    assert found["reload"].passed
    assert "finite" in found["reload"].detail


def test_models_that_are_used_in_another_way_are_told_though_they_fit() -> None:
    """Same shapes, other heads or positions: mergekit merges them without a word, and users ask why the result is noise."""
    heads = hubmerge.build_plan(linear("./llama-math", "./llama-heads")).warnings
    assert (
        "./llama-math and ./llama-heads: num_attention_heads 4 vs 2: the tensors have the same shapes but are used in another way"
        in heads
    )
    rope = hubmerge.build_plan(linear("./llama-math", "./llama-rope")).warnings
    assert (
        "./llama-math and ./llama-rope: rope_theta 10000.0 vs 1000000.0:"
        " positions are rotated at other speeds, and a merge fits neither" in rope
    )
    tokens = hubmerge.build_plan(linear("./llama-math", "./llama-permuted")).warnings
    assert any("20 of 24 ids stand for different tokens" in line for line in tokens)
    assert fault(linear("./llama-math", "./llama-rope"), strict=True).endswith(
        "--strict · mend it, or leave out --strict"
    )


def test_a_tied_head_is_not_written_a_second_time(place: Path) -> None:
    """A merge of 9.2 billion weights had 10.2: the tied head was written beside the embeddings."""
    hubmerge.merge(linear("./tied-base", "./tied-math"), place / "out")
    assert "lm_head.weight" not in zoo.read_model(place / "out")
    assert json.loads((place / "out" / "config.json").read_text())["tie_word_embeddings"] is True
    asked = linear("./tied-base", "./llama-math", base_model="./tied-base")
    assert fault(asked) == (
        "tensor 'lm_head.weight' of ./llama-math is not in ./tied-base: tie_word_embeddings true vs false · models"
        " · the first ties its head to its embeddings, the other does not: name the other as base_model"
    )


def test_a_checkpoint_needs_no_list_of_its_tensors(place: Path) -> None:
    """mergekit's lists drift from real checkpoints: "Tensor X required but not present"."""
    for i in (1, 3):
        small(place / f"m{i}", transformer__blocks__0__odd__name=[[i]], head=[i])
    hubmerge.merge(linear(place / "m1", place / "m3"), place / "out")
    assert zoo.read_model(place / "out")["transformer.blocks.0.odd.name"].tolist() == [[2]]


def test_every_tensor_is_accounted_for(place: Path) -> None:
    """Whole towers were dropped in silence, when mergekit's list did not have them."""
    names = {"model__layers__0__linear_attn__a": [[1]], "visual__blocks__0__w": [[1]], "mtp__fc": [2]}
    first, second = small(place / "a", **names), small(place / "b", **names)
    plan = hubmerge.build_plan(linear(first, second))
    assert {step.output.name for step in plan.steps} == set(zoo.read_model(first))
    small(place / "b", **{name: values for name, values in names.items() if not name.startswith("visual")})
    assert fault(linear(first, second)).startswith(f"tensor 'visual.blocks.0.w' of {first} is not in {second}")


def test_an_architecture_of_tomorrow_is_merged_today(place: Path) -> None:
    """New architectures wait for months for their list; here the layers are seen in the names, for slices too."""
    config = {"model_type": "tomorrow", "architectures": ["TomorrowForCausalLM"], "num_hidden_layers": 2}
    for i in (1, 3):
        layers = {f"decoder__blocks__{n}__mix": [[i * 10 + n]] for n in range(2)}
        small(place / f"m{i}", config, embed=[[i]], norm=[i], **layers)
    hubmerge.merge(linear(place / "m1", place / "m3"), place / "out")
    assert zoo.read_model(place / "out")["decoder.blocks.1.mix"].tolist() == [[21]]
    rows = [{"sources": [{"model": str(place / f"m{i}"), "layer_range": [0, 2]}]} for i in (1, 3)]
    hubmerge.merge({"merge_method": "passthrough", "slices": rows}, place / "stack")
    stack = zoo.read_model(place / "stack")
    assert [stack[f"decoder.blocks.{n}.mix"].item() for n in range(4)] == [10, 11, 30, 31]
    assert json.loads((place / "stack" / "config.json").read_text())["num_hidden_layers"] == 4


def test_names_on_disk_are_kept_whatever_transformers_calls_them(place: Path) -> None:
    """transformers 5 packs experts into one tensor and renames them as it loads; checkpoints keep their own names."""
    packed = {"model__layers__0__mlp__experts__gate_up_proj": np.arange(24).reshape(2, 3, 4)}
    one_by_one = {f"model__layers__0__mlp__experts__{i}__up_proj__weight": [[i]] for i in range(2)}
    for kind, names in (("packed", packed), ("single", one_by_one)):
        parents = [small(place / f"{kind}{i}", **names) for i in range(2)]
        hubmerge.merge(linear(*parents), place / kind)
        assert set(zoo.read_model(place / kind)) == {name.replace("__", ".") for name in names}


def test_nothing_that_is_installed_is_pinned() -> None:
    """Exact pins of mergekit's made it impossible to keep other versions beside it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dependencies"]
    assert not [line for line in project["dependencies"] if "==" in line or "<" in line]


def test_an_adapter_is_no_whole_model_on_the_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mergekit writes model+lora as a full model, into a folder that has to be named; nine adapters are nine models."""
    monkeypatch.setenv("HUBMERGE_CACHE", str(place / "cache"))
    before = zoo.contents(Path("llama-lora"))
    hubmerge.merge(linear("./llama-base+./llama-lora", "./llama-math"), place / "out")
    assert zoo.names(place) == ["out"]
    assert zoo.contents(Path("llama-lora")) == before


def test_adapters_are_merged_as_products_not_factor_by_factor(place: Path) -> None:
    """PEFT's linear combines A with A and B with B: (B1 + B2)(A1 + A2) has terms that nobody trained.

    By hand: B1 A1 = 2 at (0, 0), B2 A2 = 3 at (1, 1); the mean of both is 1 and 1.5, and there is nothing at (0, 1).
    """
    small(place / "base", q__weight=np.zeros((2, 2)))
    for name, at, value in (("one", 0, 2.0), ("two", 1, 3.0)):
        a, b = np.zeros((1, 2), "float32"), np.zeros((2, 1), "float32")
        a[0, at], b[at, 0] = 1, value
        zoo.write_adapter(place / name, {"q.lora_A.weight": a, "q.lora_B.weight": b}, r=1, lora_alpha=1)
    hubmerge.merge(linear(f"{place}/base+{place}/one", f"{place}/base+{place}/two"), place / "out")
    assert zoo.read_model(place / "out")["q.weight"].tolist() == [[1, 0], [0, 1.5]]


def test_ranks_and_scales_of_single_modules_are_those_of_the_adapter(place: Path) -> None:
    """PEFT loses rank_pattern when it adds adapters and over-scales rslora; here alpha over the root of the module's own rank.

    By hand: rank 4 of ones, alpha_pattern 6: 6 / 2 * 4 = 12; rank 1, alpha 5: 5.
    """
    small(place / "base", k__weight=[[0]], q__weight=[[0]])
    factors = {f"{name}.lora_A.weight": np.ones((rank, 1), "float32") for name, rank in (("q", 4), ("k", 1))}
    factors |= {f"{name}.lora_B.weight": np.ones((1, rank), "float32") for name, rank in (("q", 4), ("k", 1))}
    zoo.write_adapter(
        place / "lora", factors, r=1, lora_alpha=5, rank_pattern={"q": 4}, alpha_pattern={"q": 6}, use_rslora=True
    )
    hubmerge.merge(linear(f"{place}/base+{place}/lora"), place / "out")
    assert {name: values.item() for name, values in zoo.read_model(place / "out").items()} == {
        "k.weight": 5,
        "q.weight": 12,
    }


@pytest.mark.parametrize(
    ("keys", "written"), [({}, "F32"), ({"dtype": "bfloat16"}, "BF16"), ({"out_dtype": "float16"}, "F16")]
)
def test_the_type_that_is_asked_for_is_written_and_the_config_says_it(
    place: Path, keys: dict[str, str], written: str
) -> None:
    """dtype was ignored, or float32 was written under a config that said bfloat16."""
    manifest = hubmerge.merge(linear("./llama-math", "./llama16-code", **keys), place / "out")
    assert {zoo.STORED[values.dtype.name] for values in zoo.read_model(place / "out").values()} == {written}
    config = json.loads((place / "out" / "config.json").read_text())
    assert config["dtype"] == manifest.dtype == {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}[written]


def test_everything_that_a_model_needs_goes_along_and_other_configs_are_told(place: Path) -> None:
    """generation_config, code and processors were left behind, and another max_position_embeddings was not mentioned."""
    files = {
        "generation_config.json": "{}", "modeling_own.py": "x = 1", "preprocessor_config.json": "{}", "tokenizer.json": "{}",
        "chat_template.jinja": "{{ x }}", "notes.txt": "mine",
    }  # fmt: skip
    first = small(place / "a", {**zoo.CONFIG, "max_position_embeddings": 64}, files, w=[[1]])
    second = small(place / "b", {**zoo.CONFIG, "max_position_embeddings": 128}, w=[[2]])
    plan = hubmerge.build_plan(linear(first, second))
    assert {file.name for file in plan.carried} == set(files) - {"notes.txt"}
    assert plan.left == ("notes.txt",)
    assert f"config.json is that of {first}; {second} has max_position_embeddings 128 for its 64" in plan.warnings


def test_both_elections_of_ties_can_be_asked_for(place: Path) -> None:
    """In mergekit `weight` also decides the election of signs, which differs from the paper and from PEFT.

    By hand: deltas 1 and -2 with weights 3 and 1.  Weighted, 3 against -2: plus wins, (3 * 1) / 3 = 1.  Plain, 1 against -2:
    minus wins, (1 * -2) / 1 = -2.
    """
    models = [
        {"model": str(small(place / f"m{i}", w=[[d]])), "parameters": {"weight": w}}
        for i, d, w in ((1, 1, 3), (2, -2, 1))
    ]
    asked = {"merge_method": "ties", "base_model": str(small(place / "base", w=[[0]])), "models": models}
    for elect, expected in (("weighted", 1), ("plain", -2)):
        hubmerge.merge({**asked, "parameters": {"elect": elect}}, place / elect)
        assert zoo.read_model(place / elect)["w"].item() == expected
    hubmerge.merge(asked, place / "default")
    assert zoo.read_model(place / "default")["w"].item() == 1


def test_the_models_of_these_tests_are_the_ones_that_the_recipes_name() -> None:
    """Two spellings of a model would make a fault of the tests look like one of mergekit's."""
    assert all(Path(name).is_dir() for name in parity_models.MODELS)
