"""Which row of another model's embeddings is a token of the base's: by what the tokens stand for, not by their ids.  No torch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hubmerge.token_text import token_texts
from hubmerge.vocabulary import Vocabulary

__all__ = ["TokenRows", "token_rows"]


@dataclass(frozen=True)
class TokenRows:
    """rows: for every row of the base's embeddings the other model's, -1 for none.  shared: how many have one; alone: how many tokens of
    the base have none; left_out: how many of the other's tokens are not the base's.
    """

    rows: NDArray[np.int64] = field(compare=False, repr=False)
    shared: int
    alone: int
    left_out: int


def token_rows(base: Vocabulary, other: Vocabulary, base_rows: int, other_rows: int) -> TokenRows:
    """Align two vocabularies.  base_rows, other_rows: of the embeddings, which may have more than there are tokens, or fewer."""
    ours, theirs = token_texts(base), token_texts(other)
    rows = np.full(base_rows, -1, np.int64)
    for text, number in ours.items():
        found = theirs.get(text, other_rows)
        if number < base_rows and found < other_rows:
            rows[number] = found
    shared = int((rows >= 0).sum())
    tokens = sum(number < base_rows for number in ours.values())
    others = sum(number < other_rows for number in theirs.values())
    return TokenRows(rows, shared, tokens - shared, others - int(np.unique(rows[rows >= 0]).size))
