"""The tokenizer of a merge as data: one model's tokenizer.json with the tokens added that it lacks.

What a union does.  The first model keeps its ids, merges and rules; tokens that only others have come after them, in
the order of the models and of their ids.  Special and other added tokens stay what they are, with their flags.  An
ordinary token goes into the vocabulary of the model, and with it the merges (BPE) or the score (Unigram) that make
text reach it.  Where the two tokenizers cut text in different ways (BPE of bytes and of letters, BPE and Unigram) no
rule of the other can be taken over: such tokens have ids, rows and a text to decode to, but no text is encoded to them.
mergekit adds all of them as added tokens, which match anywhere in a text, and so cut words of the first model's text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubmerge.vocabulary import Vocabulary, hole

__all__ = ["NewToken", "alike", "extended_document", "extended_settings", "union_tokens"]

_LOWEST = -20.0
"""How far below all others the score of a piece lies that Unigram must never choose."""
_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that the first tokenizer lacks.

    number: its id in the merge.  holder: position of the vocabulary that its rules come from, None when none has it.
    flags: as an added token, matched in the text before it is split; None for an ordinary one.
    """

    token: str
    number: int
    holder: int | None
    flags: Mapping[str, Any] | None


def union_tokens(vocabularies: Sequence[Vocabulary], rows: Sequence[int], start: int) -> list[NewToken]:
    """The tokens that only later vocabularies have, with ids from `start` on: by vocabulary, then by its ids.

    rows: how many rows each model has; a token whose id is beyond them has no row and is left out.
    """
    known = set(vocabularies[0].ids)
    found: list[NewToken] = []
    for holder, vocabulary in enumerate(vocabularies[1:], start=1):
        own = sorted(vocabulary.ids.items(), key=lambda pair: pair[1])
        for token, number in own:
            if token not in known and number < rows[holder] and token != hole(number):
                known.add(token)
                found.append(NewToken(token, start + len(found), holder, vocabulary.added.get(token)))
    return found


def alike(first: Vocabulary, other: Vocabulary) -> bool:
    """Whether two tokenizers cut text by rules of one kind, so that merges and scores of one mean the same in the other."""
    return first.document is not None and other.document is not None and _kind(first.document) == _kind(other.document)


def extended_document(vocabularies: Sequence[Vocabulary], new: Sequence[NewToken]) -> dict[str, Any]:
    """The first vocabulary's tokenizer.json, which it must have, with `new` tokens, whose ids follow one another."""
    first = vocabularies[0]
    document = dict(first.document or {})
    model = document["model"] = dict(document["model"])
    added: list[dict[str, Any]] = list(document.get("added_tokens") or [])
    # tokens that only tokenizer_config.json adds have an id that new ones must not take
    added += [_flags(first.added[token]) for token in first.added if token not in {row["content"] for row in added}]
    ordinary: list[NewToken] = []
    for token in new:
        if token.flags is None:
            ordinary.append(token)
        else:
            added.append({**_flags(token.flags), "id": token.number, "content": token.token})
    if isinstance(model["vocab"], list):
        _extend_pieces(model, vocabularies, new, first, ordinary)
    else:
        # an added token that is not in the model's vocabulary too is given the next free id, whatever the file says
        own = {token: number for token, number in first.ids.items() if token != hole(number)}
        model["vocab"] = {**own, **{token.token: token.number for token in new}}
        if model.get("merges") is not None:
            model["merges"] = [*model["merges"], *_new_merges(model, vocabularies, ordinary)]
    document["added_tokens"] = sorted(added, key=lambda row: int(row["id"]))
    return document


def extended_settings(settings: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any] | None:
    """tokenizer_config.json with the added tokens of a new tokenizer.json; None when it lists none and so says nothing else.

    Where it has added_tokens_decoder, some tokenizers of transformers know no other added tokens.
    """
    if not isinstance(settings.get("added_tokens_decoder"), Mapping):
        return None
    rows = {str(row["id"]): {key: row[key] for key in row if key != "id"} for row in document["added_tokens"]}
    return {**settings, "added_tokens_decoder": {**settings["added_tokens_decoder"], **rows}}


def _flags(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: bool(row.get(name, default)) for name, default in _FLAGS.items()}
    plain = {"id": row.get("id"), "content": row.get("content")}
    return {**plain, **kept, "special": bool(row.get("special", False))}


def _kind(document: Mapping[str, Any]) -> tuple[object, ...]:
    """The type of the model and the alphabet that its tokens are written in."""
    model = document["model"]
    kind = model.get("type") or ("Unigram" if isinstance(model["vocab"], list) else "BPE" if "merges" in model else "")
    rules = json.dumps([document.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")])
    letters = '"ByteLevel"' in rules, "\\u2581" in rules or "Metaspace" in rules
    return (kind, *letters, model.get("continuing_subword_prefix") or None, model.get("end_of_word_suffix") or None)


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right


def _new_merges(
    model: Mapping[str, Any], vocabularies: Sequence[Vocabulary], ordinary: Sequence[NewToken]
) -> list[Any]:
    """The merges of the others that lead to new tokens and have all their parts, after the first's own: it goes on cutting as before."""
    first, vocab = vocabularies[0], model["vocab"]
    known = {_pair(merge) for merge in model["merges"]}
    joined = not model["merges"] or not isinstance(model["merges"][0], str)
    prefix = model.get("continuing_subword_prefix") or ""
    found: list[Any] = []
    for holder, other in enumerate(vocabularies):
        wanted = {token.token for token in ordinary if token.holder == holder}
        if not wanted or not alike(first, other) or other.document is None:
            continue
        # a long token is reached through shorter ones, which may be new or the first's own
        for left, right in map(_pair, other.document["model"].get("merges") or []):
            merged = left + right.removeprefix(prefix)
            if (left, right) not in known and merged in vocab and left in vocab and right in vocab and merged in wanted:
                known.add((left, right))
                found.append([left, right] if joined else f"{left} {right}")
    return found


def _extend_pieces(
    model: dict[str, Any],
    vocabularies: Sequence[Vocabulary],
    new: Sequence[NewToken],
    first: Vocabulary,
    ordinary: Sequence[NewToken],
) -> None:
    """Unigram: the place of a piece is its id, so added tokens get a place too, with a score that is never chosen."""
    pieces: list[Any] = list(model["vocab"])
    never = min((float(row[1]) for row in pieces), default=0.0) + _LOWEST
    named = {number: token for token, number in first.ids.items()} | {token.number: token.token for token in new}
    scores: dict[str, float] = {}
    for holder, other in enumerate(vocabularies):
        if other.document is not None and isinstance(other.document["model"]["vocab"], list) and alike(first, other):
            mine = {token.token for token in ordinary if token.holder == holder}
            scores |= {row[0]: float(row[1]) for row in other.document["model"]["vocab"] if row[0] in mine}
    for number in range(len(pieces), max(named, default=-1) + 1):
        token = named.get(number, hole(number))
        pieces.append([token, scores.get(token, never)])
    model["vocab"] = pieces
