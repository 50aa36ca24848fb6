"""Lineage as a drawing: an indented tree for terminals, and a Mermaid flowchart, which the Hub's cards can show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from zoo_index.lineage import SOURCE_WORDS
from zoo_index.lineage_answers import Lineage, Link

__all__ = ["draw_mermaid", "draw_tree"]

_SPECIAL = {'"': "#quot;", "#": "#35;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;", "\\": "#92;", "%": "#37;"}
"""Characters that mean something in a Mermaid text, and the codes that Mermaid reads for them."""


def draw_tree(lineage: Lineage) -> Iterator[str]:
    """Lines: the model, ``made from`` its ancestors, ``became`` its descendants, then what contradicts what.

    A model that can be reached in two ways is spelled out once; a doubted step has a question mark and is not followed.
    """
    yield _named(lineage.reference, lineage)
    yield from _branches("made from", lineage, up=True)
    yield from _branches("became", lineage, up=False)
    if not lineage.links:
        yield "  no parents and no children are declared"
    for cycle in lineage.cycles:
        yield f"  a cycle, which cannot be: {' -> '.join(cycle)}"
    for line in lineage.contradictions:
        yield f"  contradiction: {line}"


def _branches(title: str, lineage: Lineage, *, up: bool) -> Iterator[str]:
    following: dict[str, list[Link]] = {}
    reached = {lineage.reference, *(r.reference for r in (lineage.ancestors if up else lineage.descendants))}
    for link in lineage.links:
        here, there = (link.child, link.parent) if up else (link.parent, link.child)
        if here in reached and (there in reached or link.doubted):
            following.setdefault(here, []).append(link)
    if lineage.reference in following:
        yield f"  {title}"
    drawn: set[str] = set()
    waiting = [(2, link) for link in _in_order(following.get(lineage.reference, ()))]
    while waiting:  # a stack: lineages can be deeper than Python's calls
        depth, link = waiting.pop()
        other = link.parent if up else link.child
        again = other in drawn and other in following
        mark, more = ("? ", "") if link.doubted else ("", " (see above)" if again else "")
        yield f"{'  ' * depth}{mark}{_named(other, lineage)} · {_told(link)}{more}"
        if not link.doubted and not again:
            drawn.add(other)
            waiting += [(depth + 1, further) for further in _in_order(following.get(other, ()))]


def _in_order(links: Iterable[Link]) -> list[Link]:
    """For a stack, from which the last is taken first: doubted steps at the end, the others by name."""
    return sorted(links, key=lambda link: (link.doubted, link.parent, link.child), reverse=True)


def draw_mermaid(lineages: Iterable[Lineage]) -> str:
    """A flowchart from parents to children; doubted steps are dotted, models that are not in the catalog dashed."""
    several = list(lineages)
    links = {(link.child, link.parent): link for lineage in several for link in lineage.links}
    asked = [lineage.reference for lineage in several]
    unknown = {name for lineage in several for name in lineage.unknown}
    names = list(dict.fromkeys([*asked, *(name for link in links.values() for name in (link.parent, link.child))]))
    ids = {name: f"m{number}" for number, name in enumerate(names)}
    lines = ["flowchart TD"]
    lines += [f'    {ids[name]}["{_escaped(name)}"]' for name in names]
    for link in links.values():
        arrow = "-.->" if link.doubted else "-->"
        lines.append(f'    {ids[link.parent]} {arrow}|"{_escaped(link.relation)}"| {ids[link.child]}')
    lines += _classed(ids, asked, "asked", "stroke-width:3px")
    lines += _classed(ids, [name for name in names if name in unknown], "unknown", "stroke-dasharray:4 4")
    return "\n".join(lines)


def _classed(ids: dict[str, str], names: Sequence[str], name: str, style: str) -> list[str]:
    members = ",".join(ids[member] for member in names)
    return [f"    classDef {name} {style};", f"    class {members} {name};"] if members else []


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(char, char) for char in text)


def _named(name: str, lineage: Lineage) -> str:
    return f"{name} (not in the catalog)" if name in lineage.unknown else name


def _told(link: Link) -> str:
    sources = ", ".join(SOURCE_WORDS[source] for source in link.sources)
    pinned = f", at {link.commit[:12]}" if link.commit else ""
    return f"{link.relation}; {link.confidence} confidence: {sources}{pinned}"
