"""README.md as text and as a card of huggingface_hub: what cannot be read as one is refused in words."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from cards.errors import CardError

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

__all__ = ["MAX_CARD_BYTES", "parse_card", "read_card"]

MAX_CARD_BYTES = 10_000_000
"""Bytes of the largest card that is read; the Hub's long ones have some hundred thousand."""


def read_card(path: Path) -> str:
    """The text of the card at `path`, line ends as newlines.

    Raises `CardError` when there is none, when it is a folder or a device (or a link to one), larger than
    `MAX_CARD_BYTES`, or not UTF-8.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise CardError(f"{path.name} is {what}", where=str(path), hint="move it away, and write the card anew")
        if status.st_size > MAX_CARD_BYTES:
            raise CardError(
                f"{path.name} has {status.st_size:,} bytes, and at most {MAX_CARD_BYTES:,} are read",
                where=str(path),
                hint="keep the card short, and put the rest into files of its own",
            )
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CardError(
            f"{path.name} cannot be read ({error.strerror})", where=str(path), hint="check its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise CardError(
            f"{path.name} is not UTF-8 (byte {error.start})",
            where=str(path),
            hint="save it as UTF-8, or replace it with `hubmerge card OUT --overwrite`",
        ) from error


def parse_card(text: str) -> ModelCard:
    """The card that `text` is; `CardError` when its metadata cannot be read or cannot be written again."""
    from huggingface_hub import ModelCard

    try:
        card = ModelCard(text)
        _ = card.content  # metadata of odd types are read, and fail only here
    except Exception as error:  # a strange front matter lets the card's class fail in every way there is
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CardError(
            f"the card's metadata cannot be read ({reason})",
            where="README.md",
            hint="mend the YAML between the two lines of ---",
        ) from error
    return card
