"""What came of adapters that were merged as adapters, in sentences: ranks, what was kept, in what they differed."""

from __future__ import annotations

from hubmerge.adapter_record import AdapterRecord

__all__ = ["adapters_told"]


def adapters_told(record: AdapterRecord) -> tuple[str, ...]:
    """A sentence for the ranks, one for what was kept where they were cut, one for each difference."""
    ranks = sorted({module.rank for module in record.modules.values()})
    count = len(record.modules)
    of = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    lines = [f"{count} module{'s' * (count != 1)} of rank {of}"]
    name, least = record.least
    if least < 1:
        lines.append(f"energy kept: {record.energy:.2%} on average, least in {name}: {least:.2%}")
    return (*lines, *record.differs)
