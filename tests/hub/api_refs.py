"""Branches, tags, the list of commits, and squashing them."""

from __future__ import annotations

from typing import Any

from hub.facts import iso
from hub.pages import offset_page
from hub.routes import Routes
from hub.state import HubState
from hub.wire import Refusal, Request, Response, json_response

__all__ = ["ROUTES"]

ROUTES = Routes()


@ROUTES.on("GET", "/api/{kind}/{repo}/refs")
def refs(state: HubState, request: Request) -> Response:
    repository = state.repository(request)

    def rows(start: str, cut: str) -> list[dict[str, str]]:
        found = sorted((ref, commit) for ref, commit in repository.refs.items() if ref.startswith(start))
        return [{"name": ref.removeprefix(cut), "ref": ref, "targetCommit": commit} for ref, commit in found]

    value: dict[str, Any] = {
        "branches": rows("refs/heads/", "refs/heads/"),
        "converts": [],
        "tags": rows("refs/tags/", "refs/tags/"),
    }
    if request.flag("include_prs"):
        value["pullRequests"] = rows("refs/pr/", "")
    return json_response(value)


@ROUTES.on("GET", "/api/{kind}/{repo}/commits/{rev}")
def commits(state: HubState, request: Request) -> Response:
    repository = state.repository(request)
    formatted = "formatted" in request.values("expand")
    rows = []
    for commit in repository.history(repository.commit_of(request.fields["rev"])):
        row: dict[str, Any] = {
            "id": commit.id,
            "title": commit.title,
            "message": commit.message,
            "authors": [{"user": commit.author, "avatar": f"/avatars/{commit.author}.svg"}],
            "date": iso(commit.date),
        }
        if formatted:
            row["formatted"] = {"title": commit.title, "message": commit.message}
        rows.append(row)
    return offset_page(state, request, rows, state.settings.commit_page)


@ROUTES.on("POST", "/api/{kind}/{repo}/branch/{name}")
def create_branch(state: HubState, request: Request) -> Response:
    repository, ref = state.writable(request), f"refs/heads/{request.fields['name']}"
    if ref in repository.refs:
        raise Refusal(409, f"Reference already exists: {ref}")
    start = request.json().get("startingPoint") or "main"
    repository.refs[ref] = repository.commit_of(start).id
    return json_response({})


@ROUTES.on("DELETE", "/api/{kind}/{repo}/branch/{name}")
def delete_branch(state: HubState, request: Request) -> Response:
    repository, name = state.writable(request), request.fields["name"]
    if name == "main":
        raise Refusal(403, "Cannot delete the default branch")
    return _delete(repository.refs, f"refs/heads/{name}")


@ROUTES.on("POST", "/api/{kind}/{repo}/tag/{rev}")
def create_tag(state: HubState, request: Request) -> Response:
    repository, value = state.writable(request), request.json()
    ref = f"refs/tags/{value.get('tag', '')}"
    if ref in repository.refs:
        raise Refusal(409, f"Tag reference exists already: {ref}")
    repository.refs[ref] = repository.commit_of(request.fields["rev"]).id
    return json_response({})


@ROUTES.on("DELETE", "/api/{kind}/{repo}/tag/{name}")
def delete_tag(state: HubState, request: Request) -> Response:
    return _delete(state.writable(request).refs, f"refs/tags/{request.fields['name']}")


def _delete(references: dict[str, str], ref: str) -> Response:
    if references.pop(ref, None) is None:
        raise Refusal(404, f"Reference does not exist: {ref}", code="RevisionNotFound")
    return Response(200)


@ROUTES.on("POST", "/api/{kind}/{repo}/super-squash/{rev}")
def super_squash(state: HubState, request: Request) -> Response:
    """Replace a branch's history by one commit with its files."""
    repository, viewer = state.writable(request), state.viewer(request)
    ref = f"refs/heads/{request.fields['rev']}"
    if ref not in repository.refs:
        raise Refusal(404, f"Invalid rev id: {request.fields['rev']}", code="RevisionNotFound")
    files = repository.commits[repository.refs.pop(ref)].tree
    title = request.json().get("message") or "Super-squash"
    repository.add_commit(ref, files, title=title, author=viewer.name, date=state.now())
    return Response(200)
