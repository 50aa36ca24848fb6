"""Unions of tokenizers, read by the tokenizers library: ids, flags, and which text is encoded to what."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from vocabularies import added, words

from hubmerge.tokenizer import NewToken, alike, extended_document, extended_settings, union_tokens
from hubmerge.vocabulary import Vocabulary

ROWS = 10**6


def vocabulary(document: Tokenizer | dict[str, Any]) -> Vocabulary:
    raw = json.loads(document.to_str()) if isinstance(document, Tokenizer) else document
    vocab = raw["model"]["vocab"]
    ids = dict(vocab) if isinstance(vocab, dict) else {row[0]: i for i, row in enumerate(vocab)}
    special = {row["content"]: row for row in raw["added_tokens"]}
    return Vocabulary(ids | {token: row["id"] for token, row in special.items()}, special, raw)


def union(*documents: Tokenizer | dict[str, Any]) -> Tokenizer:
    read = [vocabulary(document) for document in documents]
    new = union_tokens(read, [ROWS] * len(read), read[0].size)
    return Tokenizer.from_str(json.dumps(extended_document(read, new)))


def letters(merges: list[tuple[str, str]], text: str = "abcdef") -> Tokenizer:
    vocab = {letter: i for i, letter in enumerate(text)}
    for left, right in merges:
        vocab[left + right] = len(vocab)
    return Tokenizer(models.BPE(vocab=vocab, merges=merges))


def pieces(rows: list[tuple[str, float]]) -> Tokenizer:
    return Tokenizer(models.Unigram([("<unk>", 0.0), *rows], unk_id=0))


def test_the_firsts_ids_stay_and_new_ones_follow_in_the_order_of_models_and_ids() -> None:
    both = union(words(["<unk>", "a"], ["<s>"]), words(["<unk>", "z", "a"]), words(["<unk>", "y", "z"], ["<t>"]))
    ids = both.get_vocab(with_added_tokens=True)
    assert sorted(ids, key=lambda token: ids[token]) == ["<unk>", "a", "<s>", "z", "y", "<t>"]
    assert both.encode("a z <s> y<t>").ids == [1, 3, 2, 4, 5]


def test_a_token_without_a_row_is_no_part_of_a_union() -> None:
    read = [vocabulary(words(["<unk>"])), vocabulary(words(["<unk>", "a", "b"]))]
    assert union_tokens(read, [1, 2], 1) == [NewToken("a", 1, 1, None)]


def test_added_tokens_keep_their_flags_and_ids_though_the_models_vocabulary_grows() -> None:
    first, other = words(["<unk>", "a"], ["<s>", "<e>"]), words(["<unk>", "b", "c"])
    other["added_tokens"] = [{**added("<tool>", 3, special=False), "lstrip": True}]
    both = union(first, other)
    found = dict(both.get_added_tokens_decoder().items())
    assert {number: (t.content, t.special, t.lstrip) for number, t in found.items()} == {
        2: ("<s>", True, False),
        3: ("<e>", True, False),
        6: ("<tool>", False, True),
    }


def test_bpe_reaches_the_others_tokens_by_its_merges_and_cuts_its_own_text_as_before() -> None:
    first = letters([("a", "b"), ("c", "d")])
    other = letters([("e", "f"), ("a", "b"), ("ab", "ef")])
    both = union(first, other)
    assert both.encode("abcd").tokens == first.encode("abcd").tokens == ["ab", "cd"]
    assert first.encode("abef").tokens == ["ab", "e", "f"]
    assert both.encode("abef").tokens == ["abef"]
    assert both.get_vocab()["abef"] == 9  # after six letters, ab, cd and ef


def test_merges_are_written_as_the_first_writes_them() -> None:
    first, other = (json.loads(letters(merges).to_str()) for merges in ([("a", "b")], [("c", "d")]))
    first["model"]["merges"] = ["a b"]
    read = [vocabulary(first), vocabulary(other)]
    document = extended_document(read, union_tokens(read, [ROWS, ROWS], 7))
    assert document["model"]["merges"] == ["a b", "c d"]
    assert first["model"]["merges"] == ["a b"]


def test_unigram_takes_the_others_pieces_with_their_scores() -> None:
    first = pieces([("a", -1.0), ("b", -1.5), ("c", -2.0)])
    both = union(first, pieces([("a", -1.0), ("b", -1.5), ("bc", -1.6), ("x", -3.0)]))
    assert first.encode("abc").tokens == ["a", "b", "c"]
    assert both.encode("abc").tokens == ["a", "bc"]
    assert both.get_vocab()["x"] == 5


def test_unigram_never_cuts_text_into_an_added_token_that_has_a_place_among_its_pieces() -> None:
    first = json.loads(pieces([("a", -1.0), ("b", -9.0)]).to_str())
    first["added_tokens"] = [added("ab", 3)]  # beyond the pieces; in the text "ab" it is matched, inside of words not
    first["added_tokens"][0]["single_word"] = True
    both = union(first, pieces([("a", -1.0), ("c", -2.0)]))
    assert both.get_vocab(with_added_tokens=True) == {"<unk>": 0, "a": 1, "b": 2, "ab": 3, "c": 4}
    assert both.encode("cab").tokens == ["c", "a", "b"]


def test_wordpiece_takes_the_others_words_and_endings() -> None:
    def wordpiece(tokens: list[str]) -> Tokenizer:
        vocab = {token: i for i, token in enumerate(["[UNK]", *tokens])}
        return Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))

    both = union(wordpiece(["play", "##s"]), wordpiece(["play", "##ing"]))
    assert both.encode("playing").tokens == ["play", "##ing"]


def test_tokenizers_of_two_kinds_share_ids_and_no_rules() -> None:
    first = letters([("a", "b")])
    first.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    first.decoder = decoders.ByteLevel()
    other = letters([("a", "b"), ("c", "d")], "abcdef▁")
    other.normalizer = normalizers.Replace(" ", "▁")
    assert not alike(vocabulary(first), vocabulary(other))
    assert not alike(vocabulary(first), vocabulary(pieces([])))
    assert alike(vocabulary(first), vocabulary(first))
    both = union(first, other)
    assert both.get_vocab()["cd"] == 8
    assert both.encode("abcd").tokens == first.encode("abcd").tokens == ["ab", "c", "d"]


@pytest.mark.parametrize(
    "first", [letters([("a", "b")]), pieces([("a", -1.0)]), Tokenizer.from_str(json.dumps(words(["<unk>"])))]
)
def test_a_union_with_itself_adds_nothing(first: Tokenizer) -> None:
    read = vocabulary(first)
    assert union_tokens([read, read], [ROWS, ROWS], read.size) == []


def test_settings_that_list_added_tokens_list_the_new_ones_too() -> None:
    document = {"added_tokens": [added("<s>", 0), added("<t>", 7)]}
    listed = {"added_tokens_decoder": {"0": {"content": "<s>", "special": True}}, "eos_token": "<s>"}
    settings = extended_settings(listed, document)
    assert settings is not None
    assert settings["added_tokens_decoder"]["7"]["content"] == "<t>"
    assert settings["eos_token"] == "<s>"
    assert "7" not in listed["added_tokens_decoder"]
    assert extended_settings({"eos_token": "<s>"}, document) is None
