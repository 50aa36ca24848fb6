"""`assemble_from_zoo`: layers of an open-ended zoo of donors merged into a base one by one, each as far as the base's layer allows.

After Zhang et al., MAL, ICLR 2025 workshop "Neural Network Weights as a New Data Modality".  Its text was not at hand: widths, depths and
the order of the layers are as docs/mal.md tells, and may differ from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.evaluating import evaluating, refuse_half
from hubmerge.heterogeneous.mal_decisions import Decision
from hubmerge.heterogeneous.mal_drift import mean_loss
from hubmerge.heterogeneous.mal_pairs import Alignment
from hubmerge.heterogeneous.mal_search import Search, Turn
from hubmerge.heterogeneous.mal_zoo import zoo_of
from hubmerge.heterogeneous.model_copies import own_copy
from hubmerge.heterogeneous.scratch import Scratch
from hubmerge.mal_stages import FACTORS, Choose

__all__ = ["FACTORS", "Assembled", "Losses", "assemble_from_zoo"]


@dataclass(frozen=True)
class Losses:
    """On the probe: of the base as it was given, of the base with BatchNorm's statistics anew, and of what was assembled."""

    base: float
    control: float
    merged: float


@dataclass(frozen=True)
class Assembled:
    """model: the base's class, config and names, in evaluation mode.

    control: the base with BatchNorm's statistics estimated anew and nothing merged; a gain is one over this.  decisions: of every round,
    donor and layer, in the order in which they were made.  losses: None without a probe.
    """

    model: Any
    control: Any
    decisions: tuple[Decision, ...]
    losses: Losses | None


def assemble_from_zoo(
    base: Any,
    donors: Sequence[Any],
    batches: Iterable[Batch] | None = None,
    *,
    tau: float = 0.1,
    factors: Sequence[float] = FACTORS,
    probe: Iterable[Batch] | None = None,
    eps: float = 0.05,
    rounds: int = 1,
    min_similarity: float = 0.0,
    min_cka: float = 0.0,
    without: Collection[str] = (),
    renormalise: bool = True,
    decisions: Sequence[Decision] = (),
    on_decision: Callable[[Decision], None] = lambda _: None,
    choose: Choose = "largest",
    seed: int = 0,
    shared: bool = False,
    scratch: Scratch | None = None,
) -> Assembled:
    """Merge layers of the donors into the base, which keeps its architecture, widths, depth and config; no model given is changed.

    base, donors: float32 transformers models of one family, of any width and depth.  batches: what `forward` takes; None is noise: layers
    are paired on noise at the model's input, drifts are measured on normal noise at the layer's, and BatchNorm's statistics are merged and
    not estimated anew.  A layer gets the largest of `factors` at which

    - its output on the base's own input of this layer is within `tau` of the base's (`drift`), whatever was merged into it before;
    - with a probe (batches with labels) the whole model's loss is at most 1 + `eps` times the control's.

    choose: "best" takes the factor of the lowest loss instead, if it is lower than before, so that the loss on the probe never rises.
    In each of the `rounds` layers are tried by their gain (`Pair.gain`), the largest first; of equal ones the earlier donor's and the
    earlier layer.  min_similarity, min_cka, without: see `align_layers`.  renormalise: BatchNorm's statistics are estimated anew where
    anything was merged, and layers are compared by the batch's statistics; where nothing was, the model is the base, bit for bit.
    decisions: of an earlier call with the same arguments, all of them or the first ones; they are applied and not searched again.
    on_decision: is told every one as it is made, so that a search that is interrupted can be gone on with.  seed: of noise.
    shared: what comes out shares the tensors that stay with the base, and takes no memory for them.  scratch: takes what the calls of a layer
    hold beyond its room; None for nowhere, all of it is in memory.

    Raises `PlanError` for arguments out of their range, donors of another family, and decisions that are of other models.
    """
    _check(tau, factors, eps, rounds)
    if choose == "best" and probe is None:
        raise PlanError("the best factor is told by a probe", where="choose", hint="give a probe, batches with labels")
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
            scratch=scratch,
        )
        control = zoo.with_tensors(base.state_dict())
        labelled = None if probe is None else list(probe)
        loss = None if labelled is None else mean_loss(control, labelled)
        tried = sorted({factor for factor in factors if factor > 0}, reverse=True)
        search = Search(zoo, tried, tau, labelled, loss, eps, choose)
        state = dict(base.state_dict())
        made: list[Decision] = []
        for place, turn in enumerate(_order(zoo.alignments, rounds)):
            _, donor, pair = turn
            theirs = zoo.donors[donor].state_dict()
            given = decisions[place] if place < len(decisions) else None
            if given is not None:
                _check_turn(given, place, turn)
            decision = given or search.decide(state, loss, theirs, zoo.alignments[donor], turn)
            if decision.accepted:
                state |= zoo.alignments[donor].merged(pair, state, theirs, decision.factor)
                loss = decision.loss
            made.append(decision)
            on_decision(decision)
        if len(decisions) > len(made):
            raise _foreign(len(made) + 1, decisions[len(made)])
        merged = any(decision.accepted for decision in made)
        model = zoo.with_tensors(state, as_they_are=not merged)
        losses = None
        if labelled is not None:
            losses = Losses(mean_loss(base, labelled), mean_loss(control, labelled), mean_loss(model, labelled))
        if not shared:
            model, control = own_copy(model), own_copy(control)
        return Assembled(model, control, tuple(made), losses)


def _check(tau: float, factors: Sequence[float], eps: float, rounds: int) -> None:
    if not 0 <= tau < float("inf"):
        raise PlanError(f"tau must be 0 or more, got {tau}", where="tau", hint="0.1 is a tenth of a layer's output")
    odd = next((factor for factor in factors if not 0 <= factor <= 1), None)
    if odd is not None:
        raise PlanError(f"factors are from 0 to 1, got {odd}", where="factors", hint="0.5 is half the donor's")
    if not 0 <= eps < float("inf"):
        raise PlanError(f"eps must be 0 or more, got {eps}", where="eps", hint="0.05 lets the loss rise by 5 %")
    if rounds < 1:
        raise PlanError(f"rounds must be 1 or more, got {rounds}", where="rounds", hint="write rounds=1")


def _order(alignments: Sequence[Alignment], rounds: int) -> Iterator[Turn]:
    """The turn of every decision; `sorted` keeps equal ones in the order of donors and layers."""
    every = [(donor, pair) for donor, alignment in enumerate(alignments) for pair in alignment.pairs]
    best = sorted(every, key=lambda each: -each[1].gain)
    return ((number, donor, pair) for number in range(1, rounds + 1) for donor, pair in best)


def _check_turn(given: Decision, place: int, own: Turn) -> None:
    number, donor, pair = own
    theirs = pair.theirs.name if pair.theirs else None
    if (*given.key, given.donor_layer) != (number, donor, pair.ours.name, theirs):
        raise _foreign(place + 1, given)


def _foreign(place: int, given: Decision) -> PlanError:
    return PlanError(
        f"decision {place} is of round {given.round}, donor {given.donor} and {given.layer}, which is not its turn here",
        where="decisions",
        hint="give decisions of the same models, data and arguments, from the first on",
    )
