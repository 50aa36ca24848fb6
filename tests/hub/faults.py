"""What can go wrong between the Hub and its client, injected on purpose.

A `Fault` says which requests it strikes (method, path, origin, from the nth on, how many times) and which `Action`
happens to them.  An action may answer in the Hub's place, or change the answer the Hub gave.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from hub.wire import Request, Response, json_response

__all__ = [
    "Action",
    "ChangeBody",
    "ChangeHeaders",
    "CutBody",
    "Do",
    "Drop",
    "Fault",
    "FaultRules",
    "Redirect",
    "Reply",
    "Wait",
]


class Action:
    """Something that happens to a request; both halves do nothing unless an action says otherwise."""

    def before(self, request: Request) -> Response | None:
        """Answer in the Hub's place, which then never sees the request."""
        return None

    def after(self, request: Request, response: Response) -> Response:
        """The answer that goes out instead of `response`."""
        return response


@dataclass(frozen=True)
class Reply(Action):
    """Another status instead of the Hub's answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "Internal Error - We're working hard to fix this as soon as possible!"

    def before(self, request: Request) -> Response:
        return json_response({"error": self.message}, self.status, self.headers)

    @classmethod
    def rate_limited(cls, *, retry_after: str | None = None, reset: int | None = None) -> Reply:
        """429 with ``Retry-After`` (seconds or a date), with the ``RateLimit`` header the Hub sends, or with nothing."""
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        if reset is not None:
            headers |= {"RateLimit": f'"api";r=0;t={reset}', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}
        return cls(
            429, headers, "We had to rate limit you, you hit the quota of 500 api requests per 5 minutes period."
        )


@dataclass(frozen=True)
class Drop(Action):
    """The connection is closed without an answer.  `after_work`: the Hub has done what was asked, only its answer is lost."""

    after_work: bool = False

    def before(self, request: Request) -> Response | None:
        return None if self.after_work else Response(dropped=True)

    def after(self, request: Request, response: Response) -> Response:
        return replace(response, dropped=True)


@dataclass(frozen=True)
class CutBody(Action):
    """The connection is closed after `at` bytes of the body, whose Content-Length promises all of them."""

    at: int

    def after(self, request: Request, response: Response) -> Response:
        return replace(response, cut_at=self.at) if response.size > self.at else response


@dataclass(frozen=True)
class ChangeHeaders(Action):
    """Lies: these headers are set (None: left out) whatever the truth is.

    The connection is closed after an answer whose Content-Length is changed: one that is too large or missing leaves
    the client waiting for the end, one that is too small leaves bytes behind.
    """

    headers: Mapping[str, str | None]

    def after(self, request: Request, response: Response) -> Response:
        changed = {name.lower() for name in self.headers}
        kept = {name: value for name, value in response.headers.items() if name.lower() not in changed}
        added = {name: value for name, value in self.headers.items() if value is not None}
        if "content-length" not in changed:
            return replace(response, headers={**kept, **added})
        added["Connection"] = "close"  # without it the client would send its next request into a closed connection
        return replace(response, headers={"Content-Length": "", **kept, **added}, close=True)


@dataclass(frozen=True)
class ChangeBody(Action):
    """Other bytes than the Hub's: `change` gets the body and returns the one that is sent."""

    change: Callable[[bytes], bytes]

    def after(self, request: Request, response: Response) -> Response:
        body = response.body
        if not isinstance(body, bytes):
            with body.path.open("rb") as file:
                file.seek(body.start)
                body = file.read(body.length)
        return replace(response, body=self.change(body))


@dataclass(frozen=True)
class Wait(Action):
    """The answer waits until `until` is set, at most `seconds`: a test that must not wait sets the event."""

    seconds: float
    until: threading.Event = field(default_factory=threading.Event)

    def before(self, request: Request) -> None:
        self.until.wait(self.seconds)


@dataclass(frozen=True)
class Redirect(Action):
    """Another origin is to be asked: `origin` (scheme, host, port) and the same path and query."""

    origin: str
    status: int = 302

    def before(self, request: Request) -> Response:
        return Response(self.status, {"Location": self.origin + request.target})


@dataclass(frozen=True)
class Do(Action):
    """Something happens just before the Hub handles the request: a token is revoked, another commit slips in."""

    callback: Callable[[], object]

    def before(self, request: Request) -> None:
        self.callback()


@dataclass(frozen=True)
class Fault:
    """`then` happens to requests number `nth` to ``nth + times - 1`` (forever: times=None) of those that fit.

    `path` is a regular expression searched in the decoded path and query.
    """

    then: Action
    path: str = ""
    method: str | None = None
    origin: str | None = None
    """api, cdn or stranger; None: any."""
    nth: int = 1
    times: int | None = 1

    def fits(self, request: Request) -> bool:
        return (
            self.method in {None, request.method}
            and self.origin in {None, request.origin}
            and re.search(self.path, unquote(request.target)) is not None
        )


class FaultRules:
    """The faults of one test Hub, in the order in which they were added, and how often each has struck."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._seen: list[int] = []
        self._struck: list[int] = []

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
            self._seen.append(0)
            self._struck.append(0)
        return fault

    def strike(self, request: Request) -> list[Action]:
        """The actions for this request; every fault that it fits counts it."""
        actions = []
        with self._lock:
            for at, fault in enumerate(self._faults):
                if not fault.fits(request):
                    continue
                self._seen[at] += 1
                if self._seen[at] >= fault.nth and (fault.times is None or self._struck[at] < fault.times):
                    self._struck[at] += 1
                    actions.append(fault.then)
        return actions

    def struck(self, fault: Fault) -> int:
        """How many requests `fault` has met."""
        with self._lock:
            return sum(count for known, count in zip(self._faults, self._struck) if known is fault)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            self._seen.clear()
            self._struck.clear()
