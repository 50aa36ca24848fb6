"""Writing: is the card valid, how is each file to be uploaded, LFS uploads, and the commit itself."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from fnmatch import fnmatch
from math import ceil
from typing import Any

from hub.card_rules import validate_card
from hub.cdn import store_upload, upload_address
from hub.objects import Blob
from hub.pulls import open_pull_request
from hub.repository import Repository
from hub.routes import Routes
from hub.state import HubState
from hub.trees import lfs_entry, regular_entry
from hub.wire import Refusal, Request, Response, json_response
from hub.writing import Add, Change, Delete, apply_changes, is_lfs

__all__ = ["ROUTES"]

ROUTES = Routes()

_LFS_JSON = {"Content-Type": "application/vnd.git-lfs+json"}


@ROUTES.on("POST", "/api/validate-yaml")
def validate_yaml(state: HubState, request: Request) -> Response:
    errors, warnings = validate_card(str(request.json().get("content", "")))
    body = {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
    return json_response(body, 400 if errors else 200)


@ROUTES.on("POST", "/api/{kind}/{repo}/preupload/{rev}")
def preupload(state: HubState, request: Request) -> Response:
    """For each file: LFS or not, ignored or not, and what the branch has at its path (the client skips equal ones)."""
    repository, value = state.contributable(request), request.json()
    tree = repository.commit_of(request.fields["rev"]).tree
    attributes, ignore = value.get("gitAttributes"), value.get("gitIgnore")
    if attributes is None:
        attributes = _text(state, tree, ".gitattributes")
    if ignore is None:
        ignore = _text(state, tree, ".gitignore")
    rows = []
    for file in value.get("files", []):
        path, sample = file["path"], base64.b64decode(file.get("sample", ""))
        lfs = is_lfs(state, attributes, path, file["size"], sample)
        row = {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": _ignored(ignore, path)}
        rows.append({**row, "oid": tree[path].etag} if path in tree else row)
    return json_response({"files": rows})


def _text(state: HubState, tree: Any, path: str) -> str:
    return state.objects.read(tree[path].sha256).decode("utf-8", "replace") if path in tree else ""


def _ignored(rules: str, path: str) -> bool:
    """The plain part of .gitignore: patterns for names, folders and paths; no negation."""
    parts = path.split("/")
    places = [*parts, *("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))]
    patterns = [line.strip().strip("/") for line in rules.splitlines() if line.strip() and line[0] not in "#!"]
    return any(fnmatch(place, pattern) for pattern in patterns for place in places)


@ROUTES.on("POST", "/{prefix}{repo}.git/info/lfs/objects/batch")
def lfs_batch(state: HubState, request: Request) -> Response:
    """Where to upload each LFS content: nowhere when the repository has it, in one piece, or in parts."""
    repository, value = state.repository(request), request.json()
    viewer = state.user(request)
    if viewer.role != "write":
        raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
    transfers = value.get("transfers") or ["basic"]
    rows, parts_used = [], False
    for item in value.get("objects", []):
        row: dict[str, Any] = {"oid": item["oid"], "size": item["size"]}
        rows.append(row)
        if item["oid"] in repository.lfs:
            continue
        upload: dict[str, Any] = {"href": upload_address(state, repository, item["oid"])}
        count = ceil(item["size"] / state.settings.part_size)
        if count > 1 and "multipart" in transfers:
            parts_used = True
            addresses = {
                f"{part:05d}": upload_address(state, repository, item["oid"], part) for part in range(1, count + 1)
            }
            upload["header"] = {"chunk_size": str(state.settings.part_size), **addresses}
            upload["href"] = _endpoint(state, repository, "complete_multipart")
        row["actions"] = {"upload": upload, "verify": {"href": _endpoint(state, repository, "verify"), "header": {}}}
    transfer = "multipart" if parts_used else "basic"
    return json_response({"transfer": transfer, "objects": rows}, headers=_LFS_JSON)


def _endpoint(state: HubState, repository: Repository, name: str) -> str:
    return f"{state.api_url}/api/{repository.kind}/{repository.id}/lfs/{name}"


@ROUTES.on("POST", "/api/{kind}/{repo}/lfs/complete_multipart")
def complete_multipart(state: HubState, request: Request) -> Response:
    """Join the parts named in the body, which comes without a token, as the address is secret on the real Hub."""
    value = request.json()
    sha256, parts = str(value.get("oid")), state.uploads.pop(str(value.get("oid")), {})
    numbers = [part["partNumber"] for part in value.get("parts", [])]
    if not numbers or numbers != sorted(parts):
        raise Refusal(400, f"InvalidPart: parts {sorted(parts)} were uploaded, {numbers} are to be joined")
    joined = state.parts / sha256
    with joined.open("wb") as target:
        for number in numbers:
            target.write(parts[number].read_bytes())
            parts[number].unlink()
    try:
        with joined.open("rb") as content:
            store_upload(state, request.fields["kind"], request.fields["repo"], sha256, content)
    finally:
        joined.unlink()
    return json_response({"success": True})


@ROUTES.on("POST", "/api/{kind}/{repo}/lfs/verify")
def lfs_verify(state: HubState, request: Request) -> Response:
    """Whether an upload has arrived whole."""
    repository, viewer, value = state.repository(request), state.user(request), request.json()
    if viewer.role != "write":
        raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
    sha256 = str(value.get("oid"))
    if sha256 not in repository.lfs or state.objects.path(sha256).stat().st_size != value.get("size"):
        raise Refusal(404, f"Object {sha256} was not uploaded, or has another size")
    return json_response({"success": True})


@ROUTES.on("POST", "/api/{kind}/{repo}/commit/{rev}")
def commit(state: HubState, request: Request) -> Response:
    """All changes in one commit, or none: 412 when the named parent is no longer the newest commit."""
    repository, viewer = state.contributable(request), state.viewer(request)
    header, changes = _parsed(state, repository, request.content())
    base = repository.commit_of(request.fields["rev"])
    parent = header.get("parentCommit")
    if parent and not base.id.startswith(parent):
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    title, message = str(header.get("summary") or "Update"), str(header.get("description") or "")
    body: dict[str, Any] = {"success": True, "hookOutput": ""}
    if request.flag("create_pr"):
        discussion = open_pull_request(state, repository, viewer.name, title, message, base)
        ref, start = discussion.ref, base
    else:
        found = repository.ref(request.fields["rev"])
        if found is None or found.startswith("refs/tags/"):
            raise Refusal(400, f"{request.fields['rev']} is not a branch")
        ref, start, discussion = found, None, None
    try:
        made = apply_changes(
            state, repository, ref, changes, title=title, message=message, author=viewer.name, start=start
        )
    except Refusal:
        if discussion is not None:
            repository.discussions.pop()
            repository.refs.pop(ref, None)
        raise
    address = f"{state.api_url}/{'' if repository.kind == 'models' else f'{repository.kind}/'}{repository.id}"
    if discussion is not None:
        discussion.add_event("commit", viewer.name, made.date, {"subject": title, "oid": made.id})
        body["pullRequestUrl"] = f"{address}/discussions/{discussion.number}"
    return json_response({**body, "commitOid": made.id, "commitUrl": f"{address}/commit/{made.id}"})


def _parsed(state: HubState, repository: Repository, raw: bytes) -> tuple[dict[str, Any], list[Change]]:
    try:
        lines = [json.loads(line) for line in raw.splitlines() if line.strip()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        changes = [c for line in lines if line["key"] != "header" for c in _change(state, repository, **line)]
    except (ValueError, KeyError, TypeError, StopIteration, binascii.Error) as error:
        raise Refusal(400, f"the commit cannot be read: {error!r}") from error
    if not changes:
        raise Refusal(400, "the commit is empty")
    return header, changes


def _change(state: HubState, repository: Repository, key: str, value: dict[str, Any]) -> Iterator[Change]:
    path = value["path"]
    if key == "file":
        encoded = value.get("encoding", "utf-8") == "base64"
        content = base64.b64decode(value["content"]) if encoded else value["content"].encode()
        yield Add(path, regular_entry(content, state.objects.put(content)))
    elif key == "lfsFile":
        sha256 = value["oid"]
        if sha256 not in repository.lfs:
            raise Refusal(400, f"LFS pointer pointed to a file that does not exist: {path} ({sha256})")
        yield Add(path, lfs_entry(Blob(sha256, state.objects.path(sha256).stat().st_size)))
    elif key in {"deletedFile", "deletedFolder", "deletedEntry"}:
        yield Delete(path, folder=key == "deletedFolder")
    else:
        raise Refusal(400, f"unknown operation {key!r}")
