"""Where hubmerge keeps what it makes for itself: the catalog, models that it had to convert, passes that it compiled."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """``HUBMERGE_CACHE``, else ``hubmerge`` in the user's cache folder; it need not exist."""
    cache = os.environ.get("HUBMERGE_CACHE")
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(cache).expanduser() if cache else user_cache / "hubmerge"
