"""How the answers of `hubmerge zoo` look as text for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hubmerge.cli.output import note, print_table, say

if TYPE_CHECKING:
    from zoo_index.answers import Match
    from zoo_index.catalog import Catalog
    from zoo_index.lineage import Edge
    from zoo_index.metadata import ModelRecord
    from zoo_index.sync_report import SyncReport

__all__ = ["counted", "print_matches", "print_record", "print_records", "print_report", "print_why"]


def print_report(zoo: Catalog, report: SyncReport) -> None:
    """What a sync did: a line for each model that changed or is refused, then the counts."""
    for outcome in ("added", "updated", "removed"):
        for reference in getattr(report, outcome):
            say(f"{outcome:<8} {reference if outcome == 'removed' else zoo.label(reference)}")
    for name in report.gone:
        say(f"gone     {name}: it is no longer on the Hub, or private now; its record stays for the lineage of others")
    for renamed in report.renamed:
        say(f"renamed  {renamed.old} -> {renamed.new}")
    for refused in report.refused:
        for reason in refused.reasons:
            say(f"refused  {zoo.label(refused.reference)}: {reason}")
    counts = {name: len(getattr(report, name)) for name in ("added", "updated", "unchanged", "removed")}
    more = {"gone": len(report.gone), "renamed": len(report.renamed), "cannot be merged": len(report.refused)}
    counts |= {name: count for name, count in more.items() if count}
    say(" · ".join(f"{count} {name}" for name, count in counts.items()))


@contextmanager
def counted(what: str) -> Iterator[Callable[[], None]]:
    """Yields a function to call for each one done: a counter on a terminal, elsewhere a line for every hundred."""
    done, live = 0, sys.stderr.isatty()

    def one_more() -> None:
        nonlocal done
        done += 1
        if live:
            sys.stderr.write(f"\r{done} {what}")
            sys.stderr.flush()
        elif done % 100 == 0:
            note(f"{done} {what}")

    try:
        yield one_more
    finally:
        if live and done:
            sys.stderr.write("\r\033[K")


def print_records(zoo: Catalog, records: Iterable[ModelRecord]) -> None:
    """Models as a table."""
    rows = [
        (
            zoo.label(record.reference),
            record.kind,
            record.model_type or (record.adapter.peft_type if record.adapter else None),
            _thousands(record.parameters),
            " ".join(record.dtypes) or None,
            record.licence,
            "cannot be merged" if record.refusals else "",
        )
        for record in records
    ]
    if rows:
        print_table(("model", "kind", "type", "parameters", "dtype", "licence", ""), rows)


def print_matches(zoo: Catalog, matches: Iterable[Match]) -> None:
    """Compatible models as a table, with the gravest remarks."""
    rows = [
        (
            zoo.label(match.record.reference),
            match.level.value,
            match.same_ancestor or ("declared" if match.common_ancestor else None),
            match.likeness,
            _thousands(match.record.parameters),
            _remarks(match),
        )
        for match in matches
    ]
    if rows:
        print_table(("model", "level", "same ancestor", "likeness", "parameters", "remarks"), rows)


def _remarks(match: Match) -> str:
    # the ancestor has a column of its own
    reasons = (reason for reason in match.compatibility.reasons if reason.field != "ancestor")
    grave = [reason.sentence for reason in reasons if reason.severity != "info"]
    return "; ".join(grave[:2]) + (f"; {len(grave) - 2} more" if len(grave) > 2 else "")


def print_why(left: ModelRecord, match: Match) -> None:
    """A pair, its level, and every reason on a line of its own."""
    say(f"A  {_in_short(left)}")
    say(f"B  {_in_short(match.record)}")
    say(f"{match.level.value}: {match.level.meaning}")
    if match.likeness is not None:
        say(f"same ancestor: {match.same_ancestor} (cosine of sampled weights {match.likeness:.3f})")
    if match.common_ancestor is not None:
        say(f"base_model: {match.common_ancestor.reference}")
    for reason in match.compatibility.reasons:
        say(f"{reason.severity:<5}  {reason.sentence}")


def _in_short(record: ModelRecord) -> str:
    what = record.model_type or (record.adapter.peft_type if record.adapter else record.kind)
    size = f", {_thousands(record.parameters)} parameters" if record.parameters is not None else ""
    return f"{record.reference} ({what}{size})"


def print_record(record: ModelRecord) -> None:
    """Everything known of one model, a fact a line; what is unknown is left out."""
    facts = [
        ("model", record.reference),
        ("commit", record.commit),
        ("kind", record.kind),
        ("architecture", _listing([record.model_type, *record.architectures])),
        ("adapter", _adapter(record)),
        ("parameters", _size(record)),
        ("shape", _fields(record.architecture.hard, skip=("model_type", "architectures"))),
        ("also", _fields(record.architecture.soft)),
        ("tokenizer", record.tokenizer_signature and record.tokenizer_signature[:12]),
        ("licence", _listing([record.licence, record.licence_name]) or "not stated"),
        ("task", record.pipeline_tag),
        ("library", record.library),
        ("tags", ", ".join(record.tags)),
        ("on the Hub", _hub(record)),
    ]
    facts += [("made from", line) for line in _parents(record)]
    facts += [("refused", refusal) for refusal in record.refusals]
    facts += [("warning", warning) for warning in record.warnings]
    for name, value in facts:
        if value:
            say(f"{name:<13} {value}")


def _parents(record: ModelRecord) -> list[str]:
    """One line per parent: how it is related, and which files say so."""
    lines: dict[str, list[Edge]] = {}
    for edge in record.base_models:
        lines.setdefault(edge.parent, []).append(edge)
    return [
        f"{parent} ({edges[0].relation}; {edges[0].confidence} confidence; {', '.join(edge.source for edge in edges)})"
        for parent, edges in lines.items()
    ]


def _hub(record: ModelRecord) -> str:
    facts = record.hub
    if facts is None:
        return ""
    parts = [f"changed {facts.last_modified}" if facts.last_modified else "", "private" if facts.private else ""]
    parts += [f"gated ({facts.gated})" if facts.gated else ""]
    parts += [f"{_thousands(facts.downloads)} downloads" if facts.downloads is not None else ""]
    parts += [f"{_thousands(facts.likes)} likes" if facts.likes is not None else ""]
    return _listing(parts)


def _adapter(record: ModelRecord) -> str:
    facts = record.adapter
    if facts is None:
        return ""
    parts = [facts.peft_type, f"rank {facts.r}", f"alpha {facts.alpha:g}" if facts.alpha is not None else ""]
    parts += ["DoRA" if facts.dora else "", "rank-stabilised" if facts.rslora else ""]
    parts += [f"on {', '.join(facts.target_modules)}" if facts.target_modules else ""]
    return ", ".join(part for part in parts if part)


def _size(record: ModelRecord) -> str:
    if record.parameters is None or record.bytes is None:
        return ""
    return f"{record.parameters:,} in {record.tensors} tensors, {record.bytes:,} bytes, {', '.join(record.dtypes)}"


def _fields(fields: Mapping[str, Any], skip: tuple[str, ...] = ()) -> str:
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    return ", ".join(f"{name} {_cut(text)}" for name, text in texts.items() if name not in skip)


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


def _listing(values: Iterable[str | None]) -> str:
    return ", ".join(value for value in values if value)


def _thousands(number: int | None) -> str | None:
    return None if number is None else f"{number:,}"
