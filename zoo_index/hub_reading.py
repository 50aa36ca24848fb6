"""One model on the Hub -> what the catalog keeps of it: small files and headers, never a weight.

Costs one request for the commit and the names of the files, one for each small file, and what it takes to read the
header of each weight file.  A tokenizer whose bytes are known already is not read again.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from typing import Any

from zoo_index.catalog_rows import Entry
from zoo_index.documents import Reading, fault_sentence, kind_of, read_files
from zoo_index.errors import CheckpointError, HubError
from zoo_index.fingerprint import tokenizer_signature
from zoo_index.hub import HubRepo, ModelSource
from zoo_index.hub_listing import HubFacts, read_hub_facts
from zoo_index.metadata import ModelRecord, build_record
from zoo_index.plain import Json, plain
from zoo_index.tensors import DType

__all__ = ["GONE", "Tokenizers", "hub_location", "hub_state", "is_hub_location", "read_hub_entry", "unread_state"]

GONE = "gone"
"""The state of a model that the Hub no longer shows."""

_RECORD_REVISION = 3
"""Raised when records of the same commit come out otherwise than before, so that the next sync reads them anew."""

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model")


def hub_location(name: str) -> str:
    """Where the catalog says that a model of the Hub was read."""
    return f"hub:{name}"


def is_hub_location(location: str) -> bool:
    """Whether a catalog's entry was read on the Hub."""
    return location.startswith("hub:")


def hub_state(commit: str, facts: HubFacts) -> str:
    """The state of a model that was read: its commit, and what the Hub calls its parents, which can be renamed.

    Other tags do not count: the Hub changes some by itself, and a list need not show the same ones as the model's page.
    """
    parents = sorted(tag for tag in facts.tags if tag.startswith("base_model:"))
    return f"{_RECORD_REVISION} {commit} {hashlib.sha256(json.dumps(parents).encode()).hexdigest()[:12]}"


def unread_state(commit: str, facts: HubFacts) -> str:
    """The state of a model of which only what the Hub shows everybody was recorded."""
    return f"unread {hub_state(commit, facts)}"


class Tokenizers:
    """Signatures of tokenizers by the ids of their files' bytes; several threads may ask at once.

    known: those of earlier syncs.
    """

    def __init__(self, known: Mapping[str, str | None]) -> None:
        self._known = dict(known)
        self._fresh: dict[str, str | None] = {}
        self._guard = threading.Lock()
        self._reading: dict[str, threading.Lock] = {}

    def signature(self, source: ModelSource) -> str | None:
        """`tokenizer_signature` of a `HubRepo`, read once for all models with the same files."""
        ids = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in _siblings(source)}
        content = " ".join(f"{name} {ids[name]}" for name in _TOKENIZER_FILES if name in ids)
        if not content:
            return None
        with self._guard:
            reading = self._reading.setdefault(content, threading.Lock())
        with reading:  # the others with this tokenizer wait for the one that reads it
            if content not in self._known:
                signature = tokenizer_signature(source)
                with self._guard:
                    self._known[content] = self._fresh[content] = signature
            return self._known[content]

    def take_fresh(self) -> dict[str, str | None]:
        """The signatures that were read since the last call."""
        with self._guard:
            fresh, self._fresh = self._fresh, {}
        return fresh


def read_hub_entry(repo: HubRepo, tokenizers: Tokenizers) -> Entry:
    """Everything the catalog keeps of a model on the Hub.

    A model whose files the Hub does not hand out (gated), or that holds none of a model's, gets a record of what the Hub
    shows, with the refusal.  Raises `HubError` for what is not the model's doing.
    """
    facts = read_hub_facts(repo.info)
    name = str(repo.pinned.reference)
    try:
        reading = read_files(repo)
        record = build_record(repo, reading, hub=facts, tokenizer_of=tokenizers.signature)
        state = hub_state(repo.commit, facts)
    except HubError as fault:
        if not _is_withheld(fault):
            raise
        reading, state = _visible(repo, f"{fault.message} · {fault.hint}"), unread_state(repo.commit, facts)
        record = _visible_record(repo, reading, facts)
    except CheckpointError as fault:
        reading, state = _visible(repo, fault_sentence(fault)), hub_state(repo.commit, facts)
        record = _visible_record(repo, reading, facts)
    return Entry(record, hub_location(name), state, reading.documents, None)


def _is_withheld(fault: HubError) -> bool:
    from huggingface_hub.errors import DisabledRepoError, GatedRepoError

    return isinstance(fault.__cause__, GatedRepoError | DisabledRepoError)


def _visible(repo: HubRepo, refusal: str) -> Reading:
    """What the Hub tells everybody of a model's files: the card's metadata and an extract of the configs."""
    info: Any = repo.info
    config = info.config if isinstance(info.config, dict) else {}
    card = info.card_data.to_dict() if info.card_data is not None else {}
    told = {"config.json": config, "adapter_config.json": config.get("peft"), "README.md": card}
    documents = {name: _object(value) for name, value in told.items() if isinstance(value, dict) and value}
    return Reading(kind_of(repo.files()), documents, None, (refusal,), ())


def _visible_record(repo: HubRepo, reading: Reading, facts: HubFacts) -> ModelRecord:
    record = build_record(repo, reading, hub=facts, tokenizer_of=lambda _: None)
    counted = repo.info.safetensors
    if counted is None:
        return record
    types = {dtype.value: dtype.torch_name for dtype in DType}
    dtypes = {types.get(name, name.lower()): count for name, count in counted.parameters.items()}
    return record.model_copy(update={"parameters": counted.total, "dtypes": dtypes})


def _object(value: dict[str, Any]) -> dict[str, Json]:
    made = plain(value)
    return made if isinstance(made, dict) else {}


def _siblings(source: ModelSource) -> list[Any]:
    return list(source.info.siblings) if isinstance(source, HubRepo) else []
