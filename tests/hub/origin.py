"""One origin (scheme, host, port) over HTTP/1.1: reads requests, applies faults, logs, and writes answers."""

from __future__ import annotations

import itertools
import re
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import IO, Any
from urllib.parse import parse_qs

from hub.faults import FaultRules
from hub.log import RequestLog
from hub.wire import Refusal, Request, Response, json_response

__all__ = ["Origin"]

_CHUNK = 1 << 18
_SPOOL = 1 << 20
"""Bodies above so many bytes wait on disk."""
_BODILESS = re.compile(r"1\d\d|204|304")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, origin: Origin) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.origin = origin
        self.open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that goes away is no mistake of ours
            self.origin.crashes.append(traceback.format_exc())


class Origin:
    """A server on a free port of the loopback interface; `answer` turns a request into a response."""

    def __init__(
        self,
        name: str,
        answer: Callable[[Request], Response],
        *,
        log: RequestLog,
        faults: FaultRules,
        crashes: list[str],
    ) -> None:
        self.name, self.answer, self.log, self.faults, self.crashes = name, answer, log, faults, crashes
        self._ids = itertools.count(1)
        self._server = _Server(self)  # listens from here on; connections wait until `start`
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Answer no more, and close the connections clients keep open."""
        self._server.shutdown()
        for connection in tuple(self._server.open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # already closed
        self._server.server_close()
        self._thread.join()

    def respond(self, request: Request) -> tuple[Response, str | None]:
        """The answer, faults included, and their names."""
        actions = self.faults.strike(request)
        response = next((early for action in actions if (early := action.before(request)) is not None), None)
        if response is None:
            try:
                response = self.answer(request)
            except Refusal as refusal:
                response = refusal.response()
            except Exception:
                self.crashes.append(f"{request.method} {request.target}\n{traceback.format_exc()}")
                response = json_response({"error": "the test Hub has a fault of its own"}, 500)
        for action in actions:
            response = action.after(request, response)
        return response, ", ".join(type(action).__name__ for action in actions) or None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        origin = self.server.origin
        number = origin.log.next_number()
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL) as body:
            if not self._read_body(body):
                self.close_connection = True
                return
            request = self._request(body)
            response, fault = origin.respond(request)
            size = 0 if self.command == "HEAD" or _BODILESS.fullmatch(str(response.status)) else response.size
            size = size if response.cut_at is None else min(size, response.cut_at)
            origin.log.add(number, request, response, 0 if response.dropped else size, fault)
            self._write(number, response, size)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815 - the names http.server looks for

    def _request(self, body: IO[bytes]) -> Request:
        path, _, query = self.path.partition("?")
        return Request(
            origin=self.server.origin.name,
            method=self.command,
            path=path,
            query={name: tuple(values) for name, values in parse_qs(query, keep_blank_values=True).items()},
            raw_query=query,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
        )

    def _read_body(self, body: IO[bytes]) -> bool:
        """Whether the whole body came: a client that died halfway has asked for nothing."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline().partition(b";")[0] or b"-1", 16):
                chunk = self.rfile.read(max(0, size))
                if len(chunk) != size:
                    return False
                body.write(chunk)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass  # trailers
            return True
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0 and (chunk := self.rfile.read(min(left, _CHUNK))):
            body.write(chunk)
            left -= len(chunk)
        return left <= 0

    def _write(self, number: int, response: Response, size: int) -> None:
        cut = response.cut_at is not None
        if response.dropped or response.close or cut:
            self.close_connection = True
        if response.dropped:
            return
        headers = {"X-Request-Id": f"Root=1-{number:08x}", "Content-Length": str(response.size), **response.headers}
        lines = [f"HTTP/1.1 {response.status} {self.responses.get(response.status, ('',))[0]}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value != ""]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        sent = -len(head)
        try:
            for chunk in _chunks(head, response, size):
                self.wfile.write(chunk)
                sent += len(chunk)
        except ConnectionError:
            self.close_connection = True
            self.server.origin.log.correct(number, max(0, sent))

    def log_message(self, *_: object) -> None:
        """The request log replaces the one on stderr."""


def _chunks(head: bytes, response: Response, size: int) -> Iterator[bytes]:
    """The head together with the start of the body, then the rest; `size` bytes of body in all."""
    if isinstance(response.body, bytes):
        yield head + response.body[:size]
        return
    if not size:
        yield head
        return
    with response.body.path.open("rb") as file:
        file.seek(response.body.start)
        left = size
        while left > 0 and (chunk := file.read(min(left, _CHUNK))):
            yield head + chunk
            head = b""
            left -= len(chunk)
