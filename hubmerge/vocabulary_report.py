"""What became of the rows of embeddings and heads, in sentences for plan and manifest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hubmerge.parents import ParentModel
from hubmerge.plan_types import VocabularyRows
from hubmerge.row_maps import RowPlan

__all__ = ["rows_report"]


def rows_report(rows: RowPlan, left: Sequence[int], models: Sequence[ParentModel]) -> VocabularyRows:
    """How many rows the models share, and for each how many moved and whose rows fill those that it lacks.

    left: for each model how many of its tokens are not in the merge.
    """
    holders = np.sum([own >= 0 for own in rows.own], axis=0)
    told = [f"{rows.tokens:,} tokens: {int((holders == len(models)).sum()):,} shared"]
    for i, model in enumerate(models):
        alone = int(((rows.own[i] >= 0) & (holders == 1)).sum())
        told += [f"{alone:,} only in {model.reference}"] if alone and len(models) > 1 else []
    lines = [", ".join(told) + (f"; {rows.padding:,} rows of padding" if rows.padding else "")]
    for i, model in enumerate(models):
        own = rows.own[i]
        moved = int(((own >= 0) & (own != np.arange(rows.tokens))).sum())
        lacking = rows.lacking(i)
        parts = [f"{int((own >= 0).sum()):,} rows of its own, {moved:,} of them moved"]
        parts += [f"{lacking:,} filled{_from_whom(rows, i, models)}"] if lacking else []
        parts += [f"{left[i]:,} of its tokens left out"] if left[i] else []
        lines.append(f"{model.reference}: {', '.join(parts)}")
    return VocabularyRows(rows.tokens, rows.rows, tuple(lines))


def _from_whom(rows: RowPlan, model: int, models: Sequence[ParentModel]) -> str:
    counts = rows.filled_from(model)
    return f" from {', '.join(f'{models[i].reference} ({count:,})' for i, count in counts.items())}" if counts else ""
