"""Models run on one batch side by side: what they show at one place is there for all of them at once, and then let go.

So no more is held of a batch than what lives in the models at one layer, however many layers are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.lockstep import Halting

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Place", "shown_together"]

Place = tuple[str, bool]
"""The name of a module, and whether it is its output that is looked at: else its input, the first argument."""


def shown_together(
    models: Sequence[nn.Module], places: Sequence[Sequence[Place]], batch: Batch
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """The number of a place, and what each model shows there, as soon as all have shown it.

    places: of each model as many, that go together by their numbers.  Models that use their modules in the same order hold nothing else
    meanwhile; else what one has shown is held until the others have.  No model is run further than to its last place, and one that is used
    again later is not looked at again.

    Raises `RuntimeError` where a model does not use a module that it should show.
    """
    shown: list[dict[int, Tensor]] = [{} for _ in models]
    missing = [_numbers(own) for own in places]
    with ExitStack() as stack:
        runs = [
            stack.enter_context(Halting(model, _stops(own), [batch])) for model, own in zip(models, places, strict=True)
        ]
        while any(missing):
            for run, own, seen in zip(runs, missing, shown, strict=True):
                if not own:
                    continue
                halted = run.advance()
                if halted is None:
                    raise RuntimeError("a module is not used by its model")
                (stop,) = halted
                seen.update(dict.fromkeys(own.pop((stop.module, stop.behind), ()), stop.tensor))
                del stop, halted
            for number in [each for each in shown[0] if all(each in seen for seen in shown[1:])]:
                yield number, tuple(seen.pop(number) for seen in shown)


def _numbers(places: Sequence[Place]) -> dict[Place, list[int]]:
    """The numbers under which every place is looked at."""
    found: dict[Place, list[int]] = {}
    for number, place in enumerate(places):
        found.setdefault(place, []).append(number)
    return found


def _stops(places: Sequence[Place]) -> Mapping[str, str]:
    """Where a model halts for these places, as `Halting` has it."""
    found: dict[str, str] = {}
    for module, behind in places:
        side = "output" if behind else "input"
        found[module] = side if found.get(module, side) == side else "both"
    return found
