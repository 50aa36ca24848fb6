"""Which files there are (tree, paths-info), and their contents (resolve, resolve-cache, raw)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, quote

from hub.cdn import download_address
from hub.facts import iso
from hub.objects import pointer_text
from hub.pages import offset_page
from hub.ranges import file_response
from hub.repository import Commit, Repository, missing_entry
from hub.routes import Routes
from hub.state import HubState
from hub.trees import Entry, folder_oids, under
from hub.weights import read_header, weight_shards
from hub.wire import Request, Response, json_response

__all__ = ["ROUTES"]

ROUTES = Routes()


def _row(
    path: str, entry: Entry | None, oids: dict[str, str], repository: Repository, commit: Commit, *, expand: bool
) -> dict[str, Any]:
    row: dict[str, Any]
    if entry is None:
        row = {"type": "directory", "oid": oids[path], "size": 0, "path": path}
    else:
        row = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
        if entry.lfs:
            row["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": entry.pointer_size}
    if expand:
        last = repository.last_change(commit, path)
        row["lastCommit"] = {"id": last.id, "title": last.title, "date": iso(last.date)}
        if entry is not None:
            scan = {"status": "safe"}
            row["securityFileStatus"] = {"status": "safe", "avScan": scan, "pickleImportScan": scan}
    return row


@ROUTES.on("GET", "/api/{kind}/{repo}/tree/{rev}")
@ROUTES.on("GET", "/api/{kind}/{repo}/tree/{rev}/{path}")
def tree(state: HubState, request: Request) -> Response:
    repository = state.repository(request)
    commit = repository.commit_of(request.fields["rev"])
    folder, expand = request.fields.get("path", "").strip("/"), request.flag("expand")
    oids = folder_oids(commit.tree)
    if folder not in oids:
        raise missing_entry(folder, commit)
    found = list(under(commit.tree, folder, recursive=request.flag("recursive")))
    rows = [_row(path, entry, oids, repository, commit, expand=expand) for path, entry in found]
    return offset_page(state, request, rows, state.settings.expanded_tree_page if expand else state.settings.tree_page)


@ROUTES.on("POST", "/api/{kind}/{repo}/paths-info/{rev}")
def paths_info(state: HubState, request: Request) -> Response:
    """Rows of the given paths; those that do not exist are left out.  The Python client sends a form, others JSON."""
    repository = state.repository(request)
    commit = repository.commit_of(request.fields["rev"])
    if "json" in request.headers.get("content-type", ""):
        value = request.json()
        paths, expand = value.get("paths", []), bool(value.get("expand"))
    else:
        form = parse_qs(request.content().decode())
        paths, expand = form.get("paths", []), form.get("expand", ["false"])[0].lower() == "true"
    oids = folder_oids(commit.tree)
    found = [(path, commit.tree.get(path)) for path in (path.strip("/") for path in paths)]
    rows = [
        _row(path, entry, oids, repository, commit, expand=expand)
        for path, entry in found
        if entry is not None or (path and path in oids)
    ]
    return json_response(rows)


@ROUTES.on("GET", "/{prefix}{repo}/resolve/{rev}/{path}")
def resolve(state: HubState, request: Request) -> Response:
    """Where a file's content is: small files under a path that names the commit, LFS files on the CDN."""
    repository, commit, path, entry = _file(state, request)
    headers = {"X-Repo-Commit": commit.id, "Accept-Ranges": "bytes", "ETag": f'"{entry.etag}"'}
    if entry.lfs:
        place = download_address(state, repository, path, entry)
        linked = {"X-Linked-Size": str(entry.size), "X-Linked-ETag": f'"{entry.sha256}"'}
        return Response(302, {**headers, **linked, "Location": place}, f"Found. Redirecting to {place}".encode())
    place = f"/api/resolve-cache/{repository.kind}/{repository.id}/{commit.id}/{quote(path)}"
    return Response(307, {**headers, "Location": place}, f"Temporary Redirect. Redirecting to {place}".encode())


@ROUTES.on("GET", "/api/resolve-cache/{kind}/{repo}/{rev}/{path}")
def resolve_cache(state: HubState, request: Request) -> Response:
    _, commit, path, entry = _file(state, request)
    name = quote(path.rpartition("/")[2])
    headers = {
        "X-Repo-Commit": commit.id,
        "ETag": f'"{entry.etag}"',
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Disposition": f"inline; filename*=UTF-8''{name}; filename=\"{name}\";",
    }
    return file_response(request, state.objects.path(entry.sha256), path, headers)


@ROUTES.on("GET", "/{prefix}{repo}/raw/{rev}/{path}")
def raw(state: HubState, request: Request) -> Response:
    """What git holds: the content of a small file, the pointer of an LFS file."""
    _, commit, path, entry = _file(state, request)
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{entry.oid}"', "Content-Type": "text/plain; charset=utf-8"}
    if entry.lfs:
        pointer = state.objects.put(pointer_text(entry.sha256, entry.size))
        return file_response(request, state.objects.path(pointer.sha256), f"{path} (pointer)", headers)
    return file_response(request, state.objects.path(entry.sha256), path, headers)


def _file(state: HubState, request: Request) -> tuple[Repository, Commit, str, Entry]:
    repository = state.readable(request)
    commit = repository.commit_of(request.fields["rev"])
    path = request.fields["path"]
    if path not in commit.tree:
        raise missing_entry(path, commit)
    return repository, commit, path, commit.tree[path]


@ROUTES.on("GET", "/api/{kind}/{repo}/safetensors-metadata/{path}")
def safetensors_metadata(state: HubState, request: Request) -> Response:
    """The index of a sharded model and the headers of its shards, read by the Hub itself (main only)."""
    repository = state.readable(request)
    commit, path = repository.head, request.fields["path"]
    if path not in commit.tree:
        raise missing_entry(path, commit)
    index = json.loads(state.objects.read(commit.tree[path].sha256))
    index.pop("weight_map", None)
    shards = weight_shards(commit.tree, state.objects)
    headers = {shard: read_header(state.objects.path(commit.tree[shard].sha256)) for shard in shards}
    return json_response({"index": index, "headers": headers})
