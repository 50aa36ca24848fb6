"""What numba compiles, and when numba is needed: not before something is compiled.

A pass that was compiled by an earlier process (`hubmerge.compiled_passes`) runs without numba, whose import and first use take
more processor time than everything else that a merge does before its first number.  So nothing here imports it early.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from hubmerge.errors import PlanError

__all__ = ["called_inside", "compiled", "jitable", "when_compiling"]

Function = TypeVar("Function", bound=Callable[..., Any])

_waiting: list[Callable[[], None]] = []


def when_compiling(prepare: Callable[[], None]) -> None:
    """Call `prepare` once, before the first function is compiled."""
    _waiting.append(prepare)


def jitable(function: Function) -> Function:
    """`function` as it is, to be called by compiled functions, too."""

    def prepare() -> None:
        from numba.extending import register_jitable

        register_jitable(function)

    when_compiling(prepare)
    return function


def _prepare() -> None:
    """Bring to numba what waited for it, in order; `PlanError` where it is told not to compile."""
    from numba import config

    if config.DISABLE_JIT:
        raise PlanError(
            "numba's compiler is switched off, and nothing can be merged without it",
            where="NUMBA_DISABLE_JIT",
            hint="unset it",
        )
    while _waiting:
        _waiting.pop(0)()


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`function` as the engine compiles its passes: without the interpreter's lock, without checks of bounds or of division."""
    from numba import njit

    _prepare()
    options = {"nogil": True, "boundscheck": False, "error_model": "numpy", "no_cfunc_wrapper": True, **options}
    return njit(**options)(function)  # type: ignore[no-any-return]


def called_inside(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` for calls from compiled passes alone: without what Python and C would call, a tenth of the time to compile."""
    from numba import njit

    _prepare()
    return njit(function, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[no-any-return]
