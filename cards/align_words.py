"""What a card says of how units were matched: a sentence or two for every way of `align`."""

from __future__ import annotations

from hubmerge.assembly_record import AssemblyRecord

__all__ = ["PAIRED", "how_matched"]

_SEEN = "by how they correlate on the calibration data"
PAIRED = {
    "activations": _SEEN,
    "weights": "by the weights that connect them",
    "balanced": f"{_SEEN} and by the weights that connect them",
    "identity": "as they stand, without being matched",
}
"""How units became pairs, for the ways that pair them."""


def how_matched(record: AssemblyRecord, base: str, others: str) -> str:
    """base: the model's name as the card writes it; others: the names of the others."""
    begun = "Models that were trained apart have their units in other orders, so"
    if record.align == "zip":
        return (
            f"{begun} those of {base} and {others} were contracted {_SEEN}, the most alike first, within a model too."
        )
    if record.align == "optimal_transport":
        how = f"a regularisation of {record.regularisation:g}" if record.regularisation else "no regularisation"
        return f"{begun} those of {others} were carried to those of {base} {_SEEN}, each in parts to several (optimal transport with {how})."
    taken = f"{begun} they were put into that of {base} first: the units of {others} were taken {PAIRED[record.align]}."
    folded = " Units without a partner joined the one that they were most like, or were copied."
    return f"{taken} Pairs became one unit.{folded if record.widths == 'fold' else ''}"
