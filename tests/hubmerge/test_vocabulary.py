"""Vocabularies, read from the files that models have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from vocabularies import added, words

from hubmerge.errors import PlanError
from hubmerge.vocabulary import Vocabulary, hole, read_vocabulary
from zoo_index import LocalFolder, ModelRef, PinnedRef


def read(folder: Path, **files: Any) -> Vocabulary | None:
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_vocabulary(LocalFolder(folder, PinnedRef(ModelRef.of(str(folder)))), "./m")


def ids(vocabulary: Vocabulary | None) -> dict[str, int]:
    assert vocabulary is not None
    return dict(vocabulary.ids)


def test_a_tokenizer_json_gives_words_and_added_tokens(tmp_path: Path) -> None:
    vocabulary = read(tmp_path, tokenizer__json=words(["a", "b"], ["<s>"]))
    assert ids(vocabulary) == {"a": 0, "b": 1, "<s>": 2}
    assert vocabulary is not None
    assert (vocabulary.size, list(vocabulary.added), vocabulary.document is not None) == (3, ["<s>"], True)


def test_pieces_of_unigram_are_numbered_by_their_place(tmp_path: Path) -> None:
    document = {"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["▁a", -1.0]]}, "added_tokens": []}
    assert ids(read(tmp_path, tokenizer__json=document)) == {"<unk>": 0, "▁a": 1}


def test_the_files_of_gpt2_and_bert_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "gpt2").mkdir()
    vocabulary = read(tmp_path / "gpt2", vocab__json={"a": 0, "b": 1}, merges__txt="", added_tokens__json={"<s>": 2})
    assert ids(vocabulary) == {"a": 0, "b": 1, "<s>": 2}
    (tmp_path / "bert").mkdir()
    vocabulary = read(tmp_path / "bert", vocab__txt="[PAD]\n[UNK]\r\na\n")
    assert ids(vocabulary) == {"[PAD]": 0, "[UNK]": 1, "a": 2}
    assert vocabulary is not None
    assert vocabulary.document is None


def test_tokens_that_only_the_settings_add_are_counted(tmp_path: Path) -> None:
    decoder = {"2": {"content": "<s>", "special": True, "__type": "AddedToken"}, "1": {"content": "b"}, "x": {}}
    settings = {"added_tokens_decoder": decoder}
    vocabulary = read(tmp_path, tokenizer__json=words(["a", "b"]), tokenizer_config__json=settings)
    assert ids(vocabulary) == {"a": 0, "b": 1, "<s>": 2}
    assert vocabulary is not None
    assert vocabulary.added["<s>"] == {"content": "<s>", "special": True, "id": 2}


def test_ids_that_no_token_has_are_named_so_that_their_rows_stay(tmp_path: Path) -> None:
    document = {"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 3}}, "added_tokens": [added("<s>", 4)]}
    assert ids(read(tmp_path, tokenizer__json=document)) == {"a": 0, "b": 3, "<s>": 4, hole(1): 1, hole(2): 2}


def test_a_folder_without_a_tokenizer_has_no_vocabulary(tmp_path: Path) -> None:
    assert read(tmp_path, merges__txt="") is None


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"tokenizer__json": "{"}, "tokenizer.json cannot be read · ./m · fetch or save it again"),
        ({"tokenizer__json": "[1]"}, "tokenizer.json cannot be read · ./m · fetch or save it again"),
        ({"tokenizer__json": "{}"}, "tokenizer.json has no vocabulary that can be read · ./m · fetch or save it again"),
        (
            {"vocab__json": {"a": 0, "b": 10**9}},
            "its tokenizer has 2 tokens with ids up to 1,000,000,000 · ./m · fetch or save it again",
        ),
        ({"vocab__json": {"a": "b"}}, "its tokenizer has no tokens · ./m · fetch or save it again"),
        (
            {"tokenizer__model": "x"},
            (
                "its tokenizer is only there as tokenizer.model · ./m · save it with transformers: "
                "AutoTokenizer.from_pretrained(./m).save_pretrained(./m) writes tokenizer.json"
            ),
        ),
    ],
)
def test_files_that_cannot_be_understood_are_refused(tmp_path: Path, files: dict[str, Any], fault: str) -> None:
    with pytest.raises(PlanError) as caught:
        read(tmp_path, **files)
    assert str(caught.value) == fault
