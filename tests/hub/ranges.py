"""A file's content as an answer: whole, a byte range (206), or a range that the file does not have (416)."""

from __future__ import annotations

import re
from pathlib import Path

from hub.weights import tensors_from
from hub.wire import FileSpan, Request, Response, Served

__all__ = ["file_response"]

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def file_response(request: Request, path: Path, name: str, headers: dict[str, str]) -> Response:
    """The bytes of `path` that the request's Range header asks for; `name` is the file's path in the repository.

    Several ranges at once, or a header in other units, are ignored, as servers may: the whole file comes.
    """
    size = path.stat().st_size
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    first, last = (match[1], match[2]) if match else ("", "")
    if not first and not last:
        return _span(200, path, name, 0, size, headers)
    start, end = (int(first), int(last) if last else size - 1) if first else (max(0, size - int(last)), size - 1)
    if start >= size or end < start:
        return Response(416, {"Content-Range": f"bytes */{size}"})
    end = min(end, size - 1)
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return _span(206, path, name, start, end + 1 - start, headers)


def _span(status: int, path: Path, name: str, start: int, length: int, headers: dict[str, str]) -> Response:
    served = Served(name, start, tensors_from(name, path))
    return Response(status, headers, FileSpan(path, start, length), served)
