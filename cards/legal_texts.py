"""Which files beside a merge are the texts that licences ask to pass on: LICENSE, NOTICE and their like."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["legal_texts"]

_LEGAL = re.compile(r"(LICEN[SC]E|NOTICE|COPYING|COPYRIGHT)([-_.][\w-]+)?(\.(txt|md))?", re.IGNORECASE)


def legal_texts(names: Iterable[str]) -> tuple[str, ...]:
    """Those of `names` that are texts of licences, in order: at the top of a folder, as LICENSE, NOTICE.txt or LICENSE-org-name.md."""
    return tuple(sorted(name for name in names if _LEGAL.fullmatch(name)))
