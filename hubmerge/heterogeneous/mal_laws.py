"""How far every layer of a base bears every donor: drift and loss as a function of the donor's share, one layer at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.evaluating import evaluating, refuse_half
from hubmerge.heterogeneous.mal_drift import mean_loss
from hubmerge.heterogeneous.mal_search import Search
from hubmerge.heterogeneous.mal_zoo import zoo_of

__all__ = ["LAW_FACTORS", "Law", "Laws", "Point", "laws"]


LAW_FACTORS = tuple(i / 10 for i in range(11))
"""0, .1, ..., 1: at what shares of a donor the curves are measured, unless others are given."""


@dataclass(frozen=True)
class Point:
    """factor: the donor's share.  drift: of the layer's output.  loss: of the whole model with this layer alone merged; None without a
    probe.
    """

    factor: float
    drift: float
    loss: float | None


@dataclass(frozen=True)
class Law:
    """The curve of one layer and one donor; names and numbers as in `Decision`.  points: by factor, none where why says that no layer of
    the donor goes with this one.
    """

    donor: int
    layer: str
    position: int
    donor_layer: str | None
    cka: float
    similarity: float
    points: tuple[Point, ...]
    why: str = ""

    def largest_within(self, tau: float) -> float | None:
        """The largest factor whose drift is at most `tau`, of those that were measured; None where there is none."""
        return max((point.factor for point in self.points if point.drift <= tau), default=None)


@dataclass(frozen=True)
class Laws:
    """curves: donor by donor, layers in the base's order.  loss: of the control on the probe, None without one."""

    curves: tuple[Law, ...]
    loss: float | None


def laws(
    base: Any,
    donors: Sequence[Any],
    batches: Iterable[Batch] | None = None,
    *,
    factors: Sequence[float] = LAW_FACTORS,
    probe: Iterable[Batch] | None = None,
    min_similarity: float = 0.0,
    min_cka: float = 0.0,
    without: Collection[str] = (),
    renormalise: bool = True,
    seed: int = 0,
    names: Sequence[str] = (),
) -> Laws:
    """Measure the curves; arguments and errors as for `assemble_from_zoo`.  Nothing is merged for good.

    names: what errors call the donors, by default by their places.
    """
    refuse_half({"base": base, **{f"donors[{i}]": donor for i, donor in enumerate(donors)}})
    with evaluating([base, *donors]):
        zoo = zoo_of(
            base,
            donors,
            batches,
            min_similarity=min_similarity,
            min_cka=min_cka,
            without=without,
            renormalise=renormalise,
            seed=seed,
            names=names,
        )
        labelled = None if probe is None else list(probe)
        search = Search(zoo, sorted(set(factors)), float("inf"), labelled)
        state, curves = base.state_dict(), []
        for donor, alignment in enumerate(zoo.alignments):
            theirs = zoo.donors[donor].state_dict()
            for pair in alignment.pairs:
                facts = (donor, pair.ours.name, pair.ours.place)
                if pair.theirs is None:
                    curves.append(Law(*facts, None, 0.0, 0.0, (), pair.why))
                    continue
                points = tuple(
                    Point(tried.factor, tried.drift, tried.loss)
                    for tried in search.tried(state, theirs, alignment, pair)
                )
                curves.append(Law(*facts, pair.theirs.name, pair.cka, pair.similarity, points))
        return Laws(tuple(curves), None if labelled is None else mean_loss(zoo.with_tensors(state), labelled))
