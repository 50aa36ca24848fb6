"""What was subtracted from the parents' deltas, in sentences."""

from __future__ import annotations

import numpy as np

from hubmerge.disentangled_record import DisentangledPool, DisentangledRecord

__all__ = ["disentangled_lines", "mean_cosine"]


def disentangled_lines(record: DisentangledRecord) -> tuple[str, ...]:
    """One to three sentences: how alike the deltas were and are, what equivalent weights there are, and what went wrong."""
    if len(record.parents) < 2 or not record.pools:
        return ()
    before, after = (float(np.mean([mean_cosine(rows) for rows in every])) for every in _cosines(record))
    if len(record.pools) == 1:
        (pool,) = record.pools
        lengths = f"the redundant vector has length {pool.norm:.4g}, the deltas {_range(pool.norms)}"
        lines = [f"mean |cosine| between deltas {before:.4f} before, {after:.4f} after; {lengths}"]
    else:
        of = f"mean of {len(record.pools)} tensors"
        lines = [f"mean |cosine| between deltas, {of}, {before:.4f} before, {after:.4f} after"]
    rows = [pool.weights for pool in record.pools]
    found = [row for row in rows if row is not None]
    if found and len(found) == len(rows):
        columns = zip(*found, strict=True)
        told = ", ".join(f"{name} {_range(own)}" for name, own in zip(record.parents, columns, strict=True))
        lines.append(f"it is task arithmetic with these weights{' by tensor' * (len(found) > 1)}: {told}")
    worse = sum(mean_cosine(pool.after) > mean_cosine(pool.before) and _is_long(pool) for pool in record.pools)
    if worse:
        of = f" in {worse} of {len(record.pools)} tensors" if len(record.pools) > 1 else ""
        lines.append(
            f"warning: the descent made the deltas more alike{of}: its step is too long for deltas so short; lower step, "
            "or write unit: norm"
        )
    return tuple(lines)


def mean_cosine(rows: tuple[tuple[float, ...], ...]) -> float:
    """The mean magnitude of the cosines of every two."""
    cosines = np.abs(np.array(rows))[np.triu_indices(len(rows), 1)]
    return float(cosines.mean()) if cosines.size else 0.0


def _cosines(record: DisentangledRecord) -> tuple[list[tuple[tuple[float, ...], ...]], ...]:
    return [pool.before for pool in record.pools], [pool.after for pool in record.pools]


def _is_long(pool: DisentangledPool) -> bool:
    """Whether more is subtracted than there was."""
    return pool.norm > max(pool.norms)


def _range(numbers: tuple[float, ...]) -> str:
    low, high = f"{min(numbers):.4g}", f"{max(numbers):.4g}"
    return low if low == high else f"{low} to {high}"
