"""A Hugging Face Hub for tests: over HTTP on loopback, for the unmodified client, in one temporary folder.

Start with `server.HubServer`; `fixtures` has what pytest needs, `faults` what can go wrong, `log` what was asked.
"""

from __future__ import annotations

from hub.faults import (
    ChangeBody,
    ChangeHeaders,
    CutBody,
    Do,
    Drop,
    Fault,
    Redirect,
    Reply,
    Wait,
)
from hub.log import LoggedRequest, RequestLog, token_hash
from hub.server import HubServer
from hub.state import Settings

__all__ = [
    "ChangeBody",
    "ChangeHeaders",
    "CutBody",
    "Do",
    "Drop",
    "Fault",
    "HubServer",
    "LoggedRequest",
    "Redirect",
    "Reply",
    "RequestLog",
    "Settings",
    "Wait",
    "token_hash",
]
