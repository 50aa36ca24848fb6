"""Which model a parent's name means: names change case, owner and form, and a folder's name means nothing elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from zoo_index.lineage import Edge, same_name
from zoo_index.reference import is_local_name

__all__ = ["ParentNames"]

_OWNERS = {  # the Hub once had models without an owner; they were moved to these, and the old names still lead there
    "albert-": "albert",
    "bert-": "google-bert",
    "camembert-": "almanach",
    "ctrl": "Salesforce",
    "distilbert-": "distilbert",
    "distilgpt2": "distilbert",
    "distilroberta-": "distilbert",
    "gpt2": "openai-community",
    "openai-gpt": "openai-community",
    "roberta-": "FacebookAI",
    "t5-": "google-t5",
    "transfo-xl-": "transfo-xl",
    "xlm-": "FacebookAI",
    "xlnet-": "xlnet",
}


class ParentNames:
    """From a name as some file writes it to one model: a reference of the catalog, or a name that is not in it.

    references: those of the catalog.  renames: old Hub names in small letters -> new ones.
    """

    def __init__(self, references: Iterable[str], edges: Iterable[Edge], renames: Mapping[str, str]) -> None:
        self._folders: dict[str, list[str]] = {}
        self._exact: dict[str, str] = {}
        for reference in references:
            if is_local_name(reference):
                self._exact[reference] = reference
                self._folders.setdefault(_last_part(reference), []).append(reference)
            else:
                self._exact[reference.casefold()] = reference
        self._renames = {**_renames_in_tags(edges, self._exact), **renames}
        self._others: dict[str, str] = {}

    def resolve(self, name: str, child: str = "") -> str:
        """The one model that `name` means in the files of `child`.

        Case and revision are ignored unless the catalog has that revision; renames are followed; a path is a folder of
        the catalog that ends in it, if only one does; a name without an owner is the folder of that name beside `child`.
        Another folder is named together with `child`: the same path means another folder in other files.
        """
        if is_local_name(name):
            return self._folder(name) or (f"{name} (a folder unknown here, of {child})" if child else name)
        if name.casefold() in self._exact:
            return self._exact[name.casefold()]
        today = self._name_of_today(name.split("@", 1)[0])
        known = self._exact.get(today.casefold()) or (
            self._folder(today) if "/" in today else self._beside(today, child)
        )
        return known or self._others.setdefault(today.casefold(), today)

    def _beside(self, name: str, child: str) -> str | None:
        if not child or not is_local_name(child):
            return None
        place = str(Path(child).parent / name)
        return self._exact.get(place) if place != child else None

    def _folder(self, name: str) -> str | None:
        if name in self._exact:
            return name
        found = [folder for folder in self._folders.get(_last_part(name), ()) if same_name(name, folder)]
        return found[0] if len(found) == 1 else None

    def _name_of_today(self, name: str) -> str:
        passed = {name.casefold()}
        while (new := self._renames.get(name.casefold())) and new.casefold() not in passed:
            name = new
            passed.add(name.casefold())
        if "/" in name:
            return name
        owner = next((owner for start, owner in _OWNERS.items() if name.casefold().startswith(start)), None)
        return f"{owner}/{name}" if owner else name


def _renames_in_tags(edges: Iterable[Edge], known: Mapping[str, str]) -> dict[str, str]:
    """Renames that the Hub gives away: the card names one parent, and the Hub's tag for it has another name."""
    named: dict[str, tuple[set[str], set[str]]] = {}
    for edge in edges:
        if edge.source in ("card", "hub_tag") and not is_local_name(edge.parent):
            named.setdefault(edge.child, (set(), set()))[edge.source == "hub_tag"].add(edge.parent)
    found = {}
    for in_card, in_tags in named.values():
        tagged = {name.casefold() for name in in_tags}
        if len(in_card) == len(in_tags) == 1 and not tagged & {name.casefold() for name in in_card}:
            old = next(iter(in_card)).casefold()
            if old not in known:
                found[old] = next(iter(in_tags))
    return found


def _last_part(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].casefold()
