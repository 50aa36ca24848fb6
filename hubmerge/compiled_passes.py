"""Compiled passes that are called by address: their numbers go in registers and on the stack, as in C.

numba compiles a function for the types of its arguments, into one that takes every number and every array's fields apart.
Called so, a pass needs nothing of numba but its code, which another process may have made (`hubmerge.pass_store`).
"""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import numpy as np

from hubmerge import pass_store
from hubmerge.jit import compiled

__all__ = ["CompiledPass", "called_by_address", "compiled_pass"]

Key = tuple[Any, ...]

_NUMBERS: dict[type, tuple[str, Any]] = {
    bool: ("b", ctypes.c_uint8),
    np.bool_: ("b", ctypes.c_uint8),
    int: ("i8", ctypes.c_int64),
    np.int64: ("i8", ctypes.c_int64),
    np.uint64: ("u8", ctypes.c_uint64),
    np.uint32: ("u4", ctypes.c_uint32),
    np.float32: ("f4", ctypes.c_float),
    np.float64: ("f8", ctypes.c_double),
    float: ("f8", ctypes.c_double),
}
RESULTS: dict[str, Any] = {
    "none": None,
    "int64": ctypes.c_int64,
    "uint64": ctypes.c_uint64,
    "uint32": ctypes.c_uint32,
    "float64": ctypes.c_double,
}
"""What a pass may return, by numba's name of it."""
_FLAGS = 0x0001 | 0x0002 | 0x0100 | 0x0400
"""numpy's flags that are part of an array's type: both orders, aligned, writeable."""

_REMEMBERED = 64


def called_by_address() -> bool:
    """Whether compiled passes are called by address here: where that has been tested; elsewhere numba calls them."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def compiled_pass(factory: Callable[..., Callable[..., Any]]) -> Callable[..., Callable[..., Any]]:
    """Make a function that returns a pass as plain Python into one that returns it compiled, once for equal arguments.

    The pass may neither make arrays nor raise.  Its arguments are numbers, arrays and tuples of them.
    """

    @cache
    def made(*arguments: Any) -> Callable[..., Any]:
        return CompiledPass(factory, arguments) if called_by_address() else compiled(factory(*arguments))

    return wraps(factory)(made)


class CompiledPass:
    """``factory(*arguments)``, compiled when it is called, anew for other types; from any thread."""

    def __init__(self, factory: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
        self._factory = factory
        self._arguments = arguments
        self._ready: dict[Key, tuple[Any, Any]] = {}
        self._numbers: dict[int, tuple[Any, Key, Key]] = {}
        self._kept: list[Any] = []
        self._lock = threading.Lock()

    def __call__(self, *values: Any) -> Any:
        key: list[Any] = []
        fields: list[Any] = []
        for value in values:
            known = self._numbers.get(id(value))
            if known is None:
                self._take_apart(value, key, fields)
            else:
                key += known[1]
                fields += known[2]
        found = self._ready.get(tuple(key)) or self._prepared(tuple(key), values)
        run, result_type = found
        result = ctypes.c_uint64() if result_type is None else result_type()
        exception = ctypes.c_void_p()
        status = run(ctypes.byref(result), ctypes.byref(exception), *fields)
        if status not in {0, -2}:  # numba's words for a result, and for None
            raise RuntimeError(f"the compiled pass {self._factory.__qualname__} ended with status {status}")
        return None if result_type is None else result.value

    def _take_apart(self, value: Any, key: list[Any], fields: list[Any]) -> None:
        """As `_take_apart`; a tuple that holds no array, which comes again with every chunk, is remembered."""
        keys, before = len(key), len(fields)
        _take_apart(value, key, fields)
        if type(value) is tuple and all(type(part) is str for part in key[keys:]):
            if len(self._numbers) >= _REMEMBERED:
                self._numbers = {}
            self._numbers[id(value)] = (
                value,
                tuple(key[keys:]),
                tuple(fields[before:]),
            )  # it lives, so its id is its own

    def _prepared(self, key: Key, values: tuple[Any, ...]) -> tuple[Any, Any]:
        with self._lock:
            if key not in self._ready:
                name = pass_store.name_of(self._factory, self._arguments, key)
                stored = None if name is None else pass_store.load(name)
                address, result = self._compile(values, name) if stored is None else stored
                types = [ctypes.c_void_p, ctypes.c_void_p, *_field_types(key)]
                self._ready[key] = (ctypes.CFUNCTYPE(ctypes.c_int32, *types)(address), RESULTS[result])
        return self._ready[key]

    def _compile(self, values: tuple[Any, ...], name: str | None) -> tuple[int, str]:
        from numba import typeof

        run: Any = compiled(self._factory(*self._arguments), no_cpython_wrapper=True, _nrt=False)
        run.compile(tuple(map(typeof, values)))
        (made,) = run.overloads.values()
        self._kept.append(run)  # the code lives as long as this
        result, symbol = str(made.signature.return_type), made.fndesc.llvm_func_name
        if name is not None:
            pass_store.save(name, made.library, symbol, result)
        return made.library.get_pointer_to_function(symbol), result


def _take_apart(value: Any, key: list[Any], fields: list[Any]) -> None:
    """Add a value's type to `key` and what it is made of to `fields`, in the order of numba's calls."""
    kind = type(value)
    if kind is np.ndarray:
        key.append((value.dtype.str, value.ndim, value.flags.num & _FLAGS))
        fields += (None, None, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides)
    elif kind is tuple:
        key.append("(")
        for item in value:
            _take_apart(item, key, fields)
        key.append(")")
    else:
        key.append(_NUMBERS[kind][0])
        fields.append(value.item() if isinstance(value, np.generic) else value)


_FIELD_TYPES = dict(_NUMBERS.values())


def _field_types(key: Key) -> list[Any]:
    types: list[Any] = []
    for part in key:
        if isinstance(part, tuple):
            whole = [ctypes.c_int64] * (2 + 2 * part[1])
            types += [ctypes.c_void_p, ctypes.c_void_p, *whole[:2], ctypes.c_void_p, *whole[2:]]
        elif part not in "()":
            types.append(_FIELD_TYPES[part])
    return types
