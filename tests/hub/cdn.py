"""The second origin: contents of LFS files by signed addresses, as a CDN in front of object storage serves them.

It knows no accounts.  An address is valid when its signature is; an Authorization header beside a signature is refused
with 400, as S3 refuses two kinds of credentials at once.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import PurePosixPath
from typing import IO
from urllib.parse import quote, urlencode

from hub.ranges import file_response
from hub.repository import Repository
from hub.routes import Routes
from hub.state import HubState
from hub.trees import Entry
from hub.wire import Refusal, Request, Response

__all__ = ["ROUTES", "download_address", "store_upload", "upload_address"]

ROUTES = Routes()


def _signature(state: HubState, path: str, file: str) -> str:
    return hmac.new(state.secret.encode(), f"{path}\n{file}".encode(), "sha256").hexdigest()[:32]


def _signed(state: HubState, path: str, file: str = "") -> str:
    query = {"file": file} if file else {}
    return f"{state.cdn_url}{path}?{urlencode({**query, 'Signature': _signature(state, path, file)})}"


def download_address(state: HubState, repository: Repository, path: str, entry: Entry) -> str:
    """Where an LFS file's content lies; the repository and the file's name are in the address, for the log."""
    return _signed(state, f"/repos/{repository.kind}/{quote(repository.id)}/{entry.sha256}", path)


def upload_address(state: HubState, repository: Repository, sha256: str, part: int = 0) -> str:
    """Where to PUT an LFS file of the repository, or part `part` of it, counted from 1."""
    place = f"/uploads/{repository.kind}/{quote(repository.id)}/{sha256}"
    return _signed(state, f"{place}/{part}" if part else place)


def _check(state: HubState, request: Request) -> None:
    if "authorization" in request.headers:
        raise Refusal(400, "Only one auth mechanism allowed; only the Signature query parameter should be specified")
    if not hmac.compare_digest(request.value("Signature"), _signature(state, request.path, request.value("file"))):
        raise Refusal(403, "The signature of this address is missing or wrong")


@ROUTES.on("GET", "/repos/{kind}/{repo}/{sha256}")
def download(state: HubState, request: Request) -> Response:
    _check(state, request)
    file, sha256 = request.value("file"), request.fields["sha256"]
    name = PurePosixPath(file).name
    headers = {
        "ETag": f'"{hashlib.md5(sha256.encode(), usedforsecurity=False).hexdigest()}"',  # storage names, not sha256
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}; filename=\"{quote(name)}\";",
        "Cache-Control": "public, max-age=604800, immutable, s-maxage=604800",
    }
    return file_response(request, state.objects.path(sha256), file, headers)


@ROUTES.on("PUT", "/uploads/{kind}/{repo}/{sha256}")
def upload(state: HubState, request: Request) -> Response:
    _check(state, request)
    request.body.seek(0)
    store_upload(state, request.fields["kind"], request.fields["repo"], request.fields["sha256"], request.body)
    return Response(200, {"ETag": f'"{request.fields["sha256"][:32]}"'})


def store_upload(state: HubState, kind: str, repo: str, sha256: str, content: IO[bytes]) -> None:
    """Keep an LFS file whose content is the announced one; from now on commits to the repository may point to it."""
    repository, blob = state.find(kind, repo), state.objects.put(content)
    if repository is None:
        raise Refusal(404, f"{repo} is gone")
    if blob.sha256 != sha256:
        raise Refusal(400, f"BadDigest: the content is {blob.sha256}, announced was {sha256}")
    repository.lfs.add(sha256)


@ROUTES.on("PUT", "/uploads/{kind}/{repo}/{sha256}/{num}")
def upload_part(state: HubState, request: Request) -> Response:
    _check(state, request)
    sha256, number = request.fields["sha256"], int(request.fields["num"])
    content = request.content()
    path = state.parts / f"{sha256}-{number}"
    path.write_bytes(content)
    state.uploads.setdefault(sha256, {})[number] = path
    return Response(200, {"ETag": f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'})
