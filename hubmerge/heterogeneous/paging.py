"""What halted models hold, in memory as far as there is room and else in a scratch file; what comes back has the same bits.

A run is one model on one batch.  What it has computed and still needs is seen by watching torch's operations.  All batches are gone
through in their order again and again: of the runs in memory the one used last is written away first, so that a pass fetches only as many
as there is no room for.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubmerge.free_memory import return_free_memory

if TYPE_CHECKING:
    from torch import Tensor, UntypedStorage

    from hubmerge.heterogeneous.scratch import Scratch

__all__ = ["Held", "Pager"]

_LEAST = 2**14
"""Bytes of a storage below which it stays in memory."""
_TRIMMED = 2**26
"""Bytes written away after which the memory that they leave in the heaps of many threads is given back."""


@dataclass
class _Page:
    """One storage.  weak: a reference that does not keep it.  place: in the scratch file, None where it was never written.  written: whether
    it is there as it is now; away: whether it is there alone.
    """

    weak: Any
    size: int
    place: int | None = None
    written: bool = False
    away: bool = False

    @property
    def storage(self) -> UntypedStorage:
        import torch

        return torch.UntypedStorage._new_with_weak_ptr(self.weak.cdata)  # noqa: SLF001 - as torch itself shares storages

    @property
    def data(self) -> memoryview:
        """The storage's memory.  An array of numpy would keep it from ever being given back."""
        return memoryview((ctypes.c_ubyte * self.size).from_address(self.storage.data_ptr())).cast("B")


class Pager:
    """All runs of several models; those in memory hold no more than `room` bytes together, but for those of one batch."""

    def __init__(self, scratch: Scratch, room: int) -> None:
        self.scratch = scratch
        self._room = room
        self._awake: list[Held] = []
        self._freed = 0
        self._owners: dict[int, Held] = {}

    def owns(self, owner: Held, storage: int) -> None:
        self._owners[storage] = owner

    def forget(self, storages: Iterable[int]) -> None:
        for each in storages:
            self._owners.pop(each, None)

    def fetch(self, tensors: Sequence[Tensor]) -> None:
        """Bring back the runs that these tensors are of: some models keep tensors of one batch for the next."""
        for tensor in tensors:
            owner = self._owners.get(_key(tensor))
            if owner is not None:
                owner.fetch()
                if owner not in self._awake:
                    self._awake.insert(0, owner)

    def used(self, run: Held) -> None:
        """`run` is the one used last; where there is too little room for it, others are written away."""
        self.left(run)
        self._awake.append(run)
        total = sum(each.size for each in self._awake)
        for other in self._awake[-2::-1]:
            if total > self._room and other.batch != run.batch:
                total -= other.size
                other.write_away()
                self._awake.remove(other)
                self._freed += other.size
        if self._freed > _TRIMMED:
            self._freed = 0
            return_free_memory()

    def left(self, run: Held) -> None:
        if run in self._awake:
            self._awake.remove(run)


class Held:
    """What one run holds.  batch: the number of its batch.  size: of what it held when it last halted, in bytes."""

    def __init__(self, pager: Pager, batch: int) -> None:
        self._pager, self.batch = pager, batch
        self._pages: dict[int, _Page] = {}
        self.size = 0

    def watching(self) -> AbstractContextManager[Any]:
        """While this lasts, the operations of this thread are the run's."""
        return _watching(self)

    def takes(self, tensors: Sequence[Tensor]) -> None:
        """An operation of the run is about to read these."""
        self._pager.fetch(tensors)

    def gave(self, tensors: Sequence[Tensor], taken: Sequence[Tensor], *, changed: bool) -> None:
        """An operation of the run gave these, and took others.  changed: whether it changed some of those in place.

        What shares memory with something that was taken is not the operation's own: a weight, or an earlier operation's.
        """
        from torch.multiprocessing.reductions import StorageWeakRef

        before = {_key(each) for each in taken}
        for tensor in tensors:
            storage, key = tensor.untyped_storage(), _key(tensor)
            if key not in before and key not in self._pages and storage.nbytes() >= _LEAST:
                weak = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                self._pages[key] = _Page(weak, storage.nbytes())
                self._pager.owns(self, key)
        for key in before if changed else ():
            if key in self._pages:
                self._pages[key].written = False

    def halted(self) -> None:
        """The run holds other things than before."""
        self.size = sum(page.size for page in self._living())
        self._pager.used(self)

    def wake(self) -> None:
        """Everything is brought back, before the run goes on or something of it is read."""
        self.fetch()
        self._pager.used(self)

    def fetch(self) -> None:
        """The same, whatever room there is."""
        for page in self._living():
            if page.away:
                assert page.place is not None
                page.storage.resize_(page.size)
                self._pager.scratch.get(page.place, page.data)
                page.away = False

    def write_away(self) -> None:
        """Write what is not written yet, and give the memory back."""
        for page in self._living():
            storage = page.storage
            if page.away or not storage.resizable():
                continue
            if not page.written:
                page.place = self._pager.scratch.put(page.data, page.place)
                page.written = True
            storage.resize_(0)
            page.away = True

    def end(self) -> None:
        """The run is over: what something outside still refers to is brought back and stays."""
        self.fetch()
        self._pager.left(self)
        self._drop(list(self._pages))

    def _living(self) -> list[_Page]:
        """The pages that something refers to; the others are dropped."""
        self._drop([key for key, page in self._pages.items() if page.weak.expired()])
        return list(self._pages.values())

    def _drop(self, storages: Sequence[int]) -> None:
        self._pager.forget(storages)
        for each in storages:
            page = self._pages.pop(each)
            if page.place is not None:
                self._pager.scratch.give_up(page.place, page.size)


def _key(tensor: Tensor) -> int:
    """The tensor's storage, by its address as an object, which is no other's as long as there is a weak reference to it."""
    found: int = tensor.untyped_storage()._cdata  # noqa: SLF001 - see `_Page.storage`
    return found


def _watching(held: Held) -> AbstractContextManager[Any]:
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            taken = list(_tensors((*args, *kwargs.values()), Tensor))
            held.takes(taken)
            given = func(*args, **kwargs)
            held.gave(list(_tensors((given,), Tensor)), taken, changed=func._schema.is_mutable)  # noqa: SLF001 - of every operation
            return given

    return Watching()  # type: ignore[no-untyped-call]


def _tensors(values: Iterable[Any], kind: type[Tensor]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, kind):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value, kind)
