"""Models on the Hub -> catalog: what is unchanged costs no request, and what was done stays done when it breaks off."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from zoo_index.catalog import Catalog
from zoo_index.catalog_rows import Entry
from zoo_index.errors import HubError, HubmergeError, HubUnavailableError, ReferenceFormatError
from zoo_index.hub import HubRepo, is_offline
from zoo_index.hub_listing import HubFacts, HubModel, list_hub_models, read_hub_facts
from zoo_index.hub_reading import GONE, Tokenizers, hub_state, is_hub_location, read_hub_entry, unread_state
from zoo_index.reference import ModelRef
from zoo_index.sync_report import Outcome, SyncLog

__all__ = ["HubQuery", "check_query", "sync_hub"]

_WORKERS = 8
_PATIENCE = 8
"""So many models in a row for which the Hub was not there end the sync: the others would fare no better."""


@dataclass(frozen=True)
class HubQuery:
    """Which models of the Hub: by name, and of those listed by `author` and `search`, the first `limit`."""

    repos: tuple[str, ...] = ()
    author: str | None = None
    search: str | None = None
    limit: int | None = None

    @property
    def lists(self) -> bool:
        """Whether the Hub is asked for a list."""
        return self.author is not None or self.search is not None

    def covers(self, name: str) -> bool:
        """Whether the list, if it is whole, would have a model of this name."""
        lower = name.casefold()
        by_author = self.author is None or lower.startswith(f"{self.author.casefold()}/")
        return by_author and all(word in lower for word in (self.search or "").casefold().split())


@dataclass(frozen=True)
class _Read:
    """What one worker brought: the name of today, what the Hub tells, and the entry unless nothing changed."""

    name: str
    facts: HubFacts
    entry: Entry | None


def check_query(query: HubQuery) -> tuple[ModelRef, ...]:
    """The references that a query names.

    Raises `ReferenceFormatError` for a name that no model on the Hub can have, and `HubError` when the network is forbidden.
    """
    if is_offline():
        raise HubError(
            "HF_HUB_OFFLINE is set, so the Hub is not asked",
            hint="unset it, or use --cache for the models that are on this disk",
        )
    references = tuple(ModelRef.of(repo) for repo in query.repos)
    for reference in references:
        if reference.is_local:
            raise ReferenceFormatError(
                f"{reference.name!r} is a folder, not a model on the Hub", hint="a folder is named without --repo"
            )
    return references


def sync_hub(catalog: Catalog, query: HubQuery, log: SyncLog) -> None:
    """Record the Hub's models of `query`; those that vanished from its list are looked for by name.

    A model that cannot be had is reported and never stops the sync.  Raises what `check_query` does, and `HubError` when the
    Hub is not to be reached or the list cannot be read; what was recorded stays.
    """
    references = check_query(query)
    work = _Work(catalog, log)
    try:
        for reference in references:
            work.look_at(str(reference))
        if query.lists:
            listed = 0
            for model in list_hub_models(author=query.author, search=query.search, limit=query.limit):
                listed += 1
                work.compare(model)
            if query.limit is None or listed < query.limit:
                work.look_for(name for name in catalog.states() if query.covers(name))
        work.finish()
    finally:
        work.close()


class _Work:
    """Reads several models at once, and records them in the order in which they were asked for."""

    def __init__(self, catalog: Catalog, log: SyncLog) -> None:
        self._catalog, self._log = catalog, log
        self._before = catalog.states()
        self._tokenizers = Tokenizers(catalog.tokenizers())
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="zoo-sync")
        self._waiting: deque[tuple[str, Future[_Read]]] = deque()
        self._seen: set[str] = set()
        self._failures = 0

    def look_at(self, name: str) -> None:
        """Read a model that is named, if it changed; a gated one is tried again."""
        if name.casefold() not in self._seen:
            self._seen.add(name.casefold())
            self._waiting.append((name, self._pool.submit(_read, name, self._state, self._tokenizers)))
            while len(self._waiting) > 2 * _WORKERS:
                self._record_next()

    def compare(self, model: HubModel) -> None:
        """Read a model of a list, unless the catalog has its commit."""
        if model.name.casefold() in self._seen:
            return
        known = {hub_state(model.commit, model.facts), unread_state(model.commit, model.facts)}
        if self._state(model.name) in known:
            self._seen.add(model.name.casefold())
            record = self._catalog.refresh(model.name, model.facts)
            self._log.add(model.name, "unchanged", record.refusals)
        else:
            self.look_at(model.name)

    def look_for(self, names: Iterable[str]) -> None:
        """Ask for the models of a list's kind that were on the Hub and are not on the list; the gone stay gone."""
        self.finish()
        for name in names:
            if self._state(name) not in ("", GONE) and "@" not in name:
                self.look_at(name)

    def finish(self) -> None:
        """Wait for what is being read, and record it."""
        while self._waiting:
            self._record_next()

    def close(self) -> None:
        """What was not begun is left; what is being read is waited for, but no longer recorded."""
        self._pool.shutdown(cancel_futures=True)

    def _state(self, name: str) -> str:
        """The state of a model that was recorded from the Hub; empty for another."""
        location, state = self._before.get(name, ("", ""))
        return state if is_hub_location(location) else ""

    def _record_next(self) -> None:
        asked, future = self._waiting.popleft()
        try:
            read = future.result()
        except HubUnavailableError as fault:
            self._failures += 1
            if self._failures >= _PATIENCE:
                raise
            self._log.add(asked, "refused", [str(fault)])
        except HubmergeError as fault:
            self._failures = 0
            self._refuse(asked, fault)
        else:
            self._failures = 0
            self._record(asked, read)

    def _refuse(self, asked: str, fault: HubmergeError) -> None:
        if _is_missing(fault) and self._state(asked):
            self._catalog.bury(asked, GONE, "it is no longer on the Hub, or private now")
            self._log.add(asked, "gone")
        else:
            self._log.add(asked, "refused", [str(fault)])

    def _record(self, asked: str, read: _Read) -> None:
        if read.name.casefold() == asked.casefold():
            if read.name != asked:
                self._catalog.remove(asked)  # another spelling of the same name
        else:
            self._catalog.rename(asked, read.name)
            self._log.rename(asked, read.name)
            if read.name.casefold() in self._seen:
                return
            self._seen.add(read.name.casefold())
        for content, signature in self._tokenizers.take_fresh().items():
            self._catalog.keep_tokenizer(content, signature)
        if read.entry is None:
            record = self._catalog.refresh(read.name, read.facts)
            self._log.add(read.name, "unchanged", record.refusals)
            return
        known = read.name in self._before
        same = read.entry.state == self._state(read.name)  # a gated model that is still withheld
        self._catalog.upsert(self._with_sketch(read.entry) if known else read.entry)
        outcome: Outcome = "unchanged" if same else "updated" if known else "added"
        self._log.add(read.name, outcome, read.entry.record.refusals)

    def _with_sketch(self, entry: Entry) -> Entry:
        """A sample of the weights that was taken from this disk stays true as long as the commit is the same."""
        old = self._catalog.entry(entry.record.reference)
        same = old.record.commit == entry.record.commit and old.record.core_signature == entry.record.core_signature
        return replace(entry, sketch=old.sketch) if same else entry


def _read(name: str, state_of: Callable[[str], str], tokenizers: Tokenizers) -> _Read:
    """Runs in a worker: reads the model under the name of today, unless it is in the state that is known."""
    reference = ModelRef.of(name)
    repo = HubRepo(reference, keep=False)
    if repo.name != reference.name:
        reference = ModelRef.of(repo.name, reference.revision)
        repo = HubRepo(reference, keep=False)
    facts, today = read_hub_facts(repo.info), str(reference)
    if hub_state(repo.commit, facts) == state_of(today):
        return _Read(today, facts, None)
    return _Read(today, facts, read_hub_entry(repo, tokenizers))


def _is_missing(fault: HubmergeError) -> bool:
    from huggingface_hub.errors import RepositoryNotFoundError

    return isinstance(fault.__cause__, RepositoryNotFoundError)
