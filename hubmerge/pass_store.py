"""Compiled passes on disk, so that the next process need not compile them again.

A file holds the object code of one pass for one set of types.  Its name is a digest of everything that the code depends on:
the bytes of all of hubmerge's source, the versions of Python, numba, llvmlite and numpy, the processor's name and features,
numba's settings, the rule, the types.  What is not one of hubmerge's own rules is never stored: nobody knows what it calls.
Files are believed only in a folder, and when they are files, that this user alone can write; a damaged one is ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hubmerge.compiled_files import FOREIGN

__all__ = ["load", "name_of", "open_store", "save", "source_digest"]

_KEPT = 256
"""Files; the oldest are deleted when there are more.  One has some ten thousand bytes."""
_KNOWN_OUTSIDE = {"", "memset", "memcpy", "memmove", *FOREIGN}
"""What stored code may call: the C library's, which every process has."""
_SOURCE = Path(__file__).parent

_folder: Path | None = None
_identity = b""
_loaded: list[Any] = []


def open_store(folder: Path) -> None:
    """Use `folder` from now on, made when it is not there; without effect where it is not this user's alone.

    Called before anything is compiled, and in a process whose code nobody changes while it runs: the command line's.
    """
    global _folder, _identity
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not stat.S_ISDIR(folder.lstat().st_mode) or not _is_own(folder.lstat()):
            return
    except OSError:
        return
    _folder, _identity = folder, _environment(source_digest(_SOURCE))


def source_digest(package: Path) -> str:
    """sha256 over the names and bytes of every Python file below `package`."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def name_of(factory: Callable[..., Any], arguments: tuple[Any, ...], types: tuple[Any, ...]) -> str | None:
    """The file of the pass ``factory(*arguments)`` for these types; None when it is not to be stored."""
    if _folder is None:
        return None
    what = [_own_name(item) if callable(item) else repr(item) for item in (factory, *arguments)]
    if None in what:
        return None
    return hashlib.sha256(_identity + json.dumps([what, repr(types)]).encode()).hexdigest()


def load(name: str) -> tuple[int, str] | None:
    """Address and type of result of a stored pass; None when it is not there, damaged, or not this user's."""
    try:
        content = _read(_place(name))
    except OSError:
        return None
    digest, body = content[:32], content[32:]
    if hashlib.sha256(body).digest() != digest:
        return None
    head, _, code = body.partition(b"\n")
    facts = json.loads(head)
    if facts["name"] != name:
        return None
    address = _engine(code).get_function_address(facts["symbol"])
    return (address, facts["result"]) if address else None


def save(name: str, library: Any, symbol: str, result: str) -> None:
    """Store the code of one pass; nothing is stored when it calls what another process need not have.

    library: numba's, of the pass.  An error of the disk is none: the next process compiles again.
    """
    code: bytes = library._codegen._tm.emit_object(library._final_module)  # noqa: SLF001 - numba has no other door
    if not set(_called_outside(code)) <= _KNOWN_OUTSIDE or _environment(source_digest(_SOURCE)) != _identity:
        return
    body = json.dumps({"name": name, "symbol": symbol, "result": result}).encode() + b"\n" + code
    place = _place(name)
    beside = place.with_name(f"{name}.{os.getpid()}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(body).digest() + body)
        beside.replace(place)
        ages = sorted((path.stat().st_mtime_ns, path) for path in place.parent.iterdir())
        for _, path in ages[: max(0, len(ages) - _KEPT)]:
            path.unlink(missing_ok=True)
    except OSError:
        beside.unlink(missing_ok=True)


def _place(name: str) -> Path:
    if _folder is None:
        raise RuntimeError("no store is open")
    return _folder / name


def _is_own(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _read(path: Path) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read() if _is_own(os.fstat(file.fileno())) else b""


def _own_name(function: Any) -> str | None:
    """A name that stands for one function of hubmerge's source; None for all others."""
    module = sys.modules.get(function.__module__)
    file = getattr(module, "__file__", None)
    found = getattr(module, function.__qualname__, None)
    own = found is function or getattr(found, "__wrapped__", None) is function
    return f"{function.__module__}.{function.__qualname__}" if own and file and _SOURCE in Path(file).parents else None


def _environment(source: str) -> bytes:
    """What the code depends on beside rule and types."""
    from importlib.metadata import version

    import llvmlite.binding as llvm
    import numpy as np

    settings = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))
    own_file = Path(".numba_config.yaml")
    versions = [sys.version, *platform.uname()[:1], version("numba"), version("llvmlite"), np.__version__]
    machine = [llvm.get_default_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    settings_file = own_file.read_text(errors="replace") if own_file.is_file() else ""
    return json.dumps([1, source, versions, machine, settings, settings_file]).encode()


def _engine(code: bytes) -> Any:
    """The code, ready to be called in this process for as long as it lives."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)  # of its own: two passes can have one name
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _loaded.append(engine)
    return engine


def _called_outside(code: bytes) -> Iterator[str]:
    """Names that an object file (ELF, 64 bits, little-endian) uses and does not hold."""
    start, size, count = struct.unpack_from("<Q", code, 40)[0], *struct.unpack_from("<HH", code, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", code, start + i * size) for i in range(count)]
    for _, kind, _, _, offset, length, link, *_ in sections:
        if kind != 2:
            continue
        for place in range(offset, offset + length, 24):
            text, _, _, section = struct.unpack_from("<IBBH", code, place)
            if section == 0:
                begin = sections[link][4] + text
                yield code[begin : code.index(b"\0", begin)].decode()
