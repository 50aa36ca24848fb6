"""One repository's facts, and the list of all repositories: filters, order, cursor pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from hub.facts import DATASET_FIELDS, MODEL_FIELDS, Facts, Field
from hub.pages import next_link, read_cursor
from hub.repository import Repository
from hub.routes import Routes
from hub.state import HubState
from hub.wire import Refusal, Request, Response, json_response

__all__ = ["ROUTES"]

ROUTES = Routes()

_INFO = (
    "author sha lastModified private gated disabled tags downloads likes pipeline_tag library_name cardData config "
    "model-index widgetData mask_token transformersInfo safetensors siblings spaces createdAt usedStorage"
)
_LISTED = "likes trendingScore private downloads tags pipeline_tag library_name createdAt"
_LISTED_FULL = f"{_LISTED} author sha lastModified gated disabled siblings"
_SORTS = ("createdAt", "downloads", "lastModified", "likes", "trendingScore")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def _fields(kind: str) -> Mapping[str, Field]:
    return MODEL_FIELDS if kind == "models" else DATASET_FIELDS


def _expanded(request: Request, kind: str) -> list[str]:
    """The names in `expand`, each of which must be known."""
    names = [name for value in request.values("expand") for name in value.split(",")]
    for name in names:
        if name not in _fields(kind):
            allowed = ", ".join(sorted(_fields(kind)))
            raise Refusal(400, f'"expand" must be one of [{allowed}], got "{name}"')
    return names


def _described(facts: Facts, names: Iterable[str]) -> dict[str, Any]:
    """The JSON object of one repository with the wanted fields that have a value."""
    repository, fields = facts.repository, _fields(facts.repository.kind)
    row = {"_id": repository.number, "id": repository.id}
    if repository.kind == "models":
        row["modelId"] = repository.id
    values = {name: fields[name](facts) for name in names if name in fields}
    return {**row, **{name: value for name, value in values.items() if value is not None}}


def _info(state: HubState, request: Request) -> Response:
    repository = state.repository(request)
    commit = repository.commit_of(request.fields.get("rev", "main"))
    facts = Facts(state, repository, commit)
    expanded = _expanded(request, repository.kind)
    row = _described(facts, expanded or _INFO.split())
    if request.flag("blobs"):
        row["siblings"] = facts.siblings(blobs=True)
    if request.flag("securityStatus"):
        row["securityRepoStatus"] = {"scansDone": True, "filesWithIssues": []}
    return json_response(row)


ROUTES.on("GET", "/api/{kind}/{repo}/revision/{rev}")(_info)
LAST = Routes()
"""Tried after every other table: its pattern also fits ``/api/models/name/refs`` of a name without namespace."""
LAST.on("GET", "/api/{kind}/{repo}")(_info)


@ROUTES.on("GET", "/api/{kind}")
def list_repositories(state: HubState, request: Request) -> Response:
    """Visible repositories that fit every filter, by the sort key from large to small, page by page."""
    kind, viewer = request.fields["kind"], state.viewer(request)
    names, sort = _names_listed(request, kind), request.value("sort") or "trendingScore"
    if sort not in _SORTS:
        raise Refusal(400, f'"sort" must be one of [{", ".join(_SORTS)}], got "{sort}"')
    visible = [r for (k, _), r in state.repositories.items() if k == kind and state.sees(viewer, r)]
    found = [facts for r in visible if _fits(facts := Facts(state, r, r.head), request)]
    keyed = sorted(((_order(facts, sort), facts) for facts in found), key=lambda item: item[0], reverse=True)
    cursor, limit = read_cursor(request), request.value("limit")
    if cursor is not None:
        keyed = [(key, facts) for key, facts in keyed if list(key) < cursor]
    size = min(int(limit), state.settings.list_page) if limit.isdigit() else state.settings.list_page
    page = keyed[:size]
    headers = next_link(state, request, page[-1][0]) if len(keyed) > len(page) > 0 else {}
    return json_response([_described(facts, names) for _, facts in page], headers=headers)


def _names_listed(request: Request, kind: str) -> list[str]:
    expanded = _expanded(request, kind)
    if expanded:
        return expanded
    names = (_LISTED_FULL if request.flag("full") else _LISTED).split()
    return names + [name for name in ("cardData", "config") if request.flag(name)]


def _order(facts: Facts, sort: str) -> tuple[Any, str]:
    """The sort key; equal values are ordered by ``_id``, so that a cursor has one place."""
    return (_fields(facts.repository.kind)[sort](facts), facts.repository.number)


def _fits(facts: Facts, request: Request) -> bool:
    repository: Repository = facts.repository
    if (author := request.value("author")) and repository.namespace != author:
        return False
    if any(word not in repository.id.lower() for word in request.value("search").lower().split()):
        return False
    if (gated := request.value("gated")) and bool(repository.gated) != (gated.lower() == "true"):
        return False
    if (task := request.value("pipeline_tag")) and facts.pipeline_tag != task:
        return False
    wanted = [tag for value in request.values("filter") for tag in value.split(",")]
    return all(tag in facts.tags for tag in wanted) and _fits_size(facts, request.value("num_parameters"))


def _fits_size(facts: Facts, limits: str) -> bool:
    """``min:6B,max:128B``: whether the number of parameters, known from safetensors headers, lies between."""
    if not limits:
        return True
    if facts.safetensors is None:
        return False
    total = facts.safetensors["total"]
    for limit in limits.split(","):
        match = re.fullmatch(r"(min|max):(\d+(?:\.\d+)?)([KMBT]?)", limit.strip(), re.IGNORECASE)
        if match is None:
            raise Refusal(400, f'"num_parameters" is not valid: "{limit}"')
        bound = float(match[2]) * _UNITS[match[3].upper()]
        if total < bound if match[1].lower() == "min" else total > bound:
            return False
    return True
