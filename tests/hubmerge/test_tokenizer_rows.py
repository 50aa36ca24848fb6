"""Embeddings and heads of different vocabularies, merged token by token: rows worked by hand.

The expected numbers were compared with those of mergekit 0.1.5 by token; ids of its union differ from run to run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vocabularies import EMBED, HEAD, rows_by_token, word_model
from zoo import numbers, read_model, write_adapter

from hubmerge import build_plan, merge, verify_merge
from hubmerge.errors import MergeError, PlanError


@pytest.fixture(autouse=True)
def three_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """base: rows 100 to 103; p: 200 to 204; q: 300 to 306, the last for a special token."""
    monkeypatch.chdir(tmp_path)
    word_model(Path("base"), ["<unk>", "a", "b", "c"], 100)
    word_model(Path("p"), ["<unk>", "c", "a", "x", "y"], 200)
    word_model(Path("q"), ["<unk>", "b", "z", "y", "x", "w"], 300, special=["<|im_start|>"])


def recipe(*models: str, base: str | None = "./base", method: str = "linear", **rest: Any) -> dict[str, Any]:
    weight = {"parameters": {"weight": 1}} if method != "slerp" else {}
    rows = [{"model": f"./{name}", **weight} for name in models]
    given = {"merge_method": method, "base_model": base, "models": rows, **rest}
    return {key: value for key, value in given.items() if value is not None}


def merged(*models: str, **rest: Any) -> dict[str, float]:
    merge(recipe(*models, **rest), "out", jobs=1, overwrite=True)
    rows = rows_by_token(Path("out"))
    heads = rows_by_token(Path("out"), HEAD)
    assert json.loads(Path("out/config.json").read_text())["vocab_size"] == len(read_model(Path("out"))[EMBED])
    assert heads == {token: -value for token, value in rows.items()}
    return rows


def faults(*models: str, **rest: Any) -> list[str]:
    with pytest.raises(PlanError) as caught:
        build_plan(recipe(*models, **rest))
    return [str(fault) for fault in caught.value.faults]


def test_a_union_keeps_the_bases_ids_and_adds_the_others_tokens_in_order() -> None:
    assert merged("base", "p", "q", tokenizer_source="union") == {
        "<unk>": (100 + 200 + 300) / 3,
        "a": np.float32((101 + 202 + 101) / 3),  # q lacks a, so the base's row stands in
        "b": np.float32((102 + 102 + 301) / 3),
        "c": np.float32((103 + 201 + 103) / 3),
        "x": (203 + 304) / 2,  # the base lacks x: the mean of those that have it
        "y": (204 + 303) / 2,
        "z": 302,  # only q has it
        "w": 305,
        "<|im_start|>": 306,
    }


def test_the_bases_vocabulary_drops_what_it_does_not_have() -> None:
    expected = {"<unk>": 150, "a": (101 + 202) / 2, "b": 102, "c": (103 + 201) / 2}
    assert merged("base", "p", tokenizer_source="base") == expected
    assert merged("base", "p", tokenizer={"source": "base"}) == expected


def test_one_models_vocabulary_is_taken_with_its_ids() -> None:
    assert merged("base", "q", tokenizer_source="./q") == {
        "<unk>": 200, "b": (102 + 301) / 2, "z": 302, "y": 303, "x": 304, "w": 305, "<|im_start|>": 306,
    }  # fmt: skip


def test_an_empty_tokenizer_is_the_union() -> None:
    assert list(merged("base", "p", tokenizer={})) == ["<unk>", "a", "b", "c", "x", "y"]


def test_without_a_base_the_first_model_is_first_and_lacking_rows_are_means() -> None:
    rows = merged("p", "base", "q", base=None, tokenizer={"source": "union"})
    assert list(rows) == ["<unk>", "c", "a", "x", "y", "b", "z", "w", "<|im_start|>"]
    assert rows["a"] == 151.5  # q is given the mean of 202 and 101


def test_deltas_are_taken_between_rows_of_one_token() -> None:
    # y: the base is given (204 + 303) / 2 = 253.5, so the deltas are -49.5 and 49.5, and the sign elected is plus
    rows = {token: value for token, value in _ties().items() if token in {"<unk>", "a", "z"}}
    assert rows == {"<unk>": 100 + 150, "a": 202, "z": 302}


def _ties() -> dict[str, float]:
    merge(recipe("p", "q", method="ties", tokenizer_source="union"), "out", jobs=1)
    assert rows_by_token(Path("out"))["y"] == 303
    assert rows_by_token(Path("out"), HEAD)["y"] == -204
    return rows_by_token(Path("out"))


def test_the_recipe_says_where_the_rows_of_single_tokens_come_from() -> None:
    tokens = {
        "y": {"source": "./q"},  # for the base, which lacks it
        "x": {"source": "./q", "force": True},
        "z": {"source": {"kind": "zero"}},
        "c": {"source": {"kind": "zero"}, "force": True},
        "new1": {"source": {"kind": "model_token", "model": "./p", "token": "x"}},
        "new2": {"source": {"kind": "model_token", "model": "./p", "token_id": 2}},
        "new3": {"source": {"kind": "zero"}},
    }
    rows = merged("base", "p", "q", tokenizer={"source": "union", "tokens": tokens})
    assert {token: rows[token] for token in tokens} == {
        "y": (303 + 204 + 303) / 3,
        "x": 304,
        "z": np.float32(302 / 3),
        "c": 0,
        "new1": 203,
        "new2": 202,
        "new3": 0,
    }
    assert list(rows)[-3:] == ["new1", "new2", "new3"]


def test_a_token_that_only_another_model_has_can_be_added_to_the_bases_vocabulary() -> None:
    rows = merged("base", "p", "q", tokenizer={"source": "base", "tokens": {"z": {}, "<|im_start|>": {}}})
    assert list(rows)[4:] == ["z", "<|im_start|>"]
    document = json.loads(Path("out/tokenizer.json").read_text())
    assert [(row["content"], row["special"]) for row in document["added_tokens"]] == [
        ("z", False),
        ("<|im_start|>", True),
    ]


def test_padding_rows_are_the_mean_of_each_models_rows() -> None:
    tokenizer = {"source": "union", "pad_to_multiple_of": 8}
    merge(recipe("base", "p", tokenizer=tokenizer), "out", jobs=1)
    values = numbers(read_model(Path("out"))[EMBED])
    base = np.array([100, 101, 102, 103, 203, 204]).mean()
    parent = np.array([200, 202, 102, 201, 203, 204]).mean()
    assert values.shape == (8, 3)
    np.testing.assert_allclose(values[6:], (base + parent) / 2, rtol=1e-6)
    assert json.loads(Path("out/config.json").read_text())["vocab_size"] == 8


def test_rows_beyond_the_tokens_are_left_out() -> None:
    word_model(Path("padded"), ["<unk>", "c", "a", "x", "y"], 400, rows=8)
    assert merged("base", "padded", tokenizer_source="union")["y"] == 404
    assert merged("padded", "p", base="./padded", tokenizer_source="base") == {
        "<unk>": 300, "c": 301, "a": 302, "x": 303, "y": 304,
    }  # fmt: skip


def test_a_token_without_a_row_counts_as_lacking() -> None:
    word_model(Path("few"), ["<unk>", "c", "a", "x", "y"], 400, rows=4)
    assert merged("p", "few", base="./p", tokenizer_source="base")["y"] == 204
    assert "./few: 1 of its tokens have no row in its embeddings and are taken as unknown to it" in (
        build_plan(recipe("p", "few", base="./p", tokenizer_source="base")).warnings
    )


def test_a_model_without_a_tokenizer_is_taken_to_have_the_bases() -> None:
    word_model(Path("bare"), None, 500, rows=4)
    assert merged("base", "bare", "p", tokenizer_source="union")["b"] == np.float32((102 + 502 + 102) / 3)
    assert build_plan(recipe("base", "bare", tokenizer_source="union")).warnings == (
        "./bare has no tokenizer and is taken to have that of ./base",
    )


def test_a_model_without_a_tokenizer_and_with_too_few_rows_is_refused_by_name() -> None:
    word_model(Path("bare"), None, 500, rows=3)
    assert faults("base", "bare", tokenizer_source="union") == [
        "it has no tokenizer, and 3 rows for the 4 tokens of ./base · ./bare · save its tokenizer with it"
    ]
    assert faults("p", "bare", base=None, tokenizer_source="union") == [
        "it has no tokenizer · ./bare · name the base_model whose tokenizer it has, or save a tokenizer with it"
    ]


def test_the_embeddings_of_a_tied_model_stand_for_its_head_token_by_token() -> None:
    word_model(Path("tied"), ["<unk>", "c", "a", "x"], 600, tied=True)
    merge(recipe("base", "tied", tokenizer_source="union"), "out", jobs=1)
    assert rows_by_token(Path("out"), HEAD)["c"] == (-103 + 601) / 2
    assert rows_by_token(Path("out"), HEAD)["x"] == 603


def test_biases_and_heads_under_other_names_follow_the_vocabulary() -> None:
    names = ("transformer.wte.weight", "cls.predictions.decoder.bias", "lm_head.bias", "strange.head")
    for folder, start in (("a", 0.0), ("b", 10.0)):
        tokens = ["<unk>", "u", "v", "s"] if folder == "a" else ["v", "<unk>", "w", "u", "r"]
        column = start + np.arange(len(tokens), dtype=np.float32)
        shapes = {names[0]: (-1, 1), names[1]: (-1,), names[2]: (1, -1), names[3]: (-1, 1)}
        tensors = {name: column.reshape(shape) for name, shape in shapes.items()}
        word_model(Path(folder), tokens, start, tensors={**tensors, "other": np.zeros(7, np.float32)})
    merge(recipe("a", "b", base=None, tokenizer_source="union"), "out", jobs=1)
    values = read_model(Path("out"))
    for name in names:
        assert values[name].ravel().tolist() == [(0 + 11) / 2, (1 + 13) / 2, (2 + 10) / 2, 3, 12, 14]
    assert values[names[2]].shape == (1, 6)


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
def test_equal_vocabularies_in_another_order_merge_as_if_they_had_one_order(stored: str) -> None:
    order = np.random.default_rng(0).permutation(40)
    tokens = [f"t{i}" for i in range(40)]
    word_model(Path("one"), tokens, 0, stored=stored)
    word_model(Path("other"), [tokens[i] for i in order], 64, stored=stored)
    merge(recipe("one", "other", base=None, tokenizer_source="./one"), "out", jobs=1)
    place = np.argsort(order)
    assert list(rows_by_token(Path("out")).values()) == ((np.arange(40) + 64 + place) / 2).tolist()


def test_rows_of_a_parent_stored_in_another_type_fill_those_that_are_lacking() -> None:
    word_model(Path("half"), ["<unk>", "a", "s"], 8, stored="float16")
    word_model(Path("brief"), ["<unk>", "t", "a"], 16, stored="bfloat16")
    merge(recipe("half", "brief", base=None, tokenizer_source="union"), "out", jobs=1)
    assert rows_by_token(Path("out")) == {"<unk>": 12, "a": 13.5, "s": 10, "t": 17}


def test_an_adapter_on_the_embeddings_moves_with_the_rows() -> None:
    a = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]], np.float32)  # one entry for each id of p
    b = np.ones((3, 1), np.float32)
    factors = {"model.embed_tokens.lora_embedding_A": a, "model.embed_tokens.lora_embedding_B": b}
    write_adapter(Path("lora"), factors, r=1, lora_alpha=10)
    rows = [{"model": "./base", "parameters": {"weight": 1}}, {"model": "./p+./lora", "parameters": {"weight": 1}}]
    merge(
        {"merge_method": "linear", "base_model": "./base", "models": rows, "tokenizer_source": "union"}, "out", jobs=1
    )
    # p with its adapter: 210, 221, 232, 243, 254 for <unk>, c, a, x, y
    assert rows_by_token(Path("out")) == {
        "<unk>": 155, "a": (101 + 232) / 2, "b": 102, "c": (103 + 221) / 2, "x": 243, "y": 254,
    }  # fmt: skip


def test_an_adapter_that_replaces_the_embeddings_moves_with_the_rows() -> None:
    values = np.repeat(np.arange(700, 705, dtype=np.float32)[:, None], 3, axis=1)
    write_adapter(Path("lora"), {"model.embed_tokens.modules_to_save.weight": values})
    rows = [{"model": "./base", "parameters": {"weight": 1}}, {"model": "./p+./lora", "parameters": {"weight": 1}}]
    merge(
        {"merge_method": "linear", "base_model": "./base", "models": rows, "tokenizer_source": "union"}, "out", jobs=1
    )
    assert rows_by_token(Path("out"))["c"] == (103 + 701) / 2


def test_the_bytes_are_the_same_for_any_jobs_and_verify_derives_them_again() -> None:
    rng = np.random.default_rng(1)
    tokens = [f"t{i}" for i in range(3000)]
    for folder, seed in (("one", 1), ("two", 2), ("three", 3)):
        own = [tokens[i] for i in np.random.default_rng(seed).permutation(3000)[:2500]]
        wide = {"model.wide.embed_tokens.weight": rng.standard_normal((2500, 150)).astype(np.float32)}
        word_model(Path(folder), own, seed, tensors=wide)
    tokenizer = {"source": "union", "pad_to_multiple_of": 64}
    asked = recipe("two", "three", base="./one", method="task_arithmetic", tokenizer=tokenizer)
    merge(asked, "single", jobs=1)
    merge(asked, "double", jobs=2)
    assert Path("single/model.safetensors").read_bytes() == Path("double/model.safetensors").read_bytes()
    assert verify_merge("single", reload=False).level == "exact"


def test_a_frankenmerge_fills_rows_from_models_whose_embeddings_it_does_not_take() -> None:
    for folder in ("p", "q"):
        model = read_model(Path(folder))
        layer = {"model.layers.0.mlp.weight": np.ones((3, 3), np.float32)}
        extra = {name: values for name, values in model.items() if name not in {EMBED, HEAD}} | layer
        tokens = ["<unk>", "c", "a", "x", "y"] if folder == "p" else ["<unk>", "b", "z", "y", "x", "w"]
        config = {"num_hidden_layers": 1}
        word_model(Path(folder), tokens, 200 if folder == "p" else 300, tensors=extra, config=config)
    slices = [{"sources": [{"model": f"./{name}", "layer_range": [0, 1]}]} for name in ("p", "q")]
    merge({"merge_method": "passthrough", "slices": slices, "tokenizer_source": "union"}, "out", jobs=1)
    # mergekit writes zeros for b, z, w in the embeddings of p, and for c, a in the head of q
    assert rows_by_token(Path("out")) == {
        "<unk>": 200, "c": 201, "a": 202, "x": 203, "y": 204, "b": 301, "z": 302, "w": 305,
    }  # fmt: skip
    assert rows_by_token(Path("out"), HEAD)["c"] == -201


def test_the_plan_and_the_manifest_tell_what_became_of_the_rows() -> None:
    asked = recipe("base", "p", "q", tokenizer={"source": "union", "pad_to_multiple_of": 4})
    told = (
        "9 tokens: 1 shared, 3 only in ./q; 3 rows of padding",
        "./base: 4 rows of its own, 0 of them moved, 5 filled from ./p (2), ./q (5)",
        "./p: 5 rows of its own, 4 of them moved, 4 filled from ./base (1), ./q (3)",
        "./q: 7 rows of its own, 5 of them moved, 2 filled from ./base (2)",
    )
    plan = build_plan(asked)
    assert plan.vocabulary is not None
    assert (plan.vocabulary.tokens, plan.vocabulary.rows, plan.vocabulary.lines) == (9, 12, told)
    assert all(line in str(plan) for line in told)
    assert plan.to_dict()["vocabulary"]["rows"] == 12
    assert merge(asked, "out", jobs=1).vocabulary == told


def test_a_row_that_is_not_finite_is_blamed_on_the_model_that_stores_it() -> None:
    values = numbers(read_model(Path("q"))[EMBED]).copy()
    values[2, 1] = np.nan  # z, which base and p lack and q fills
    word_model(Path("q"), ["<unk>", "b", "z", "y", "x", "w"], 300, special=["<|im_start|>"], tensors={EMBED: values})
    with pytest.raises(MergeError) as caught:
        merge(recipe("base", "p", "q", tokenizer_source="union"), "out", jobs=1)
    assert caught.value.message == f"tensor {EMBED!r} of ./q is not finite: entry 7 is nan"


def test_faults_of_tokens_are_told_together() -> None:
    tokens = {
        "z": {"source": "./p"},
        "n": {},
        "a": {"force": True},
        "k": {"source": {"kind": "model_token", "model": "./p", "token_id": 5}},
        "m": {"source": "./stranger"},
    }
    form = "{kind: model_token, model: ..., token: ...}"
    said = f"write source: a model, {form} or {{kind: zero}}"
    assert faults("base", "p", tokenizer={"tokens": tokens}) == [
        "./p has no token 'z' · tokenizer.tokens.z · name a model that has it, or another of its tokens: " + form,
        "no model has the token 'n', so it has no row · tokenizer.tokens.n · " + said,
        "force needs the source of the row that all models are given · tokenizer.tokens.a · " + said,
        "./p has no row 5 · tokenizer.tokens.k · its rows are 0 to 4",
        "./stranger is none of the models · tokenizer.tokens.m · name one of ./base, ./p",
    ]


def test_other_vocabularies_are_refused_with_the_key_that_aligns_them() -> None:
    assert faults("base", "p") == [
        (
            "./base and ./p have different shapes: vocab_size 4 vs 5, model.embed_tokens.weight is [4, 3] vs [5, 3] · 2 tensors · "
            "write tokenizer_source: union, base or one of the models, and rows are merged token by token"
        )
    ]


def test_a_permuted_vocabulary_of_one_size_is_warned_of_with_the_number_of_ids() -> None:
    word_model(Path("swapped"), ["<unk>", "b", "a", "c"], 500)
    assert build_plan(recipe("base", "swapped")).warnings == (
        (
            "./base and ./swapped: 2 of 4 ids stand for different tokens (1 is 'a' and 'b', 2 is 'b' and 'a'); "
            "`tokenizer_source: base` or union aligns rows by token"
        ),
    )
    assert merged("base", "swapped", tokenizer_source="base")["a"] == (101 + 502) / 2
    assert build_plan(recipe("base", "swapped", tokenizer_source="base")).warnings == ()


def test_a_base_that_is_not_named_is_the_first_model_and_noted() -> None:
    plan = build_plan(recipe("p", "base", base=None, tokenizer_source="base"))
    assert plan.warnings == ("no base_model is named; the tokenizer of base is that of ./p, listed first",)
    assert plan.config["vocab_size"] == 5


def test_special_ids_of_the_config_are_those_of_the_vocabulary_that_is_taken() -> None:
    word_model(Path("one"), ["<s>", "</s>", "a"], 0, config={"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1},
               files={"generation_config.json": '{"eos_token_id": 1}'})  # fmt: skip
    word_model(Path("two"), ["a", "<s>", "</s>"], 0, config={"bos_token_id": 1, "eos_token_id": 2},
               files={"generation_config.json": '{"eos_token_id": 2}'})  # fmt: skip
    merge(recipe("one", "two", base=None, tokenizer_source="./two"), "out", jobs=1)
    config = json.loads(Path("out/config.json").read_text())
    assert {key: value for key, value in config.items() if key.endswith("_token_id")} == {
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    assert json.loads(Path("out/generation_config.json").read_text()) == {"eos_token_id": 2}


def test_the_size_is_written_into_the_part_of_the_config_that_has_it() -> None:
    for folder, tokens in (("one", ["<unk>", "a"]), ("two", ["<unk>", "b"])):
        word_model(Path(folder), tokens, 0, config={"text_config": {"vocab_size": 2, "eos_token_id": 1}})
        config = json.loads(Path(folder, "config.json").read_text())
        del config["vocab_size"]
        Path(folder, "config.json").write_text(json.dumps(config))
    config = build_plan(recipe("one", "two", base=None, tokenizer_source="union")).config
    assert config["text_config"] == {"vocab_size": 3, "eos_token_id": 1}
    assert "vocab_size" not in config


def test_one_sentencepiece_file_in_all_models_needs_not_be_understood_and_two_are_refused() -> None:
    for folder, pieces in (("one", "same"), ("two", "same"), ("three", "other")):
        word_model(Path(folder), None, 0, rows=4, files={"tokenizer.model": pieces})
    plan = build_plan(recipe("one", "two", base=None, tokenizer_source="union"))
    assert [file.name for file in plan.carried] == ["tokenizer.model"]
    assert [fault.split(" · ")[0] for fault in faults("one", "three", base=None, tokenizer_source="union")] == [
        "its tokenizer is only there as tokenizer.model"
    ] * 2


def test_tokens_are_not_added_to_a_tokenizer_without_tokenizer_json() -> None:
    files = {"vocab.json": json.dumps({"<unk>": 0, "a": 1}), "merges.txt": ""}
    word_model(Path("old"), None, 0, rows=2, files=files)
    assert faults("old", "p", base=None, tokenizer_source="union") == [
        (
            "tokens cannot be added to a tokenizer without tokenizer.json · ./old · "
            "AutoTokenizer.from_pretrained('./old').save_pretrained(...) writes one"
        )
    ]
    plan = build_plan(recipe("old", "p", base=None, tokenizer_source="base"))
    assert [file.name for file in plan.carried] == ["merges.txt", "vocab.json"]
    assert plan.config["vocab_size"] == 2


def test_the_plans_hash_changes_with_the_tokens_of_a_parent() -> None:
    asked = recipe("base", "p", tokenizer_source="base")
    before = build_plan(asked).hash
    word_model(Path("p"), ["<unk>", "c", "a", "y", "x"], 200)
    assert build_plan(asked).hash == before  # x and y are in neither
    word_model(Path("p"), ["<unk>", "a", "c", "x", "y"], 200)
    assert build_plan(asked).hash != before
