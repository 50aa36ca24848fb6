"""Who descends from whom among all known models: statements that can be wrong -> ancestors, descendants, common ancestor.

Of one child's statements the most trusted source is believed.  What others add to a complete statement, and the least
trusted step of a cycle, is *doubted*: kept and shown, but not followed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from zoo_index.lineage import SOURCE_WORDS, SOURCES, Confidence, Edge, EdgeSource
from zoo_index.lineage_answers import CommonAncestor, Lineage, Link, Relative
from zoo_index.lineage_names import ParentNames
from zoo_index.reference import is_local_name

__all__ = ["LineageGraph"]

_TRUST: tuple[Confidence, ...] = ("high", "medium", "low")


class LineageGraph:
    """All statements about all models, resolved and weighed once.

    kinds: the catalog's references with their kinds (model, adapter).  edges: what their files declare.  renames: as in
    `ParentNames`.
    """

    def __init__(self, kinds: Mapping[str, str], edges: Sequence[Edge], renames: Mapping[str, str]) -> None:
        self._kinds = kinds
        self._names = ParentNames(kinds, edges, renames)
        self._up: dict[str, dict[str, Link]] = {}
        self._down: dict[str, dict[str, Link]] = {}
        self._contradictions: dict[str, list[str]] = {}
        said: dict[str, dict[str, list[Edge]]] = {}
        for edge in edges:
            child, parent = self.resolve(edge.child), self.resolve(edge.parent, edge.child)
            if child != parent:
                said.setdefault(child, {}).setdefault(parent, []).append(edge)
        for child, parents in said.items():
            for link in self._weighed(child, parents):
                self._put(link)
        self._cycles = self._break_cycles()

    def resolve(self, name: str, child: str = "") -> str:
        """The one model that `name` means (in the files of `child`)."""
        return self._names.resolve(name, child)

    def knows(self, reference: str) -> bool:
        """Whether the catalog has it, or something in the catalog is said to descend from it."""
        return reference in self._kinds or reference in self._down

    def lineage(self, reference: str) -> Lineage:
        """Ancestors and descendants of a model, by its resolved name; without any for a model nobody mentions."""
        above, below = self._walk(reference, self._up), self._walk(reference, self._down)
        links = [link for name in (reference, *above) for link in self._up.get(name, {}).values()]
        links += [link for name in (reference, *below) for link in self._down.get(name, {}).values()]
        unique = {(link.child, link.parent): link for link in links}
        shown = {name for pair in unique for name in pair}
        return Lineage(
            reference=reference,
            in_catalog=reference in self._kinds,
            ancestors=tuple(Relative(name, n, name in self._kinds, link) for name, (n, link) in above.items()),
            descendants=tuple(Relative(name, n, name in self._kinds, link) for name, (n, link) in below.items()),
            links=tuple(unique.values()),
            unknown=tuple(name for name in sorted(shown) if name not in self._kinds),
            contradictions=tuple(line for name in sorted(shown) for line in self._contradictions.get(name, ())),
            cycles=tuple(cycle for cycle in self._cycles if not shown.isdisjoint(cycle)),
        )

    def common_ancestor(self, references: Sequence[str]) -> CommonAncestor | None:
        """The nearest model that all `references` (resolved, two or more) descend from; None when there is none.

        Nearest: the fewest steps in sum, and of equally near ones the older, then the first by name.  Adapters and
        quantised models are passed over, since they are no base of task vectors.  So is one of the references, which would
        have no task vector, unless nothing else is common.
        """
        walks: list[dict[str, tuple[int, Link | None]]] = [
            {name: (0, None), **self._walk(name, self._up)} for name in references
        ]
        common = [name for name in walks[0] if all(name in walk for walk in walks) and self._is_whole(name)]
        common = [name for name in common if name not in references] or common
        if not common or len(set(references)) < 2:
            return None
        steps = {name: sum(walk[name][0] for walk in walks) for name in common}
        fewest = min(steps.values())
        nearest = [name for name in common if steps[name] == fewest]
        found = min(nearest, key=lambda name: (len(self._walk(name, self._up)), name))
        trust = [self._trust(walk, start, found) for walk, start in zip(walks, references, strict=True)]
        distances = tuple((start, walk[found][0]) for walk, start in zip(walks, references, strict=True))
        return CommonAncestor(found, found in self._kinds, distances, _TRUST[max(trust)])

    def _trust(self, walk: Mapping[str, tuple[int, Link | None]], start: str, end: str) -> int:
        worst = 0
        while end != start:
            link = walk[end][1]
            if link is None:
                break
            worst, end = max(worst, _TRUST.index(link.confidence)), link.child
        return worst

    def _is_whole(self, name: str) -> bool:
        made = (link.relation for link in self._up.get(name, {}).values() if not link.doubted)
        return self._kinds.get(name) != "adapter" and not {"adapter", "quantized"} & set(made)

    def _weighed(self, child: str, parents: Mapping[str, list[Edge]]) -> Iterable[Link]:
        """The links of one child: the parents of its most trusted source are believed, others that it denies doubted."""
        by_trust = sorted((edge for edges in parents.values() for edge in edges), key=_rank)
        usable = [edge for edge in by_trust if self._is_usable(edge)]
        best = (usable or by_trust)[0].source
        told = [edge for edge in by_trust if edge.source == best]
        complete = all(self._is_usable(edge) for edge in told)
        believed = {self.resolve(edge.parent, edge.child) for edge in told}
        for parent, edges in parents.items():
            link = Link(child, parent, tuple(sorted(edges, key=_rank)), doubted=complete and parent not in believed)
            self._note_contradictions(link, best, believed)
            yield link

    def _is_usable(self, edge: Edge) -> bool:
        """Whether a name can mean a model here: a Hub name always, a folder's only if the catalog has it."""
        return not is_local_name(edge.parent) or self.resolve(edge.parent, edge.child) in self._kinds

    def _note_contradictions(self, link: Link, best: EdgeSource, believed: set[str]) -> None:
        notes = self._contradictions.setdefault(link.child, [])
        if link.doubted and any(map(self._is_usable, link.edges)):  # a folder of somebody's machine contradicts nothing
            theirs, its = ", ".join(sorted(believed)), link.sources[0]
            notes.append(f"{link.child}: {SOURCE_WORDS[best]} names {theirs}, {SOURCE_WORDS[its]} names {link.parent}")
        calls = {edge.relation: edge.source for edge in reversed(link.edges) if edge.relation != "unknown"}
        if len(calls) > 1:
            said = ", ".join(f"{relation} ({SOURCE_WORDS[source]})" for relation, source in sorted(calls.items()))
            notes.append(f"{link.child}: its relation to {link.parent} is told in several ways: {said}")

    def _put(self, link: Link) -> None:
        self._up.setdefault(link.child, {})[link.parent] = link
        self._down.setdefault(link.parent, {})[link.child] = link

    def _break_cycles(self) -> tuple[tuple[str, ...], ...]:
        """Doubt the least trusted steps of every cycle; the cycles, each from parent to child and back to its start."""
        found = []
        while True:
            steps = {c: [p for p, link in up.items() if not link.doubted] for c, up in self._up.items()}
            try:
                TopologicalSorter(steps).prepare()
            except CycleError as error:
                cycle: list[str] = error.args[1]
                links = [self._up[child][parent] for parent, child in pairwise(cycle)]
                worst = max(_rank(link.edges[0]) for link in links)
                for link in links:
                    if _rank(link.edges[0]) == worst:
                        self._put(Link(link.child, link.parent, link.edges, doubted=True))
                found.append(tuple(cycle))
            else:
                return tuple(found)

    def _walk(self, start: str, steps: Mapping[str, Mapping[str, Link]]) -> dict[str, tuple[int, Link]]:
        """Every model reached over links that are not doubted, nearest first: its distance and the last link."""
        found: dict[str, tuple[int, Link]] = {}
        level, distance = [start], 0
        while level:
            distance += 1
            following = []
            for name in level:
                for other, link in sorted(steps.get(name, {}).items()):
                    if not link.doubted and other != start and other not in found:
                        found[other] = (distance, link)
                        following.append(other)
            level = following
        return found


def _rank(edge: Edge) -> tuple[int, int]:
    return _TRUST.index(edge.confidence), SOURCES.index(edge.source)
