"""What a card says of LoRA adapters that were merged as adapters: in which basis, of which ranks, how much of it was kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cards.assembly_words import AssemblyWords
from cards.markdown import Markup, code, text
from hubmerge.adapter_record import AdapterRecord, ModuleRecord

__all__ = ["adapter_words"]

_BASES = {
    "knots": "in the left singular vectors of all their changes side by side (Stoica et al. 2024, KnOTS, arXiv:2410.19735)",
    "core": "between the singular vectors of all their B and of all their A (Core Space, arXiv:2509.17786)",
    "none": "as PEFT combines adapters (add_weighted_adapter)",
}


def adapter_words(record: AdapterRecord | None, adapters: Sequence[str]) -> AssemblyWords | None:
    """The words for a record in which no local path is left; None for another kind of merge.  adapters: their names, in order."""
    if record is None:
        return None
    columns = ("modules", "number", *(f"rank in {name}" for name in adapters), "rank of the merge", "energy kept")
    rows = tuple(_row(kind, own, len(adapters)) for kind, own in sorted(_kinds(record.modules).items()))
    return AssemblyWords(
        _matching(record), tuple(map(text, columns)), rows, tuple(_remarks(record)), tuple(_limits(record))
    )


def _matching(record: AdapterRecord) -> Markup:
    after = "" if record.kind == "adapter" else " What came of it was added to the base model."
    return Markup(
        f"An adapter changes a weight by B A, two thin matrices. These changes were merged module by module, {_BASES[record.basis]}."
        f"{after} Modules of one name, over all layers:"
    )


def _kinds(modules: Mapping[str, ModuleRecord]) -> dict[str, list[ModuleRecord]]:
    found: dict[str, list[ModuleRecord]] = {}
    for name, module in modules.items():
        found.setdefault(name.rpartition(".")[2], []).append(module)
    return found


def _row(kind: str, own: Sequence[ModuleRecord], adapters: int) -> tuple[Markup, ...]:
    ranks = [[module.ranks[i] for module in own if module.ranks[i] is not None] for i in range(adapters)]
    kept = [module.energy for module in own]
    cells = [code(kind), text(len(own)), *(text(_spread(each)) for each in ranks)]
    return (*cells, text(_spread([module.rank for module in own])), text(_share(kept)))


def _spread(values: Sequence[int | None]) -> str:
    """One value, or the smallest and the largest; a dash for none."""
    found = sorted(value for value in values if value is not None)
    if not found:
        return "–"
    return f"{found[0]}" if found[0] == found[-1] else f"{found[0]} to {found[-1]}"


def _share(kept: Sequence[float]) -> str:
    mean, least = sum(kept) / len(kept), min(kept)
    return f"{mean:.1%}" if len(kept) == 1 or mean - least < 0.0005 else f"{mean:.1%}, at least {least:.1%}"


def _remarks(record: AdapterRecord) -> Iterator[Markup]:
    if record.asked is not None:
        yield Markup(
            f"Every module was cut to the nearest change of rank {record.asked}. Energy is the share of the merged change's sum of squares "
            "that is left."
        )
    for difference in record.differs:
        yield Markup(f"{text(difference[0].upper() + difference[1:])}.")


def _limits(record: AdapterRecord) -> Iterator[Markup]:
    if record.kind == "adapter":
        where = (
            f" It belongs to {text(record.base_model)} and means nothing on another model." if record.base_model else ""
        )
        yield Markup(f"This is an adapter: it holds no weights of its base model.{where}")
