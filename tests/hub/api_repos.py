"""Accounts and repositories as wholes: who am I, create, delete, move, settings, access."""

from __future__ import annotations

import re
from typing import Any

from hub.accounts import Viewer
from hub.repository import Repository
from hub.routes import Routes
from hub.state import HubState
from hub.wire import Refusal, Request, Response, json_response
from hub.writing import create_repository

__all__ = ["ROUTES"]

ROUTES = Routes()

_NAME = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_][\w.-]{0,95}")
_KINDS = {"model": "models", "dataset": "datasets", "space": "spaces"}


@ROUTES.on("GET", "/api/whoami-v2")
def whoami(state: HubState, request: Request) -> Response:
    viewer = state.user(request)
    organisations = [name for name, members in state.accounts.organisations.items() if viewer.name in members]
    return json_response(
        {
            "type": "user",
            "id": f"{viewer.name}-id",
            "name": viewer.name,
            "fullname": viewer.name.title(),
            "email": f"{viewer.name}@example.org",
            "emailVerified": True,
            "isPro": False,
            "canPay": False,
            "avatarUrl": f"/avatars/{viewer.name}.svg",
            "orgs": [{"type": "org", "name": name, "fullname": name, "roleInOrg": "write"} for name in organisations],
            "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": viewer.role}},
        }
    )


@ROUTES.on("GET", "/api/users/{name}/overview")
def user_overview(state: HubState, request: Request) -> Response:
    name = request.fields["name"]
    if name not in state.accounts.users:
        raise Refusal(404, "This user does not exist")
    models = sum(
        r.namespace == name and not r.private for (kind, _), r in state.repositories.items() if kind == "models"
    )
    return json_response({"user": name, "fullname": name.title(), "type": "user", "numModels": models, "orgs": []})


@ROUTES.on("GET", "/api/organizations/{name}/members")
def organisation_members(state: HubState, request: Request) -> Response:
    name = request.fields["name"]
    if name not in state.accounts.organisations:
        raise Refusal(404, "This organization does not exist")
    members = sorted(state.accounts.organisations[name])
    return json_response([{"user": member, "fullname": member.title(), "avatarUrl": ""} for member in members])


def _named(value: dict[str, Any], viewer: Viewer) -> tuple[str, str]:
    """Kind and id from a body ``{name, organization, type}``."""
    name, kind = str(value.get("name", "")), str(value.get("type") or "model")
    if kind not in _KINDS:
        raise Refusal(400, f'"type" must be one of [{", ".join(_KINDS)}]')
    if not _NAME.fullmatch(name) or name.endswith((".git", ".")):
        raise Refusal(400, f"Invalid repo name: {name}")
    return _KINDS[kind], f"{value.get('organization') or viewer.name}/{name}"


def _address(state: HubState, kind: str, repo: str) -> str:
    return f"{state.api_url}/{'' if kind == 'models' else f'{kind}/'}{repo}"


@ROUTES.on("POST", "/api/repos/create")
def create(state: HubState, request: Request) -> Response:
    value, viewer = request.json(), state.user(request)
    kind, repo = _named(value, viewer)
    state.require_write(viewer, repo.partition("/")[0])
    if state.find(kind, repo) is not None:
        message = f"You already created this {kind.rstrip('s')} repo"
        return json_response({"error": message, "url": _address(state, kind, repo)}, 409)
    private = value.get("visibility") == "private" or value.get("private") is True
    repository = create_repository(state, kind, repo, private=private)
    body = {"url": _address(state, kind, repo), "name": repository.id, "id": repository.number}
    return json_response(body)


def _owned(state: HubState, request: Request, kind: str, repo: str) -> Repository:
    """A repository named in a body, which the viewer may change."""
    viewer, found = state.user(request), state.find(kind, repo)
    if found is None or not state.sees(viewer, found):
        raise Refusal(404, "Repository not found", code="RepoNotFound")
    state.require_write(viewer, found.namespace)
    return found


@ROUTES.on("DELETE", "/api/repos/delete")
def delete(state: HubState, request: Request) -> Response:
    kind, repo = _named(request.json(), state.user(request))
    found = _owned(state, request, kind, repo)
    del state.repositories[kind, found.id.lower()]
    return Response(200)


@ROUTES.on("POST", "/api/repos/move")
def move(state: HubState, request: Request) -> Response:
    value = request.json()
    kind, target = _KINDS[value.get("type") or "model"], str(value["toRepo"])
    found = _owned(state, request, kind, str(value["fromRepo"]))
    state.require_write(state.viewer(request), target.partition("/")[0])
    if state.find(kind, target) is not None:
        raise Refusal(409, f"{target} already exists")
    rename_repository(state, found, target)
    return Response(200)


def rename_repository(state: HubState, repository: Repository, target: str) -> None:
    """Give the repository another id; the old one, and those before it, lead to the new one."""
    kind, old = repository.kind, repository.id
    del state.repositories[kind, old.lower()]
    state.moved = {key: target if name == old else name for key, name in state.moved.items()}
    state.moved[kind, old.lower()] = target
    repository.id = target
    state.repositories[kind, target.lower()] = repository


@ROUTES.on("PUT", "/api/{kind}/{repo}/settings")
def settings(state: HubState, request: Request) -> Response:
    repository, value = state.writable(request), request.json()
    if "gated" in value:
        repository.gated = value["gated"]
    if "visibility" in value or "private" in value:
        repository.private = value.get("visibility") == "private" or value.get("private") is True
    return json_response({"gated": repository.gated, "private": repository.private})


@ROUTES.on("GET", "/api/{kind}/{repo}/auth-check")
def auth_check(state: HubState, request: Request) -> Response:
    state.readable(request)
    return json_response({})


@ROUTES.on("GET", "/api/{kind}/{repo}/auth-check/write")
def auth_check_write(state: HubState, request: Request) -> Response:
    state.writable(request)
    return json_response({})


@ROUTES.on("POST", "/api/{kind}/{repo}/user-access-request/grant")
def grant_access(state: HubState, request: Request) -> Response:
    repository, user = state.writable(request), str(request.json().get("user", ""))
    if user not in state.accounts.users:
        raise Refusal(404, f"The user {user} does not exist")
    if user in repository.granted:
        raise Refusal(400, f"The user {user} already has access")
    repository.granted.add(user)
    return json_response({})


@ROUTES.on("GET", "/api/agent-harnesses")
def agent_harnesses(state: HubState, request: Request) -> Response:
    """The client asks for this list once a day to name itself; the test Hub knows none."""
    return json_response({"standardEnvVars": [], "harnesses": {}})


@ROUTES.on("GET", "/api/telemetry/{path}")
def telemetry(state: HubState, request: Request) -> Response:
    return Response(200)
