"""Checks that only the Hub can answer: are parents gated or private, and does the card pass its validation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cards.content import Content
from cards.publish_plan import Check
from zoo_index.errors import HubError
from zoo_index.hub_calls import call

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["card_checks", "parent_checks"]


def parent_checks(api: HfApi, content: Content, *, public: bool, yes: bool) -> Iterator[Check]:
    """Parents on the Hub whose access is restricted: one question for each of them."""
    ids = dict.fromkeys(each.hub_id for parent in content.parents for each in parent.models if each.hub_id)
    for name in ids:
        try:
            info = call(name, lambda name=name: api.model_info(name, expand=["gated", "private"]))  # type: ignore[misc]
        except HubError as fault:
            yield Check(name="parents", status="warn", message=f"{fault.message}: {name}", hint=fault.hint)
            continue
        if info.gated:
            what = f"{name} is gated: who may have the merge's {_what(content)} has not accepted its terms"
            hint = (
                f"read them at {api.endpoint}/{name}; gate the repository too in its settings; then publish with --yes"
            )
            yield Check(name="parents", status="warn" if yes else "fail", message=what, where=name, hint=hint)
        if info.private and public:
            what = f"{name} is private, and everyone will read its name"
            what += ", and cannot load this" if content.kind == "recipe" else ""
            yield Check(name="parents", status="warn", message=what, where=name)


def _what(content: Content) -> str:
    return "recipe" if content.kind == "recipe" else "weights"


def card_checks(card: str) -> Iterator[Check]:
    """The Hub's own validation of a card's metadata, one request."""
    from huggingface_hub import ModelCard

    if not card:
        return
    try:
        call("the Hub", lambda: ModelCard(card, ignore_metadata_errors=True).validate(repo_type="model"))
    except ValueError as error:
        for message in _messages(str(error)):
            yield Check(
                name="card",
                status="fail",
                message=f"the Hub refuses the card: {message}",
                where="README.md",
                hint="mend it",
            )


def _messages(answer: str) -> list[str]:
    try:
        return [str(error["message"]) for error in json.loads(answer)["errors"]]
    except (ValueError, KeyError, TypeError):
        return [" ".join(answer.split())[:200]]
