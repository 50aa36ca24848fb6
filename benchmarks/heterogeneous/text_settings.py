"""What is merged and measured of texts: which package of Python's library a piece is from.

Written before any result, as `settings` was, and with its parts.  The training recipes were chosen with seeds 100 and 101 by looking
at the parents alone.  Two parents of a setting never share their initialisation, and every seed divides the pieces anew:

same: both know code.  domain: one knows code, the other what is written about it, under the same eight labels.  split: one knows four
packages, the other the other four, each with a head of its own.  wider: domain, the donor's feed-forward layers half as wide again.
calibration: domain, with fewer pieces.

The hidden stream has one width everywhere: LayerNorm takes the mean over all of it, so that units of two streams cannot stand
side by side as those of feed-forward layers can.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.heterogeneous.settings import ImageSet, Model, Parent, Recipe, Setting, Task

__all__ = [
    "LENGTH",
    "PACKAGES",
    "PIECES",
    "TEXT_PARENTS",
    "TEXT_RECIPES",
    "TEXT_SETTINGS",
    "WORDS",
]

PACKAGES = ("asyncio", "ctypes", "email", "idlelib", "multiprocessing", "tkinter", "unittest", "xml")
"""The labels, 0 to 7: packages of at least 1,200 pieces of code and 300 of prose, but for those that newer Pythons lack."""

LENGTH = 32
"""Words of a piece."""

WORDS = 2000
"""Of the vocabulary, which all models share: the most frequent ones, the start, and one for all others."""

PIECES: Mapping[ImageSet, int] = {"code": 1200, "prose": 300}
"""Of each package, those that are held out among them."""

_FIRST, _SECOND = (0, 1, 2, 3), (4, 5, 6, 7)
_ALL = _FIRST + _SECOND

TEXT_RECIPES: Mapping[tuple[Model, ImageSet], Recipe] = {
    ("bert", "code"): Recipe(epochs=8, rate=2e-3, batch=64, decay=0.05, shift=0),
    ("bert", "prose"): Recipe(epochs=20, rate=2e-3, batch=64, decay=0.05, shift=0),
}

_CODE = Parent("bert128-code-a", "bert", 128, "code", _ALL, 20)
_CODE_B = Parent("bert128-code-b", "bert", 128, "code", _ALL, 21)
_PROSE = Parent("bert128-prose", "bert", 128, "prose", _ALL, 22)
_PROSE_WIDER = Parent("bert192-prose", "bert", 192, "prose", _ALL, 23)
_CODE_FIRST = Parent("bert128-code-first", "bert", 128, "code", _FIRST, 24)
_CODE_SECOND = Parent("bert128-code-second", "bert", 128, "code", _SECOND, 25)

TEXT_PARENTS: tuple[Parent, ...] = (_CODE, _CODE_B, _PROSE, _PROSE_WIDER, _CODE_FIRST, _CODE_SECOND)

_TWO_SORTS = (Task("code", "code", _ALL), Task("prose", "prose", _ALL))

TEXT_SETTINGS: tuple[Setting, ...] = (
    Setting("same", "bert", (_CODE, _CODE_B), (Task("code", "code", _ALL),), "shared"),
    Setting("domain", "bert", (_CODE, _PROSE), _TWO_SORTS, "shared"),
    Setting(
        "split",
        "bert",
        (_CODE_FIRST, _CODE_SECOND),
        (Task("first four", "code", _FIRST), Task("last four", "code", _SECOND)),
        "disjoint",
    ),
    Setting("wider", "bert", (_CODE, _PROSE_WIDER), _TWO_SORTS, "shared"),
    Setting("calibration", "bert", (_CODE, _PROSE), _TWO_SORTS, "shared"),
)
