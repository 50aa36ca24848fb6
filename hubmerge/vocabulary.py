"""The vocabulary of a model: which token has which id, read from its tokenizer files as data (no tokenizer is run)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubmerge.errors import PlanError
from zoo_index.source import ModelSource

__all__ = ["Vocabulary", "hole", "read_object", "read_vocabulary"]

_SLOW_ONLY = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model", "tekken.json")
_SPARSEST = 4
_CONVERT = (
    "save it with transformers: AutoTokenizer.from_pretrained(MODEL).save_pretrained(MODEL) writes tokenizer.json"
)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What the ids of one tokenizer mean.

    ids: token -> id; ids below the largest that no token has are there under a name of their own (`hole`), so that every
    id up to `size` has exactly one entry, unless two tokens share an id.  added: those matched in the text before it is
    split, with their flags as tokenizer.json has them.  document: tokenizer.json, None when the model has only older files.
    """

    ids: Mapping[str, int]
    added: Mapping[str, Mapping[str, Any]]
    document: Mapping[str, Any] | None

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self.ids.values(), default=-1) + 1


def hole(number: int) -> str:
    """The name of an id that no token has: no token can be written like it, as it holds a NUL."""
    return f"\0{number}"


def read_vocabulary(source: ModelSource, where: str) -> Vocabulary | None:
    """The vocabulary of a model; None when its folder holds no tokenizer.

    Read are tokenizer.json (BPE, WordPiece, WordLevel, Unigram), else vocab.json or vocab.txt with added_tokens.json, and
    the tokens that tokenizer_config.json adds.  Raises `PlanError` for files that cannot be understood, and for a
    tokenizer that is there only in a form that has to be converted (sentencepiece).
    """
    files = source.files()
    document = None
    if "tokenizer.json" in files:
        document = read_object(source, "tokenizer.json", where)
        ids, added = _fast(document, where)
    elif "vocab.json" in files:
        ids, added = _ids(read_object(source, "vocab.json", where)), {}
    elif "vocab.txt" in files:
        lines = source.read("vocab.txt").decode("utf-8", errors="replace").split("\n")
        ids, added = {line.rstrip("\r"): i for i, line in enumerate(lines) if line or i + 1 < len(lines)}, {}
    else:
        slow = next((name for name in _SLOW_ONLY if name in files), None)
        if slow is None:
            return None
        raise PlanError(f"its tokenizer is only there as {slow}", where=where, hint=_CONVERT.replace("MODEL", where))
    if "added_tokens.json" in files and document is None:
        ids |= _ids(read_object(source, "added_tokens.json", where))
    for content, flags in _declared(source, files, where).items():
        if content not in ids:  # transformers adds it when it loads the tokenizer
            ids[content] = flags["id"]
            added[content] = flags
    if not ids:
        raise PlanError("its tokenizer has no tokens", where=where, hint="fetch or save it again")
    return Vocabulary(_filled(ids, where), added, document)


def _filled(ids: dict[str, int], where: str) -> dict[str, int]:
    """Ids with names for those that no token has; refused when these are most of them, as a row is read for each."""
    taken = set(ids.values())
    size = max(taken) + 1
    if size > _SPARSEST * len(taken) + 1024:
        message = f"its tokenizer has {len(taken):,} tokens with ids up to {size - 1:,}"
        raise PlanError(message, where=where, hint="fetch or save it again")
    return ids | {hole(number): number for number in range(size) if number not in taken}


def _fast(document: Mapping[str, Any], where: str) -> tuple[dict[str, int], dict[str, Mapping[str, Any]]]:
    model = document.get("model")
    vocab = model.get("vocab") if isinstance(model, Mapping) else None
    if isinstance(vocab, Mapping):
        ids = _ids(vocab)
    elif isinstance(vocab, list) and all(isinstance(row, list) and row and isinstance(row[0], str) for row in vocab):
        ids = {row[0]: i for i, row in enumerate(vocab)}
    else:
        raise PlanError("tokenizer.json has no vocabulary that can be read", where=where, hint="fetch or save it again")
    rows = document.get("added_tokens")
    added = {row["content"]: row for row in (rows if isinstance(rows, list) else []) if _is_added(row)}
    return ids | {content: row["id"] for content, row in added.items()}, dict(added)


def _declared(source: ModelSource, files: Mapping[str, int], where: str) -> dict[str, dict[str, Any]]:
    """Tokens of tokenizer_config.json's added_tokens_decoder, with their flags."""
    if "tokenizer_config.json" not in files:
        return {}
    rows = read_object(source, "tokenizer_config.json", where).get("added_tokens_decoder")
    found = {}
    for number, row in rows.items() if isinstance(rows, dict) else ():
        flags = {**row, "id": int(number)} if isinstance(row, dict) and number.isascii() and number.isdigit() else None
        if _is_added(flags) and flags is not None:
            flags.pop("__type", None)
            found[flags["content"]] = flags
    return found


def _is_added(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("content"), str) and _is_id(row.get("id"))


def _is_id(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _ids(vocab: Mapping[str, Any]) -> dict[str, int]:
    return {token: number for token, number in vocab.items() if _is_id(number)}


def read_object(source: ModelSource, name: str, where: str) -> dict[str, Any]:
    """A JSON object among a model's files; `PlanError` for anything else."""
    try:
        value = json.loads(source.read(name).decode("utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise PlanError(f"{name} cannot be read", where=where, hint="fetch or save it again")
    return value
