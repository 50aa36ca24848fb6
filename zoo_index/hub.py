"""Models on the Hugging Face Hub: `HubRepo`, one commit of a repository behind the same face as a folder.

With `hub_calls` this is the only place that talks to the Hub, always through huggingface_hub: its token, its endpoint,
its cache.  Files that are read whole, and weights, go through the ordinary Hub cache; headers are read by range.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo_index.cache import cached_models, cached_snapshot, forget, hub_cache_folder, is_intact, remember_revision
from zoo_index.errors import CheckpointError, HubError, ModelNotFoundError
from zoo_index.hub_calls import call
from zoo_index.reference import ModelRef, PinnedRef
from zoo_index.source import LocalFolder, ModelSource, checked_name

__all__ = [
    "HubRepo",
    "LocalFolder",
    "ModelSource",
    "cached_models",
    "fetch",
    "hub_cache_folder",
    "is_offline",
    "open_source",
]

_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".onnx", ".msgpack")
_LARGEST = 64 << 20
"""Most bytes of one file that is read without being kept: the largest tokenizers have about half of it."""


class HubRepo:
    """One model on the Hub, pinned to a commit.

    Opening asks the Hub once, for the commit and the names and sizes of its files.  `read` takes a range of a weight file
    over the network, and any other file whole through the cache; `path` fetches a file into the cache.

    keep: False reads other files straight too, with one request and nothing kept: for looking at many models.
    """

    def __init__(self, reference: ModelRef, token: str | None = None, *, keep: bool = True) -> None:
        self._reference = reference.model
        self._token = token
        self._keep = keep
        self._read: dict[str, bytes] = {}
        self._places: dict[str, str] = {}  # where the Hub has led to for a file: the next range is asked for there

    @cached_property
    def info(self) -> Any:
        """What the Hub tells of the repository at this commit: huggingface_hub's ModelInfo, with the files' sizes."""
        from huggingface_hub import HfApi

        name, revision = self._reference.name, self._reference.revision
        info = call(name, lambda: HfApi(token=self._token).model_info(name, revision=revision, files_metadata=True))
        if info.sha is None or info.siblings is None:
            raise HubError("the Hub tells neither commit nor files", where=name, hint="try again later")
        return info

    @cached_property
    def pinned(self) -> PinnedRef:
        revision = self._reference.revision or ""
        return PinnedRef(self._reference, revision if _COMMIT.match(revision) else self.info.sha)

    @property
    def name(self) -> str:
        """The repository's name today: another than asked for when it was moved."""
        return str(self.info.id)

    @property
    def commit(self) -> str:
        return str(self.pinned.commit)

    def files(self) -> Mapping[str, int]:
        names = {sibling.rfilename: sibling.size or 0 for sibling in self.info.siblings}
        return {name: names[name] for name in sorted(names)}

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        cached = self._cached(name)
        small = not name.endswith(_WEIGHTS)
        if cached is None and small and self._keep:
            cached = self.path(name)
        if cached is None and small:
            return self._whole(name)[start:end]
        if cached is not None:
            with cached.open("rb") as file:
                file.seek(start)
                return file.read() if end is None else file.read(max(0, end - start))
        size = self.files()[name]
        return self._range(name, start, size if end is None else min(end, size))

    def _whole(self, name: str) -> bytes:
        """A file that is no weights, asked for once."""
        if name not in self._read:
            size = self.files()[name]
            if size > _LARGEST:
                raise CheckpointError(
                    f"{name} has {size:,} bytes, more than the {_LARGEST:,} that are read of such a file",
                    where=str(self.pinned),
                    hint="name a model whose config and tokenizer are smaller",
                )
            self._read[name] = self._range(name, 0, size) if size else b""
        return self._read[name]

    def path(self, name: str) -> Path:
        checked_name(name, str(self.pinned))
        return self._cached(name) or self._download(name)

    def missing(self, names: Iterable[str]) -> Mapping[str, int]:
        sizes = self.files()
        return {name: sizes[name] for name in names if self._cached(name) is None}

    def _cached(self, name: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self._reference.name, name, revision=self.commit)
        return Path(found) if isinstance(found, str) else None

    def _download(self, name: str) -> Path:
        from huggingface_hub import constants, hf_hub_download

        repo, commit = self._reference.name, self.commit
        options: dict[str, Any] = {"revision": commit, "token": self._token, "endpoint": constants.ENDPOINT}
        fetched = Path(call(repo, lambda: hf_hub_download(repo, name, **options)))
        if not is_intact(fetched):
            forget(fetched)
            raise HubError(
                f"{name} does not have the digest that the Hub tells",
                where=str(self.pinned),
                hint="try again; nothing of it was kept",
            )
        remember_revision(repo, self._reference.revision or "main", commit)
        return fetched

    def _range(self, name: str, start: int, stop: int) -> bytes:
        """Bytes of a file straight from the Hub; the client drops its token where a redirect leaves the Hub."""
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

        repo = self._reference.name
        home = hf_hub_url(repo, checked_name(name, str(self.pinned)), revision=self.commit, endpoint=constants.ENDPOINT)
        asked = {"range": f"bytes={start}-{stop - 1}", "accept-encoding": "identity"}

        def get() -> bytes:
            place = self._places.get(name)
            headers = {**build_hf_headers(token=False if place else self._token), **asked}
            with get_session().stream(
                "GET", place or home, headers=headers, follow_redirects=True, timeout=60
            ) as response:
                if place and response.status_code >= 400:
                    self._places.pop(name, None)  # such addresses live for an hour or less
                    return get()
                hf_raise_for_status(response)
                if response.status_code == 206 and not str(response.url).startswith(f"{constants.ENDPOINT}/"):
                    self._places[name] = str(response.url)
                if response.status_code != 206 and start:
                    raise CheckpointError(
                        f"{name} cannot be read by range", where=str(self.pinned), hint="fetch it with `hf download`"
                    )
                read = bytearray()
                for chunk in response.iter_bytes():
                    read += chunk
                    if len(read) >= stop - start:
                        break
                return bytes(read[: stop - start])

        data = call(repo, get)
        if len(data) < stop - start:
            raise HubError(
                f"{name} ends {stop - start - len(data)} bytes before the size the Hub tells",
                where=str(self.pinned),
                hint="try again later",
            )
        return data

    def __repr__(self) -> str:
        return f"HubRepo({str(self._reference)!r})"


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def open_source(reference: ModelRef, token: str | None = None, *, keep: bool = True) -> ModelSource:
    """The files of `reference` (its adapter, if any, is opened by `reference.adapter`).

    A folder is itself.  A Hub name is asked for on the Hub, or taken from the local Hub cache when ``HF_HUB_OFFLINE`` is
    set.  A folder of that name in the current folder comes first, as in transformers; when the cache has a model of the name
    too, a name without a revision is ambiguous and refused.

    token: as in huggingface_hub; None is the one that is logged in.  keep: as in `HubRepo`.  Raises `ModelNotFoundError` when there is no such
    folder or, offline, no such model in the cache, and `HubError` for what the Hub refuses.
    """
    if reference.is_local:
        return LocalFolder(reference.path, PinnedRef(reference.model))
    cached = cached_snapshot(reference)
    if reference.revision is None and Path(reference.name).is_dir():
        if cached is not None:
            raise ModelNotFoundError(
                f"{reference.name} is both a folder here and a model in the Hub cache",
                where=str(reference),
                hint=f"write ./{reference.name} for the folder, or {reference.name}@main for the Hub's",
            )
        return LocalFolder(Path(reference.name), PinnedRef(ModelRef.of(f"./{reference.name}")))
    if not is_offline():
        return HubRepo(reference, token, keep=keep)
    if cached is None:
        raise ModelNotFoundError(
            f"{reference.model} is not in the local Hub cache, and HF_HUB_OFFLINE is set",
            where=str(hub_cache_folder()),
            hint=f"`hf download {reference.name}` fetches it; write ./{reference.name.rpartition('/')[2]} for a folder",
        )
    return cached


def fetch(wanted: Sequence[tuple[ModelSource, str]], workers: int = 8) -> None:
    """Bring files (source, name) to this disk, several at a time; what is there is not fetched again.

    A broken download goes on where it stopped, also in a later run.  Raises the first `HubError`.
    """
    missing = [(source, name) for source, name in wanted if source.missing([name])]
    with ThreadPoolExecutor(workers, thread_name_prefix="fetch") as pool:
        for future in [pool.submit(source.path, name) for source, name in missing]:
            future.result()
