"""Calls to the Hub that survive its bad moments, and its refusals in words.

huggingface_hub retries listings, uploads and broken downloads by itself; information, commits and ranged reads it does
not.  Those go through `call`, which waits as long as the Hub asks for (``Retry-After``, ``RateLimit``) and tries again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from zoo_index.errors import HubError, HubUnavailableError

__all__ = ["TRIES", "call", "hub_error", "is_hub_error"]

T = TypeVar("T")

TRIES = 5
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 120.0
_RESET = re.compile(r"\bt=(\d+)")

sleep = time.sleep
"""What waits between tries; a name of its own so that a test can count the waits instead of making them."""


def call(name: str, function: Callable[[], T]) -> T:
    """What `function` returns, tried up to five times while the Hub is busy or the connection breaks.

    name: the repository (or "the Hub") for error messages.  Raises `HubError` for everything that stays wrong.
    """
    for attempt in range(TRIES):
        try:
            return function()
        except Exception as error:
            if not is_hub_error(error):
                raise
            wait = _wait(error, attempt)
            if wait is None or attempt == TRIES - 1:
                raise hub_error(name, error) from error
            sleep(wait)
    raise AssertionError("unreachable")


def is_hub_error(error: BaseException) -> bool:
    """Whether an exception is the client's way to say that the Hub refused, failed or was not reached."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    return isinstance(error, httpx.HTTPError | HfHubHTTPError | EntryNotFoundError | HFValidationError | OSError)


def _wait(error: BaseException, attempt: int) -> float | None:
    """Seconds to wait before another try; None when another try is pointless."""
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    response = getattr(error, "response", None)
    if response is not None:
        if response.status_code not in _TRANSIENT:
            return None
        asked = _asked_wait(response.headers)
        return min(2.0**attempt, 8.0) if asked is None else asked if asked <= _LONGEST_WAIT else None
    cause = error.__cause__
    if isinstance(error, httpx.TransportError):
        return min(2.0**attempt, 8.0)
    if isinstance(cause, Exception) and cause is not error:
        return _wait(cause, attempt)
    return min(2.0**attempt, 8.0) if "onsistency check failed" in str(error) and attempt == 0 else None


def _asked_wait(headers: Any) -> float | None:
    """The wait that the Hub asks for: ``RateLimit: "api";r=0;t=55``, or ``Retry-After`` in seconds or as a date."""
    reset = _RESET.search(headers.get("ratelimit", ""))
    if reset:
        return float(reset[1]) + 1
    after = headers.get("retry-after", "")
    if after.isdigit():
        return float(after)
    try:
        return max(0.0, (parsedate_to_datetime(after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def hub_error(name: str, error: BaseException) -> HubError:
    """The refusal or failure behind a client's exception, in words: what, which repository, what to do."""
    from huggingface_hub import constants, errors

    link = f"{constants.ENDPOINT}/{name}"
    login = "log in with `hf auth login` or set HF_TOKEN"
    known: tuple[tuple[type[BaseException], str, str], ...] = (
        (
            errors.GatedRepoError,
            "the model is gated, and you have not been given access",
            f"accept its terms at {link}, then {login}",
        ),
        (
            errors.RepositoryNotFoundError,
            "there is no such model on the Hub, or it is private",
            f"check the spelling; for a private one {login}",
        ),
        (errors.DisabledRepoError, "the model was disabled on the Hub", "choose another"),
        (errors.RevisionNotFoundError, "the model has no such revision", f"{link}/commits/main lists what there is"),
        (errors.RemoteEntryNotFoundError, f"a file is not there: {_path_of(error)}", "choose another revision"),
        (
            errors.OfflineModeIsEnabled,
            "HF_HUB_OFFLINE is set, and the Hub cache does not have it",
            "unset HF_HUB_OFFLINE to fetch it",
        ),
        (errors.HFValidationError, "the Hub cannot have a model of that name", "org/name"),
    )
    for kind, what, hint in known:
        if isinstance(error, kind):
            return HubError(what, where=name, hint=hint)
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    if response is not None:
        return _status_error(name, response, login)
    if "onsistency check failed" in str(error):
        return HubError(
            "the Hub sent more or fewer bytes of a file than it had promised",
            where=name,
            hint="try again later; nothing of it was kept",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return HubError(
            f"a file cannot be kept in the Hub cache ({error.strerror})",
            where=str(error.filename or name),
            hint="free some space, or set HF_HOME",
        )
    return HubUnavailableError(
        f"the Hub cannot be reached ({type(error.__cause__ or error).__name__})",
        where=name,
        hint="check the connection; HF_HUB_OFFLINE=1 works with what is cached",
    )


def _status_error(name: str, response: Any, login: str) -> HubError:
    status = response.status_code
    said = response.headers.get("x-error-message", "")
    if "disabled" in said.lower():
        return HubError("the model was disabled on the Hub", where=name, hint="choose another")
    if status in {401, 403}:
        return HubError(
            f"the Hub refuses ({status}{': ' + said if said else ''})",
            where=name,
            hint=f"the token {'may be wrong or revoked' if status == 401 else 'may lack the right to do this'}; {login}",
        )
    if status == 429:
        return HubUnavailableError(
            "the Hub asks to slow down (429)",
            where=name,
            hint="wait some minutes and run it again; what was fetched is kept",
        )
    if status in _TRANSIENT:
        return HubUnavailableError(
            f"the Hub fails ({status}), also after {TRIES} tries",
            where=name,
            hint="try again later; what was fetched is kept",
        )
    return HubError(
        f"the Hub answers {status}{': ' + said if said else ''}", where=name, hint="see https://status.huggingface.co"
    )


def _path_of(error: BaseException) -> str:
    response = getattr(error, "response", None)
    return str(response.url.path).rpartition("/")[2] if response is not None else ""
