"""Texts -> token windows for perplexity, so that every token of every text is predicted exactly once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cards.errors import EvaluationError

__all__ = ["Window", "cut_windows"]


@dataclass(frozen=True)
class Window:
    """`tokens[0]` is context only; each of the others is predicted from all before it."""

    tokens: tuple[int, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model reads."""
        return self.tokens[:-1]

    @property
    def targets(self) -> tuple[int, ...]:
        """What it must predict, position by position."""
        return self.tokens[1:]


def cut_windows(texts: list[str], tokenizer: Any, max_length: int, *, where: str) -> tuple[list[Window], int]:
    """Windows that read at most `max_length` tokens, and how many tokens the tokenizer does not know.

    Every text starts a new window with the tokenizer's bos token as context (its eos token when it has no bos);
    the next window of the same text has the previous window's last token as context.  The windows are disjoint
    in what they predict, as in lm-evaluation-harness's rolling log-likelihood.

    Raises `EvaluationError` for a tokenizer with neither bos nor eos: its first tokens could not be predicted, and
    bits per byte would leave them out.
    """
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        hint = "set bos_token or eos_token in its tokenizer_config.json"
        raise EvaluationError(
            "the tokenizer has neither a bos nor an eos token to start a text with", where=where, hint=hint
        )
    windows: list[Window] = []
    unknown = 0
    for text in texts:
        tokens = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        unknown += tokens.count(tokenizer.unk_token_id) if tokenizer.unk_token_id is not None else 0
        stream = [start, *tokens]
        windows.extend(Window(tuple(stream[at : at + max_length + 1])) for at in range(0, len(stream) - 1, max_length))
    if not windows:
        raise EvaluationError("the tokenizer makes no tokens of the texts", where=where, hint="name other data")
    return windows, unknown
