"""What is asked of lineage, answered: a step from child to parent, a model's relatives, a common ancestor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo_index.lineage import Confidence, Edge, EdgeSource, Relation

__all__ = ["CommonAncestor", "Lineage", "Link", "Relative"]


@dataclass(frozen=True)
class Link:
    """`child` was made from `parent`.  edges: all that say so, most trusted first.  doubted: others contradict it."""

    child: str
    parent: str
    edges: tuple[Edge, ...]
    doubted: bool = False

    @property
    def relation(self) -> Relation:
        """What the most trusted edge that states a relation calls it."""
        return next((edge.relation for edge in self.edges if edge.relation != "unknown"), "unknown")

    @property
    def confidence(self) -> Confidence:
        return self.edges[0].confidence

    @property
    def sources(self) -> tuple[EdgeSource, ...]:
        return tuple(dict.fromkeys(edge.source for edge in self.edges))

    @property
    def commit(self) -> str | None:
        """The parent's commit, where it was pinned."""
        return next((edge.commit for edge in self.edges if edge.commit), None)

    def to_json(self) -> dict[str, Any]:
        """The link with everything that is said for it, as plain JSON values."""
        told = [edge.model_dump(mode="json", exclude={"child"}) for edge in self.edges]
        return {
            "child": self.child,
            "parent": self.parent,
            "relation": self.relation,
            "source": self.sources[0],
            "confidence": self.confidence,
            "commit": self.commit,
            "doubted": self.doubted,
            "said_by": told,
        }


@dataclass(frozen=True)
class Relative:
    """A model up or down the lineage.  distance: steps on the shortest way; link: the last of them."""

    reference: str
    distance: int
    in_catalog: bool
    link: Link

    def to_json(self) -> dict[str, Any]:
        """The relative and its last step, as plain JSON values."""
        return {
            "reference": self.reference,
            "distance": self.distance,
            "in_catalog": self.in_catalog,
            "relation": self.link.relation,
            "source": self.link.sources[0],
            "confidence": self.link.confidence,
        }


@dataclass(frozen=True)
class Lineage:
    """One model's ancestors and descendants, nearest first.

    links: all steps among them and from them upwards, doubted ones too.  unknown: which models in `links` the catalog does
    not have.  contradictions: in words.  cycles: each from a model back to itself, parent before child.
    """

    reference: str
    in_catalog: bool
    ancestors: tuple[Relative, ...]
    descendants: tuple[Relative, ...]
    links: tuple[Link, ...]
    unknown: tuple[str, ...]
    contradictions: tuple[str, ...]
    cycles: tuple[tuple[str, ...], ...]

    @property
    def parents(self) -> tuple[Relative, ...]:
        return tuple(relative for relative in self.ancestors if relative.distance == 1)

    @property
    def children(self) -> tuple[Relative, ...]:
        return tuple(relative for relative in self.descendants if relative.distance == 1)

    def to_json(self) -> dict[str, Any]:
        """The lineage as plain JSON values."""
        return {
            "reference": self.reference,
            "in_catalog": self.in_catalog,
            "ancestors": [relative.to_json() for relative in self.ancestors],
            "descendants": [relative.to_json() for relative in self.descendants],
            "links": [link.to_json() for link in self.links],
            "unknown": list(self.unknown),
            "contradictions": list(self.contradictions),
            "cycles": [list(cycle) for cycle in self.cycles],
        }


@dataclass(frozen=True)
class CommonAncestor:
    """A model that all of `distances` descend from.

    distances: (model, steps up to the ancestor), in the order asked for.  confidence: of the least trusted step.
    """

    reference: str
    in_catalog: bool
    distances: tuple[tuple[str, int], ...]
    confidence: Confidence

    @property
    def reason(self) -> str:
        """In words: how each model descends from it."""
        steps = [f"{name} is it" if n == 0 else f"{name} is {n} step{'s' * (n > 1)} away" for name, n in self.distances]
        return f"{'; '.join(steps)}; {self.confidence} confidence"

    def to_json(self) -> dict[str, Any]:
        """The ancestor as plain JSON values."""
        return {
            "reference": self.reference,
            "in_catalog": self.in_catalog,
            "distances": dict(self.distances),
            "confidence": self.confidence,
            "reason": self.reason,
        }
