"""The largest share of a donor's layer that a layer of the base takes: factors tried one by one, by drift and by loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.block_pairs import Pair
from hubmerge.heterogeneous.mal_decisions import Decision
from hubmerge.heterogeneous.mal_drift import drift, layer_calls, mean_loss
from hubmerge.heterogeneous.mal_pairs import Alignment
from hubmerge.heterogeneous.mal_zoo import Zoo
from hubmerge.mal_stages import Choose

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Search", "Tried", "Turn"]


Turn = tuple[int, int, Pair]
"""Round, donor, and the pair of layers whose turn it is."""


@dataclass(frozen=True)
class Tried:
    """One factor, and what came of it; loss: None without a probe, and where the drift decided already."""

    factor: float
    drift: float
    loss: float | None


@dataclass(frozen=True)
class Search:
    """What the factor of a layer is looked for with.  factors: the largest first, none 0.  control: its loss on the probe."""

    zoo: Zoo
    factors: Sequence[float]
    tau: float
    probe: Sequence[Batch] | None = None
    control: float | None = None
    eps: float = 0.0
    choose: Choose = "largest"

    def decide(
        self,
        state: Mapping[str, Tensor],
        loss: float | None,
        theirs: Mapping[str, Tensor],
        alignment: Alignment,
        turn: Turn,
    ) -> Decision:
        """Try the factors on `state`, which is not changed.  loss: of the model that it is."""
        number, donor, pair = turn
        facts = (number, donor, pair.ours.name, pair.ours.place)
        if pair.theirs is None:
            return Decision(*facts, None, 0.0, 0.0, 0.0, 0.0, None, None, accepted=False, why=pair.why)
        own = (*facts, pair.theirs.name, pair.cka, pair.similarity, pair.gain)
        last, best = None, None
        for last in self.tried(state, theirs, alignment, pair):
            if last.drift > self.tau or self._too_high(last.loss, loss):
                continue
            if best is None or (last.loss or 0.0) < (best.loss or 0.0):
                best = last
            if self.choose == "largest":
                break
        if best is not None:
            return Decision(*own, best.factor, best.drift, best.loss, accepted=True)
        if last is None:
            return Decision(*own, 0.0, None, None, accepted=False, why="no factor above 0 is to be tried")
        return Decision(*own, 0.0, last.drift, last.loss, accepted=False, why=self._why(last, loss))

    def _too_high(self, loss: float | None, before: float | None) -> bool:
        if loss is None or before is None or self.control is None:
            return False
        fits = loss < before if self.choose == "best" else loss <= (1 + self.eps) * self.control
        return not fits  # also where the loss is not a number

    def tried(
        self, state: Mapping[str, Tensor], theirs: Mapping[str, Tensor], alignment: Alignment, pair: Pair
    ) -> Iterator[Tried]:
        """Every factor, in its order."""
        name, zoo = pair.ours.name, self.zoo
        calls = layer_calls(zoo.reference, name, zoo.batches, zoo.noise, zoo.scratch)
        for factor in self.factors:
            tensors = alignment.merged(pair, state, theirs, factor)
            own = {ending: tensors[whole] for ending, whole in pair.ours.tensors.items()}
            moved = drift(zoo.reference, name, own, calls)
            yield Tried(factor, moved, self._loss({**state, **tensors}) if moved <= self.tau else None)

    def _loss(self, tensors: Mapping[str, Tensor]) -> float | None:
        if self.probe is None:
            return None
        return mean_loss(self.zoo.with_tensors(tensors), self.probe)

    def _why(self, last: Tried, before: float | None) -> str:
        if last.drift > self.tau:
            return f"at {last.factor:g} its output drifts by {last.drift:.3f}, more than {self.tau:g}"
        if self.choose == "best":
            return f"no factor lowers the loss of {before:.4f}"
        return f"at {last.factor:g} the loss is {last.loss:.4f}, more than {(1 + self.eps) * (self.control or 0):.4f}"
