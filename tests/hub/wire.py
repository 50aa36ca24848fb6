"""What travels over HTTP: a request as the Hub sees it, an answer as the Hub gives it, and a refusal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

__all__ = ["FileSpan", "Refusal", "Request", "Response", "Served", "json_response"]


@dataclass(frozen=True)
class FileSpan:
    """`length` bytes of a file on disk from byte `start`."""

    path: Path
    start: int
    length: int


@dataclass(frozen=True)
class Served:
    """Which bytes of which repository file a body holds: from `start`; its tensors' data begin at `tensors_from`."""

    file: str
    start: int
    tensors_from: int | None
    """None for a file without weights; 0 for weights that have no header to read apart (pickles)."""


@dataclass(frozen=True)
class Request:
    """One request; `path` is as it came (percent-encoded), `query` and `fields` are decoded."""

    origin: str
    method: str
    path: str
    query: Mapping[str, tuple[str, ...]]
    raw_query: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: IO[bytes]
    match: re.Match[str] | None = None

    @property
    def target(self) -> str:
        return f"{self.path}?{self.raw_query}" if self.raw_query else self.path

    @property
    def fields(self) -> dict[str, str]:
        """What the route's pattern found in the path, decoded."""
        found = self.match.groupdict() if self.match else {}
        return {name: unquote(value) for name, value in found.items() if value is not None}

    @property
    def token(self) -> str | None:
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        return value.strip() if scheme.lower() == "bearer" and value else None

    def values(self, name: str) -> tuple[str, ...]:
        """Every value of a query parameter; the spelling ``name[]`` counts too."""
        return self.query.get(name, ()) + self.query.get(f"{name}[]", ())

    def value(self, name: str, default: str = "") -> str:
        return next(iter(self.values(name)), default)

    def flag(self, name: str) -> bool:
        return self.value(name).lower() in {"1", "true"}

    def content(self) -> bytes:
        self.body.seek(0)
        return self.body.read()

    def json(self) -> dict[str, Any]:
        raw = self.content()
        try:
            value = json.loads(raw) if raw else {}
        except ValueError as error:
            raise Refusal(400, f"the body is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise Refusal(400, "the body is not a JSON object")
        return value


@dataclass(frozen=True)
class Response:
    """One answer.  The last three fields are for faults: what goes wrong after the Hub has decided what to say."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | FileSpan = b""
    served: Served | None = None
    cut_at: int | None = None
    """The connection is closed after so many bytes of the body."""
    close: bool = False
    dropped: bool = False
    """The connection is closed without any answer."""

    @property
    def size(self) -> int:
        return len(self.body) if isinstance(self.body, bytes) else self.body.length


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(value, default=str).encode()
    return Response(status, {"Content-Type": "application/json; charset=utf-8", **(headers or {})}, body)


class Refusal(Exception):
    """The Hub says no: a status, a sentence, and the code by which the client chooses its exception."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, dict(headers or {})

    def response(self) -> Response:
        headers = {"X-Error-Message": self.message.encode("ascii", "replace").decode(), **self.headers}
        if self.code:
            headers["X-Error-Code"] = self.code
        return json_response({"error": self.message}, self.status, headers)
