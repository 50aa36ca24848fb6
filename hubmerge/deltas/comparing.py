"""`kinship`: how alike what several models learned on top of one base is, in one streamed pass.

Source: Hu et al. 2024, Exploring model kinship for merging large language models, arXiv:2410.12613; ``metrics/calculate.py`` and
``calculate_split.py`` of its repository ModelKinship.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hubmerge.cores import cores
from hubmerge.deltas.adapter_sums import sums_of_adapters
from hubmerge.deltas.adapters_alone import adapters_alone, base_squares, on_its_base
from hubmerge.deltas.beside import beside, opened
from hubmerge.deltas.kinship_record import Kinship
from hubmerge.deltas.sums import sums_of
from hubmerge.errors import PlanError
from hubmerge.lora.adapter import Adapter
from hubmerge.lora.headers import check_one_base, different_bases

__all__ = ["kinship"]


def kinship(models: Sequence[Any], base: Any = None, *, jobs: int | None = None) -> Kinship:
    """Compare the deltas of every two of `models`: Pearson correlation, cosine and Euclidean distance.

    models: at least two; folders, names on the Hub, either with an adapter (``base+adapter``), adapters alone, mappings of modules to
    (A, B), or state dicts.  base: what they were trained from, of the same kind; adapters alone need none, and with one it is known
    how large their changes are beside it.  jobs: threads, default the cores at hand; the numbers do not depend on it.

    Tensors that not all have are left out, and rows of embeddings beyond the base's vocabulary.  Adapters of one base are compared by
    inner products of their changes B A, from the factors; the entries are then those of the modules that one of them changes.
    Differs from the authors' code: cosines have their sign, with the magnitude beside them; sums are float64.

    Raises `PlanError` for models that cannot be compared, all faults together, before a weight is read; `NumbersError` for a number
    that is not finite.
    """
    if isinstance(models, str | Path | Mapping) or not isinstance(models, Sequence) or len(models) < 2:
        raise PlanError(
            "two models or more are compared", where="models", hint="name every model that is to be compared"
        )
    names = tuple(f"models[{i}]" if isinstance(model, Mapping) else str(model) for i, model in enumerate(models))
    origin = None if base is None else "base" if isinstance(base, Mapping) else str(base)
    adapters = adapters_alone(models, base)
    if adapters is not None:
        notes = _stated_bases(adapters, origin)
        squares = {} if origin is None or isinstance(base, Mapping) else base_squares(origin, adapters)
        return Kinship(names, origin, sums_of_adapters(adapters, squares), notes)
    if base is None:
        raise PlanError(
            "models are compared by what they learned on top of their base, and none is named",
            where="base",
            hint="name the model that they were trained from: base=..., or --base",
        )
    first, *others = opened([base, *(on_its_base(model, base) for model in models)], ["base", *names])
    found = beside(first, others)
    return Kinship(names, origin, sums_of(found, jobs or cores()), found.notes)


def _stated_bases(adapters: Sequence[Adapter], base: str | None) -> tuple[str, ...]:
    """What to say of adapters that state other bases; `PlanError` where no base is named that all are to be changes of."""
    told = different_bases(adapters)
    if told is not None and base is None:
        hint = "name the model that all are changes of: base=..., or --base"
        raise PlanError(told, where="models", hint=hint)
    check_one_base(adapters, "models", other_bases=True)
    return () if told is None else (f"{told}: all are taken as changes of {base}",)
