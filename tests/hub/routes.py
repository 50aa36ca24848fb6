"""Paths to functions: each module of the API keeps its own table, the server tries the tables in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from hub.state import HubState
from hub.wire import Refusal, Request, Response

__all__ = ["Handler", "Routes", "dispatch"]

Handler = Callable[[HubState, Request], Response]

_PIECES = {
    "kind": "models|datasets|spaces",
    "prefix": "datasets/|spaces/|",
    "repo": "[^/]+/[^/]+|[^/]+",
    "rev": "refs/(?:pr|convert|heads)/[^/]+|[^/]+",
    "path": ".+",
    "num": "[0-9]+",
}
"""What a ``{name}`` in a pattern may match in the encoded path; any other name matches one segment."""


@dataclass(frozen=True)
class _Route:
    method: str
    pattern: re.Pattern[str]
    handler: Handler


class Routes:
    """The routes of one topic, in the order in which they are tried."""

    def __init__(self) -> None:
        self.table: list[_Route] = []

    def on(self, method: str, template: str) -> Callable[[Handler], Handler]:
        """Register the decorated function for `method` and a template such as ``/api/{kind}/{repo}/refs``.

        A route for GET answers HEAD too; the origin leaves the body out.
        """
        pattern = re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>{_PIECES.get(m[1], '[^/]+')})", template)

        def register(handler: Handler) -> Handler:
            self.table.append(_Route(method, re.compile(pattern), handler))
            return handler

        return register


def dispatch(tables: Iterable[Routes], state: HubState, request: Request) -> Response:
    """The answer of the first route that fits; 404 when the path is unknown, 405 when only its method is."""
    methods: set[str] = set()
    wanted = "GET" if request.method == "HEAD" else request.method
    for routes in tables:
        for route in routes.table:
            match = route.pattern.fullmatch(request.path)
            if match is None:
                continue
            if route.method == wanted:
                with state.lock:
                    return route.handler(state, replace(request, match=match))
            methods.add(route.method)
    if methods:
        raise Refusal(405, f"{request.method} is not allowed here", headers={"Allow": ", ".join(sorted(methods))})
    raise Refusal(404, "Sorry, we can't find the page you are looking for.")
