"""What was asked of the test Hub and what it sent: one record per request, in the order of arrival."""

from __future__ import annotations

import hashlib
import itertools
import threading
from dataclasses import dataclass, replace

from hub.wire import Request, Response

__all__ = ["LoggedRequest", "RequestLog", "token_hash"]


def token_hash(token: str) -> str:
    """How the log names a token: the first 12 digits of its sha256, never the token."""
    return hashlib.sha256(token.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class LoggedRequest:
    """One request and its answer."""

    number: int
    origin: str
    """api, cdn or stranger."""
    method: str
    path: str
    query: str
    status: int
    """0 when the connection was closed without an answer."""
    range: str | None
    """The Range header as it came."""
    sent: int
    """Bytes of the answer's body that were written."""
    received: int
    """Bytes of the request's body."""
    authorized: bool
    """Whether an Authorization header came at all."""
    token: str | None
    """`token_hash` of the token that came."""
    file: str | None = None
    """The repository file whose bytes were sent."""
    tensor_bytes: int = 0
    """How many of them were weights: behind the header in safetensors files, all of them in pickles and GGUF."""
    fault: str | None = None
    """The injected fault that shaped the answer."""

    def __str__(self) -> str:
        marks = [self.range or "", f"token {self.token}" if self.token else "", self.fault or ""]
        query = f"?{self.query}" if self.query else ""
        line = f"{self.number} {self.origin} {self.method} {self.path}{query} -> {self.status}, {self.sent} bytes"
        return " · ".join([line, *filter(None, marks)])


class RequestLog:
    """The records of one test Hub; safe to read while requests are running."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._records: dict[int, LoggedRequest] = {}

    def next_number(self) -> int:
        with self._lock:
            return next(self._numbers)

    def add(self, number: int, request: Request, response: Response, sent: int, fault: str | None) -> None:
        """Record an answer before its bytes go out, so that a client that has them finds its request here."""
        served = response.served
        start = served.start if served else 0
        weights = 0 if served is None or served.tensors_from is None else start + sent - max(start, served.tensors_from)
        record = LoggedRequest(
            number=number,
            origin=request.origin,
            method=request.method,
            path=request.path,
            query=request.raw_query,
            status=0 if response.dropped else response.status,
            range=request.headers.get("range"),
            sent=sent,
            received=request.body.seek(0, 2),
            authorized="authorization" in request.headers,
            token=token_hash(request.token) if request.token else None,
            file=served.file if served else None,
            tensor_bytes=max(0, weights),
            fault=fault,
        )
        with self._lock:
            self._records[number] = record

    def correct(self, number: int, sent: int) -> None:
        """The client went away after `sent` bytes of the body."""
        with self._lock:
            record = self._records[number]
            lost = record.sent - sent
            self._records[number] = replace(record, sent=sent, tensor_bytes=max(0, record.tensor_bytes - lost))

    def requests(
        self,
        *,
        method: str | None = None,
        origin: str | None = None,
        path_contains: str | None = None,
        status: int | None = None,
    ) -> tuple[LoggedRequest, ...]:
        """The records that fit every given condition, in the order of arrival."""
        with self._lock:
            records = [self._records[number] for number in sorted(self._records)]
        return tuple(
            record
            for record in records
            if (method is None or record.method == method)
            and (origin is None or record.origin == origin)
            and (path_contains is None or path_contains in record.path)
            and (status is None or record.status == status)
        )

    def weight_bytes_sent(self) -> int:
        """Bytes of tensors that were sent: headers of safetensors files do not count, bytes behind them do.

        A read of a fixed size, such as the client's first 100 kB of a file, counts with what it takes of the tensors.
        """
        return sum(record.tensor_bytes for record in self.requests())

    def bytes_sent(self, file: str | None = None) -> int:
        """Bytes of all bodies, or of the bodies that hold the repository file `file`."""
        return sum(record.sent for record in self.requests() if file is None or record.file == file)

    def tokens_abroad(self) -> tuple[LoggedRequest, ...]:
        """Requests that took an Authorization header to another origin than the API's: there must be none."""
        return tuple(record for record in self.requests() if record.authorized and record.origin != "api")

    def clear(self) -> None:
        with self._lock:
            self._records.clear()

    def __len__(self) -> int:
        return len(self.requests())

    def __str__(self) -> str:
        return "\n".join(str(record) for record in self.requests())
