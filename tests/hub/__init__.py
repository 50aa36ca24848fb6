"""A Hugging Face Hub for tests: over HTTP on loopback, for the unmodified client, in one temporary folder.

In a test, with the fixtures of `hub.fixtures` imported into a conftest.py::

    def test_a_model_is_published_once(hub, api, tmp_path):
        hub.add("ada/base", {"config.json": "{}"}, gated="manual")  # behind the API; a folder's path will do, too
        fault = hub.inject(Reply.rate_limited(retry_after="0"), "/commit/", method="POST", nth=2)
        ...  # with api, HfApi(), or a subprocess in hub.environment(tmp_path, hub.token)
        assert hub.faults.struck(fault) == 1
        assert hub.log.weight_bytes_sent() == 0
        assert hub.log.tokens_abroad() == ()

`server` has the people and the direct access, `faults` what can go wrong, `log` what was asked and sent.  What the real
Hub does is told from its client's source and public documents.  Known to be missing: Xet storage (clients must set
HF_HUB_DISABLE_XET), copies of LFS files between repositories, Spaces as programs, webhooks, collections, and the search
of the real Hub (here: every word is part of the id).  Known to be guessed: the texts of most errors and the rules of the
card's validation beyond those the documentation names.
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
