"""What numba compiles, and when numba is needed: not before something is compiled.

A pass that was compiled by an earlier process (`hubmerge.compiled_passes`) runs without numba, whose import and first use take
more processor time than everything else that a merge does before its first number.  So nothing here imports it early.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from hubmerge.errors import PlanError

__all__ = ["INSIDE", "called_inside", "compiled", "jitable", "when_compiling"]

INSIDE = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Options of what only compiled functions call: without what Python and C would call, which takes longer to compile than the function."""

Function = TypeVar("Function", bound=Callable[..., Any])

_waiting: list[Callable[[], None]] = []


def when_compiling(prepare: Callable[[], None]) -> None:
    """Call `prepare` once, before the first function is compiled."""
    _waiting.append(prepare)


def jitable(function: Function) -> Function:
    """`function` as it is, to be called by compiled functions, too."""

    def prepare() -> None:
        from numba.extending import register_jitable

        register_jitable(**INSIDE)(function)

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
    _use_whole_vectors()
    while _waiting:
        _waiting.pop(0)()


@cache
def _use_whole_vectors() -> None:
    """Have vectors of 512 bits used where they cost nothing.

    LLVM keeps to 256 on most processors that have them, for the sake of the first ones, which ran slower then.  With them a
    random stage takes two thirds of the time (Xeon of the fourth generation).  No number depends on it.
    """
    from numba import config
    from numba.core.codegen import get_host_cpu_features

    if config.CPU_NAME is None and config.CPU_FEATURES is None:
        features = get_host_cpu_features()
        if "+avx512vbmi2" in features.split(","):  # from the second generation of such processors on
            config.CPU_FEATURES = f"{features},-prefer-256-bit"


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`function` as the engine compiles its passes: without the interpreter's lock, without checks of bounds or of division."""
    from numba import njit

    _prepare()
    options = {"nogil": True, "boundscheck": False, "error_model": "numpy", "no_cfunc_wrapper": True, **options}
    return njit(**options)(function)  # type: ignore[no-any-return]


def called_inside(
    function: Callable[..., Any], *, forceinline: bool = False, fastmath: bool | set[str] = False
) -> Callable[..., Any]:
    """`function` for calls from compiled passes alone: without what Python and C would call, a tenth of the time to compile.

    forceinline: written out in every pass that calls it, so that what it is called with can be known when it is compiled.
    fastmath: what LLVM may do to its arithmetic.
    """
    from numba import njit

    _prepare()
    return njit(function, error_model="numpy", forceinline=forceinline, fastmath=fastmath, **INSIDE)  # type: ignore[no-any-return]
