"""Pages through Link headers: an opaque cursor, and the address of the next page."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from hub.state import HubState
from hub.wire import Refusal, Request, Response, json_response

__all__ = ["next_link", "offset_page", "read_cursor"]


def next_link(state: HubState, request: Request, cursor: object) -> dict[str, str]:
    """The header that names the next page: the same request with this cursor, as an absolute address."""
    query = [(name, value) for name, values in request.query.items() if name != "cursor" for value in values]
    query.append(("cursor", base64.urlsafe_b64encode(json.dumps(cursor).encode()).decode()))
    return {"Link": f'<{state.api_url}{request.path}?{urlencode(query)}>; rel="next"'}


def read_cursor(request: Request) -> Any:
    """What `next_link` was given for this page; None on the first page."""
    raw = request.value("cursor")
    if not raw:
        return None
    try:
        return json.loads(base64.urlsafe_b64decode(raw))
    except ValueError as error:
        raise Refusal(400, "Invalid cursor") from error


def offset_page(state: HubState, request: Request, items: Sequence[object], size: int) -> Response:
    """One page of a list that cannot change between pages, such as the files of one commit."""
    start = read_cursor(request) or 0
    limit = request.value("limit")
    end = start + (min(int(limit), size) if limit.isdigit() and int(limit) else size)
    headers = next_link(state, request, end) if end < len(items) else {}
    return json_response(list(items[start:end]), headers=headers)
