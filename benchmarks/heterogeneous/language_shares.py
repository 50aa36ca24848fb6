"""Every layer that has a partner takes one share of it at once: of the donor as it was matched, or of what should be worth nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.heterogeneous.language_parents import reordered

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from hubmerge.heterogeneous.mal_drift import LayerCall
    from hubmerge.heterogeneous.mal_zoo import Zoo

__all__ = ["SHARES", "STAND_INS", "Shares", "StandIn"]

SHARES = (0.1, 0.5)


@dataclass(frozen=True)
class StandIn:
    """What stands where the donor's tensors do."""

    key: Literal["matched", "random", "noise", "nothing"]
    label: str


STAND_INS = (
    StandIn("matched", "units matched"),
    StandIn("random", "units at random"),
    StandIn("noise", "noise"),
    StandIn("nothing", "nothing"),
)


@dataclass(frozen=True)
class Shares:
    """A base and a donor whose layers are paired.  calls: of every layer of the base that has a partner, by its name."""

    zoo: Zoo
    calls: Mapping[str, Sequence[LayerCall]]

    @classmethod
    def of(cls, base: Any, donor: Any, batches: Sequence[Mapping[str, Tensor]]) -> Shares:
        """Both in evaluation mode; batches: what they are matched and drifts are measured on."""
        from hubmerge.heterogeneous.mal_drift import layer_calls
        from hubmerge.heterogeneous.mal_zoo import zoo_of

        zoo = zoo_of(base, [donor], batches)
        names = [pair.ours.name for pair in zoo.alignments[0].pairs if pair.theirs]
        return cls(zoo, {name: layer_calls(zoo.reference, name, zoo.batches) for name in names})

    def in_place_of_donor(self, stand_in: StandIn, seed: int) -> dict[str, Tensor]:
        """Of every layer that is a partner the tensors, by the donor's names and of its shapes; seed: of what is random."""
        import torch

        donor = self.zoo.donors[0]
        # another order than any that this seed gave the donor already
        model = reordered(donor, seed + 1) if stand_in.key == "random" else donor
        state = model.state_dict()
        partners = [pair.theirs for pair in self.zoo.alignments[0].pairs if pair.theirs]
        tensors = {name: state[name] for partner in partners for name in partner.tensors.values()}
        if stand_in.key == "noise":
            generator = torch.Generator().manual_seed(seed)
            return {name: _shuffled(values, generator) for name, values in tensors.items()}
        if stand_in.key == "nothing":
            return {name: torch.zeros_like(values) for name, values in tensors.items()}
        return tensors

    def merged(self, theirs: Mapping[str, Tensor], share: float) -> tuple[Any, tuple[float, ...]]:
        """The base with `share` of these in each of its layers, and the drift of every one, merged alone."""
        from hubmerge.heterogeneous.mal_drift import drift

        alignment = self.zoo.alignments[0]
        ours = self.zoo.base.state_dict()
        state, drifts = dict(ours), []
        for pair in alignment.pairs:
            if pair.theirs is None:
                continue
            tensors = alignment.merged(pair, ours, theirs, share)
            own = {ending: tensors[whole] for ending, whole in pair.ours.tensors.items()}
            drifts.append(drift(self.zoo.reference, pair.ours.name, own, self.calls[pair.ours.name]))
            state |= tensors
        return self.zoo.with_tensors(state), tuple(drifts)


def _shuffled(values: Tensor, generator: Generator) -> Tensor:
    import torch

    return values.flatten()[torch.randperm(values.numel(), generator=generator)].reshape(values.shape)
