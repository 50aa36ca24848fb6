"""`ParentFacts`: what a card says about one input of a merge, from the manifest and from the parent's own card."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

from cards.card_check import read_front_matter
from cards.licence import ParentLicence
from cards.names import as_folder
from cards.public import public_names
from hubmerge.manifest import Manifest, ParentRecord
from zoo_index.cache import cached_snapshot
from zoo_index.errors import HubmergeError
from zoo_index.hub import open_source
from zoo_index.reference import ModelRef, is_local_name

__all__ = ["CardFacts", "ParentFacts", "ParentModel", "read_parents"]


@dataclass(frozen=True)
class CardFacts:
    """What a model's own card states; `found` is False when the model is not here to be read."""

    found: bool
    licence: str | None = None
    licence_name: str | None = None
    licence_link: str | None = None
    datasets: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    base_models: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParentModel:
    """One model or adapter by its public name, and what its card states.  hub_id: None for a folder."""

    name: str
    hub_id: str | None
    commit: str | None
    card: CardFacts

    @property
    def licence(self) -> ParentLicence:
        return ParentLicence(self.name, self.card.licence, self.card.licence_name, self.card.licence_link)


@dataclass(frozen=True)
class ParentFacts:
    """One input of the merge.  sample: sha256 of bytes sampled from its weights, short, empty when the manifest has none;
    header: sha256 of its weight files' headers, short.  parameters: as the recipe gave.
    """

    role: Literal["base", "parent"]
    model: ParentModel
    adapter: ParentModel | None
    sample: str
    header: str
    parameters: Mapping[str, Any]

    @property
    def name(self) -> str:
        """``model`` or ``model+adapter``."""
        return f"{self.model.name}+{self.adapter.name}" if self.adapter else self.model.name

    @property
    def models(self) -> tuple[ParentModel, ...]:
        """The model and, if there is one, its adapter."""
        return (self.model, self.adapter) if self.adapter else (self.model,)


def read_parents(manifest: Manifest) -> tuple[ParentFacts, ...]:
    """The manifest's inputs in order, with what their cards state as far as they can be read here.

    A parent that is not here any more, or has no readable card, states nothing; that is not an error.
    """
    names = {folder: name.removeprefix("./") for folder, name in public_names(manifest).items()}
    return tuple(_parent(record, names) for record in manifest.parents)


def _parent(record: ParentRecord, names: Mapping[str, str]) -> ParentFacts:
    adapter = _model(record.adapter, record.adapter_commit, names) if record.adapter is not None else None
    return ParentFacts(
        role=record.role,
        model=_model(record.reference, record.commit, names),
        adapter=adapter,
        sample=record.sample[:12],
        header=_short_digest(record.headers),
        parameters=record.parameters,
    )


def _model(reference: str, commit: str | None, names: Mapping[str, str]) -> ParentModel:
    hub_id = None if commit is None else reference.partition("@")[0]
    card = _read_card(as_folder(reference) if hub_id is None else f"{hub_id}@{commit}")
    return ParentModel(hub_id or names[reference], hub_id, commit, card)


def _read_card(reference: str) -> CardFacts:
    try:
        front = _front_matter(ModelRef.of(reference))
    except HubmergeError:
        return CardFacts(found=False)
    licence = _words(front.get("license"))
    return CardFacts(
        found=True,
        licence=", ".join(licence).casefold() or None,
        licence_name=next(iter(_words(front.get("license_name"))), None),
        licence_link=next(iter(_words(front.get("license_link"))), None),
        datasets=tuple(name for name in _words(front.get("datasets")) if not is_local_name(name)),
        languages=_words(front.get("language")),
        base_models=tuple(_public_name(name) for name in _words(front.get("base_model"))),
    )


def _front_matter(reference: ModelRef) -> dict[str, Any]:
    """The metadata of a model's card, empty without one.  A card in the Hub cache, at its commit, is not asked for again."""
    cached = cached_snapshot(reference) if reference.revision else None
    source = cached if cached is not None and "README.md" in cached.files() else open_source(reference)
    if "README.md" not in source.files():
        return {}
    try:
        return read_front_matter(source.read("README.md").decode("utf-8", errors="replace"))
    except ValueError:
        return {}  # a damaged card states nothing


def _public_name(name: str) -> str:
    """A Hub name as it is, a local path as the name of its folder."""
    return PurePath(name.rstrip("/")).name if is_local_name(name) else name


def _words(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(" ".join(word.split()) for word in values if isinstance(word, str) and word.strip())


def _short_digest(headers: Mapping[str, str]) -> str:
    if len(headers) == 1:
        return next(iter(headers.values()))[:12]
    return hashlib.sha256(
        "".join(f"{name} {digest}\n" for name, digest in sorted(headers.items())).encode()
    ).hexdigest()[:12]
