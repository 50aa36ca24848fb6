"""A base and its donors made ready: paired layer by layer on the data, and the base to measure with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubmerge.errors import PlanError
from hubmerge.heterogeneous.batches import Batch
from hubmerge.heterogeneous.block_runs import noise_batches
from hubmerge.heterogeneous.mal_drift import reference_of
from hubmerge.heterogeneous.mal_pairs import Alignment, align_layers
from hubmerge.heterogeneous.model_copies import with_tensors
from hubmerge.heterogeneous.norms import renormalise as renormalised

if TYPE_CHECKING:
    from torch import Tensor

    from hubmerge.heterogeneous.scratch import Scratch

__all__ = ["NOISE_SAMPLES", "Zoo", "zoo_of"]


NOISE_SAMPLES = 64
"""Of noise, where there is no data."""


@dataclass(frozen=True)
class Zoo:
    """alignments: of every donor with the base.  reference: the base as it is measured with (`reference_of`).  noise: the seed of noise in
    front of layers, None where there is data.  renormalise: whether BatchNorm's statistics are estimated anew on the batches.  scratch: takes
    what layers are given and give beyond its room; None for nowhere, all of it is in memory.
    """

    base: Any
    donors: Sequence[Any]
    alignments: Sequence[Alignment]
    batches: Sequence[Batch]
    reference: Any
    noise: int | None
    renormalise: bool
    scratch: Scratch | None = None

    def with_tensors(self, tensors: Mapping[str, Tensor], *, as_they_are: bool = False) -> Any:
        """A copy of the base with these tensors, which it shares with them, in evaluation mode; as_they_are: also BatchNorm's statistics."""
        model = with_tensors(self.base, tensors).eval()
        if self.renormalise and not as_they_are:
            renormalised(model, self.batches)
        return model


def zoo_of(
    base: Any,
    donors: Sequence[Any],
    batches: Iterable[Batch] | None,
    *,
    min_similarity: float = 0.0,
    min_cka: float = 0.0,
    without: Collection[str] = (),
    renormalise: bool = True,
    seed: int = 0,
    scratch: Scratch | None = None,
    names: Sequence[str] = (),
) -> Zoo:
    """Pair the layers of every donor with the base's, all in evaluation mode; arguments as for `assemble_from_zoo`.

    names: what errors call the donors, by default by their places.

    Raises `PlanError` where there is nothing to run the models on, and as `align_layers` does.
    """
    data = noise_batches(base, NOISE_SAMPLES, seed) if batches is None else list(batches)
    if not data:
        raise PlanError("there are no batches", where="batches", hint="leave batches out to use noise")
    chosen: dict[str, Any] = {"min_similarity": min_similarity, "min_cka": min_cka, "without": without}
    called = names or [f"donors[{i}]" for i in range(len(donors))]
    rows = zip(donors, called, strict=True)
    alignments = [align_layers(base, donor, data, **chosen, where=name) for donor, name in rows]
    fresh = renormalise and batches is not None
    reference = reference_of(base, fresh_statistics=fresh)
    return Zoo(base, donors, alignments, data, reference, seed if batches is None else None, fresh, scratch)
