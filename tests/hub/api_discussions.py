"""Discussions and pull requests over the API."""

from __future__ import annotations

from typing import Any

from hub.discussions import Discussion
from hub.facts import iso
from hub.pulls import conflicts, merge, open_pull_request
from hub.repository import Repository
from hub.routes import Routes
from hub.state import HubState
from hub.wire import Refusal, Request, Response, json_response

__all__ = ["ROUTES"]

ROUTES = Routes()

_PAGE = 50


def _summary(repository: Repository, discussion: Discussion) -> dict[str, Any]:
    return {
        "num": discussion.number,
        "author": {"name": discussion.author, "type": "user"},
        "repo": {"name": repository.id, "type": repository.kind.rstrip("s")},
        "title": discussion.title,
        "status": discussion.status,
        "createdAt": iso(discussion.created),
        "isPullRequest": discussion.is_pull_request,
        "numComments": sum(event["type"] == "comment" for event in discussion.events),
        "pinned": False,
    }


@ROUTES.on("GET", "/api/{kind}/{repo}/discussions")
def list_discussions(state: HubState, request: Request) -> Response:
    repository = state.repository(request)
    kind, status, author = request.value("type"), request.value("status"), request.value("author")
    found = [
        discussion
        for discussion in reversed(repository.discussions)
        if (kind in {"", "all"} or discussion.is_pull_request == (kind == "pull_request"))
        and (status in {"", "all"} or (discussion.status in {"open", "draft"}) == (status == "open"))
        and author in {"", discussion.author}
    ]
    start = int(request.value("p", "0")) * _PAGE
    rows = [_summary(repository, discussion) for discussion in found[start : start + _PAGE]]
    return json_response({"discussions": rows, "count": len(found), "start": start})


@ROUTES.on("POST", "/api/{kind}/{repo}/discussions")
def open_discussion(state: HubState, request: Request) -> Response:
    """A discussion, or with ``pullRequest`` an empty pull request, which is a draft until its status is set."""
    repository, viewer, value = state.repository(request), state.user(request), request.json()
    title, text = str(value.get("title", "")), str(value.get("description", ""))
    if len(title) < 3:
        raise Refusal(400, '"title" length must be at least 3 characters long')
    if value.get("pullRequest"):
        made = open_pull_request(state, repository, viewer.name, title, text, repository.head, status="draft")
    else:
        now = state.now()
        made = Discussion(
            len(repository.discussions) + 1, title, viewer.name, now, is_pull_request=False, status="open"
        )
        made.comment(viewer.name, now, text)
        repository.discussions.append(made)
    return json_response(
        {**_summary(repository, made), "url": f"{state.api_url}/{repository.id}/discussions/{made.number}"}
    )


@ROUTES.on("GET", "/api/{kind}/{repo}/discussions/{num}")
def discussion_details(state: HubState, request: Request) -> Response:
    repository = state.repository(request)
    found = repository.discussion(int(request.fields["num"]))
    value = {**_summary(repository, found), "events": found.events}
    if found.is_pull_request:
        value["changes"] = {"base": "refs/heads/main"}
        if found.merge_commit:
            value["changes"]["mergeCommitId"] = found.merge_commit
        value["filesWithConflicts"] = conflicts(repository, found)
        value["diff"] = ""
    return json_response(value)


@ROUTES.on("POST", "/api/{kind}/{repo}/discussions/{num}/comment")
def comment(state: HubState, request: Request) -> Response:
    repository, viewer = state.repository(request), state.user(request)
    found = repository.discussion(int(request.fields["num"]))
    event = found.comment(viewer.name, state.now(), str(request.json().get("comment", "")))
    return json_response({"newMessage": event})


@ROUTES.on("POST", "/api/{kind}/{repo}/discussions/{num}/title")
def rename(state: HubState, request: Request) -> Response:
    found, author = _editable(state, request)
    title = str(request.json().get("title", ""))
    event = found.add_event("title-change", author, state.now(), {"from": found.title, "to": title})
    found.title = title
    return json_response({"newTitle": event})


@ROUTES.on("POST", "/api/{kind}/{repo}/discussions/{num}/status")
def change_status(state: HubState, request: Request) -> Response:
    found, author = _editable(state, request)
    status = str(request.json().get("status", ""))
    if status not in {"open", "closed"} or found.status == "merged":
        raise Refusal(400, f"the status of a {found.status} discussion cannot become {status!r}")
    return json_response({"newStatus": found.set_status(status, author, state.now())})


@ROUTES.on("POST", "/api/{kind}/{repo}/discussions/{num}/merge")
def merge_pull_request(state: HubState, request: Request) -> Response:
    repository, viewer = state.writable(request), state.viewer(request)
    found = repository.discussion(int(request.fields["num"]))
    if not found.is_pull_request:
        raise Refusal(400, "This is a discussion, not a pull request")
    made = merge(state, repository, found, viewer.name)
    return json_response({"mergeCommitId": made.id})


def _editable(state: HubState, request: Request) -> tuple[Discussion, str]:
    """A discussion that the viewer opened or whose repository the viewer may change, and the viewer's name."""
    repository, viewer = state.repository(request), state.user(request)
    found = repository.discussion(int(request.fields["num"]))
    if found.author != viewer.name:
        state.require_write(viewer, repository.namespace)
    return found, viewer.name
