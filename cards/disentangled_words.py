"""What a card says of deltas from which something was subtracted that they shared: how alike they were and are, and the weights it comes to."""

from __future__ import annotations

from dataclasses import replace

from cards.assembly_words import AssemblyWords, plain_name
from cards.markdown import Markup, text
from hubmerge.disentangled_record import DisentangledPool, DisentangledRecord
from hubmerge.disentangled_words import disentangled_lines

__all__ = ["disentangled_words"]


def disentangled_words(record: DisentangledRecord | None, found: AssemblyWords | None = None) -> AssemblyWords | None:
    """The words for a record in which no local path is left, behind those of coefficients that were found for what was left; None for other
    merges.
    """
    own = None if record is None or len(record.parents) < 2 or not record.pools else _words(record)
    if own is None or found is None:
        return own or found
    return replace(found, matching=Markup(f"{own.matching} {found.matching}"), remarks=(*found.remarks, *own.remarks))


def _words(record: DisentangledRecord) -> AssemblyWords:
    what = "the whole model" if len(record.pools) == 1 else f"each of {len(record.pools)} tensors"
    matching = Markup(
        f"What the models' changes have in common was subtracted from each of them first (adaptive weight disentanglement), one vector for {what}."
    )
    record = record.model_copy(update={"parents": tuple(map(plain_name, record.parents))})
    names = [text(name) for name in record.parents]
    remarks = tuple(text(f"{line[0].upper()}{line[1:]}.") for line in disentangled_lines(record))
    columns, rows = _of_one(record.pools[0], names) if len(record.pools) == 1 else _of_many(record.pools, names)
    return AssemblyWords(matching, columns, rows, remarks, ())


def _of_one(pool: DisentangledPool, names: list[Markup]) -> tuple[tuple[Markup, ...], tuple[tuple[Markup, ...], ...]]:
    columns = (text("model"), text("length of its change"), *(Markup(f"cosine with {name}") for name in names))
    rows = tuple(
        (
            name,
            text(f"{pool.norms[i]:.4g}"),
            *(_cell(pool.before[i][j], pool.after[i][j], i == j) for j in range(len(names))),
        )
        for i, name in enumerate(names)
    )
    return columns, rows


def _of_many(
    pools: tuple[DisentangledPool, ...], names: list[Markup]
) -> tuple[tuple[Markup, ...], tuple[tuple[Markup, ...], ...]]:
    columns = (text("model"), text("largest part of a tensor's change in what was subtracted"))
    found = [max(abs(pool.shared[i]) for pool in pools) for i in range(len(names))]
    return columns, tuple((name, text(f"{share:.4f}")) for name, share in zip(names, found, strict=True))


def _cell(before: float, after: float, same: bool) -> Markup:
    return Markup("") if same else text(f"{before:.4f}, then {after:.4f}")
