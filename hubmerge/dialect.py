"""YAML as recipes are written: YAML 1.1 with 1.2's numbers, no key twice, and nothing that grows when it is read.

YAML 1.1 takes ``1e-3`` for a string and lets a second ``weight:`` silently replace the first.  Anchors and merge keys
are read; a few lines of them can stand for billions of values, so the values are counted before any is built.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from hubmerge.errors import RecipeError

__all__ = ["MAX_CHARACTERS", "MAX_VALUES", "read_yaml", "read_yaml_file"]

MAX_CHARACTERS = 500_000
"""Longest text that is read: four seconds of parsing; recipes have a few thousand characters."""
MAX_VALUES = 50_000
"""Most values that a text may stand for once its anchors are written out."""

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_TAGS = {f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}


class _Loader(yaml.SafeLoader):
    """YAML's plain values; a date is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rows if tag not in {f"{_TAG}timestamp", f"{_TAG}value"}]
    for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+|\.\d+)\Z"),
    list("-+.0123456789"),
)


def read_yaml(text: str, where: str, keys: Collection[str] = ()) -> Any:
    """The value of one YAML (or JSON) document, None when it is empty.

    keys: what may stand at the top.  Another key there, whose value an alias further down repeats, is a place for the anchor
    (``defaults: &small {weight: 0.1}``) and is left out, unless it is near to one of `keys` and so may be a slip.

    Raises `RecipeError` with line and column when it is not one document of YAML, when a key occurs twice in a mapping,
    and beyond `MAX_CHARACTERS` or `MAX_VALUES`.
    """
    if len(text) > MAX_CHARACTERS:
        raise RecipeError(
            f"the text has {len(text):,} characters, at most {MAX_CHARACTERS:,} are read",
            where=where,
            hint="is this the right file?",
        )
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _Census(where).count(node)
        if keys and isinstance(node, yaml.MappingNode):
            node.value = _without_places_of_anchors(node.value, keys)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise _syntax_fault(error, where) from None
    except RecursionError:
        raise RecipeError("values are nested too deeply", where=where, hint="make it flatter") from None
    except (ValueError, OverflowError) as error:  # a number that Python does not take
        raise RecipeError(f"not valid YAML: {error}", where=where, hint="put it in quotes if it is text") from None
    finally:
        if loader is not None:
            loader.dispose()


class _Census:
    """Counts what a document stands for, and looks at its keys, before any value is built."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._counts: dict[int, int] = {}
        self._open: set[int] = set()

    def count(self, node: yaml.Node) -> int:
        """How many values `node` stands for; raises `RecipeError` for more than `MAX_VALUES` and for faulty keys."""
        known = self._counts.get(id(node))
        if known is not None:
            return known
        if id(node) in self._open:
            raise self._fault("an anchor refers to itself", node, "write the value out")
        self._open.add(id(node))
        total = 1 + sum(self.count(child) for child in self._children(node))
        if total > MAX_VALUES:
            raise self._fault(f"its anchors stand for more than {MAX_VALUES:,} values", node, "write the values out")
        self._open.discard(id(node))
        self._counts[id(node)] = total
        return total

    def _children(self, node: yaml.Node) -> list[yaml.Node]:
        if node.tag not in _TAGS:
            raise self._fault(f"the tag {node.tag.replace(_TAG, '!!')} is not read", node, "write a plain value")
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            return [value for _, value in node.value]
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        if any("\ud800" <= char <= "\udfff" for char in node.value):
            raise self._fault("half a surrogate pair is no character", node, "write the character itself")
        return []

    def _check_keys(self, node: yaml.MappingNode) -> None:
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._fault("a key is a word, not a list or a mapping", key, "check the colons and brackets")
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines and key.tag != _MERGE:
                raise RecipeError(
                    f"key {key.value!r} occurs twice, on lines {lines[name]} and {line}",
                    where=self._where,
                    hint="keep one of them",
                )
            lines[name] = line

    def _fault(self, message: str, node: yaml.Node, hint: str) -> RecipeError:
        mark = node.start_mark
        return RecipeError(message, where=f"{self._where}:{mark.line + 1}:{mark.column + 1}", hint=hint)


def _without_places_of_anchors(
    rows: list[tuple[yaml.Node, yaml.Node]], keys: Collection[str]
) -> list[tuple[yaml.Node, yaml.Node]]:
    """`rows` of the document without the unknown keys that are there for what aliases in later rows repeat."""
    nodes = [{id(node) for node in _nodes_in(value)} for _, value in rows]

    def is_a_place(i: int) -> bool:
        key = rows[i][0].value
        if key in keys or get_close_matches(key, keys, n=1, cutoff=0.8):
            return False
        own = nodes[i].difference(*nodes[:i])  # not what is itself an alias
        return any(own & later for later in nodes[i + 1 :])

    return [row for i, row in enumerate(rows) if not is_a_place(i)]


def _nodes_in(node: yaml.Node) -> Iterator[yaml.Node]:
    """A node, and all that is in it; an alias is the very node of its anchor."""
    yield node
    for child in node.value if isinstance(node, yaml.SequenceNode | yaml.MappingNode) else ():
        for part in child if isinstance(child, tuple) else (child,):
            yield from _nodes_in(part)


def _syntax_fault(error: yaml.YAMLError, where: str) -> RecipeError:
    mark = getattr(error, "problem_mark", None)
    place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    if "another document" in problem:
        return RecipeError(
            "a second document begins here",
            where=place,
            hint="one file holds one; split it at ---, merge them in turn, and name an OUT as a model",
        )
    if "\\t" in problem:
        return RecipeError("a tab cannot indent YAML", where=place, hint="indent with spaces")
    return RecipeError(f"not valid YAML: {problem}", where=place, hint="check indentation, colons and quotes")


def read_yaml_file(path: Path, keys: Collection[str] = ()) -> Any:
    """`read_yaml` of a file; `RecipeError` when it cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except FileNotFoundError:
        raise RecipeError("no such recipe file", where=str(path), hint=f"looked from {Path.cwd()}") from None
    except IsADirectoryError:
        raise RecipeError("this is a folder", where=str(path), hint="name the YAML file in it") from None
    except UnicodeDecodeError:
        raise RecipeError("this is not UTF-8 text", where=str(path), hint="name a YAML file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"the recipe cannot be read ({reason})", where=str(path), hint="name a YAML file") from None
    return read_yaml(text, str(path), keys)
