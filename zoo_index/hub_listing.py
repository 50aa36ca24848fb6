"""Which models the Hub has, by author or by words in the name, and what it tells of each beside its files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from zoo_index.hub_calls import hub_error, is_hub_error
from zoo_index.plain import one_line

__all__ = ["Gated", "HubFacts", "HubModel", "list_hub_models", "read_hub_facts"]

Gated = Literal["auto", "manual"]

_MAX_TAGS = 100


class HubFacts(BaseModel):
    """What the Hub tells of a repository beside its files; downloads and likes change without a commit.

    gated: how access is given, None for a model that everybody may read.  last_modified: UTC, as in ISO 8601.
    tags: the Hub's, which are those of the card and some of its own (``base_model:finetune:org/name``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gated: Gated | None = None
    private: bool = False
    downloads: int | None = None
    likes: int | None = None
    last_modified: str | None = None
    tags: tuple[str, ...] = ()
    pipeline_tag: str | None = None
    library: str | None = None


@dataclass(frozen=True)
class HubModel:
    """One line of a listing: a repository, the commit its main branch is at, and what the Hub tells of it."""

    name: str
    commit: str
    facts: HubFacts


def list_hub_models(
    *, author: str | None = None, search: str | None = None, limit: int | None = None, token: str | None = None
) -> Iterator[HubModel]:
    """The Hub's models of `author` with all words of `search` in their names, most downloaded first, each once.

    Nothing is asked before the first one is taken; a page of up to 1,000 costs one request.  Raises `HubError`.
    """
    from huggingface_hub import HfApi

    seen: set[str] = set()
    pages = HfApi(token=token).list_models(
        author=author,
        search=search,
        limit=limit,
        sort="downloads",
        expand=[
            "sha",
            "gated",
            "private",
            "downloads",
            "likes",
            "lastModified",
            "tags",
            "pipeline_tag",
            "library_name",
        ],
    )
    try:
        for info in pages:
            # a model that gains downloads between two pages is on both
            if info.sha is not None and info.id not in seen:
                seen.add(info.id)
                yield HubModel(info.id, info.sha, read_hub_facts(info))
    except Exception as error:
        if not is_hub_error(error):
            raise
        raise hub_error(f"models of {author}" if author else f"models like {search}", error) from error


def read_hub_facts(info: Any) -> HubFacts:
    """The facts in huggingface_hub's ModelInfo."""
    changed = info.last_modified
    tags = tuple(line for line in map(one_line, info.tags or ()) if line)
    return HubFacts(
        gated=info.gated if info.gated in ("auto", "manual") else None,
        private=bool(info.private),
        downloads=info.downloads,
        likes=info.likes,
        last_modified=changed.astimezone(UTC).isoformat(timespec="seconds") if changed else None,
        tags=tags[:_MAX_TAGS],
        pipeline_tag=one_line(info.pipeline_tag),
        library=one_line(info.library_name),
    )
