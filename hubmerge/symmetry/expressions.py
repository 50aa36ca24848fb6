"""Sizes and conditions of symmetry tables: small expressions over the fields of a config and the variables of loops."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from hubmerge.errors import shown
from hubmerge.symmetry.errors import SymmetryError
from zoo_index.families import Family

__all__ = ["Fields", "names_in"]

_OPERATIONS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Gt: operator.gt,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
_TOKEN_HEADS = ("LM", "PreTraining", "ConditionalGeneration", "DoubleHeads")
"""What the names of architectures have in them whose head gives a number for every token."""

_BRACES = re.compile(r"\{([^}]+)\}")
_MOST_LAYERS = 10_000
_HINT = "config.json is not that of this architecture, or damaged; fetch it again"


@lru_cache(maxsize=4096)
def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def names_in(text: str) -> frozenset[str]:
    """The names that the expressions in braces of `text` use."""
    found = (node for inner in _BRACES.findall(text) for node in ast.walk(_parsed(inner)))
    return frozenset(node.id for node in found if isinstance(node, ast.Name))


def _fields_in(node: ast.AST) -> Iterator[str]:
    """The names in an expression, those of nested fields with their dots."""
    if isinstance(node, ast.Name | ast.Attribute):
        yield ast.unparse(node)
    else:
        inner = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
        for child in inner:
            yield from _fields_in(child)


class Fields:
    """The fields of one config as a family's table names them, with the family's defaults."""

    def __init__(self, config: Mapping[str, Any], family: Family, where: str = "") -> None:
        architectures = config.get("architectures")
        first = architectures[0] if isinstance(architectures, list) and architectures else ""
        self._config = {family.config_key: config} if family.config_key else config
        self._computed = {
            "architecture": str(first),
            "model_type": config.get("model_type"),
            "num_labels": _label_count(config, str(first)),
            "predicts_tokens": any(part in str(first) for part in _TOKEN_HEADS),
        }
        self._defaults = family.defaults
        self._where = where

    @property
    def architecture(self) -> str:
        """The first of the config's architectures; empty where it states none."""
        return str(self._computed["architecture"])

    def value(self, text: str, variables: Mapping[str, int] | None = None) -> Any:
        """What the expression `text` is; `SymmetryError` for a field that is not stated or not of a fitting type."""
        try:
            return self._value(_parsed(text), variables or {})
        except (TypeError, LookupError, ZeroDivisionError) as error:
            raise SymmetryError(f"config.json does not give {text} ({error})", where=self._where, hint=_HINT) from error

    def size(self, text: str, variables: Mapping[str, int] | None = None) -> int:
        """The value of an expression that counts something: a whole number, 0 or more."""
        value = self.value(text, variables)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise SymmetryError(
                f"config.json gives {text} as {shown(value)}, not a whole number", where=self._where, hint=_HINT
            )
        return value

    def counts(self, text: str, turns: Sequence[Mapping[str, int]]) -> tuple[int, ...]:
        """How often a loop runs in each turn of the loops around it; together not more often than any model has layers."""
        counts = tuple(self.size(text, variables) for variables in turns)
        if sum(counts) > _MOST_LAYERS:
            raise SymmetryError(
                f"config.json gives {text} as {shown(sum(counts))} layers, more than {_MOST_LAYERS}",
                where=self._where,
                hint=_HINT,
            )
        return counts

    def sources(self, text: str) -> Iterator[str]:
        """The config's fields that the expression `text` is computed from, as tables name them.

        After a field that the config leaves to an expression come the fields of that.
        """
        for name in _fields_in(_parsed(text)):
            if name in self._computed:
                continue
            if self.states(name):
                yield name
            elif (default := self._defaults.get(name)) is not None:
                yield name
                if isinstance(default, str):
                    yield from self.sources(default)

    def states(self, name: str) -> bool:
        """Whether the config has a value for the field `name` itself."""
        return self._stated(name) is not None

    def filled(self, text: str, variables: Mapping[str, int]) -> str:
        """`text` with every expression in braces replaced by its value."""
        return _BRACES.sub(lambda found: f"{self.size(found[1], variables)}", text)

    def _field(self, name: str) -> Any:
        if name in self._computed:
            return self._computed[name]
        value = self._stated(name)
        if value is None and name in self._defaults:
            value = self._defaults[name]
            return self.value(value) if isinstance(value, str) else value
        if value is None:
            raise SymmetryError(f"config.json does not state {name}", where=self._where, hint=_HINT)
        return value

    def _stated(self, name: str) -> Any:
        value: Any = self._config
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def _value(self, node: ast.expr, variables: Mapping[str, int]) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return variables[node.id] if node.id in variables else self._field(node.id)
        if isinstance(node, ast.Attribute):
            return self._field(ast.unparse(node))
        if isinstance(node, ast.Subscript):
            return self._value(node.value, variables)[self._value(node.slice, variables)]
        if isinstance(node, ast.Call):  # the one function is len
            return len(self._value(node.args[0], variables))
        if isinstance(node, ast.UnaryOp):  # the one operator is not
            return not self._value(node.operand, variables)
        if isinstance(node, ast.BoolOp):
            parts = (self._value(part, variables) for part in node.values)
            return all(parts) if isinstance(node.op, ast.And) else any(parts)
        if isinstance(node, ast.Compare):
            compare = _OPERATIONS[type(node.ops[0])]
            return int(compare(self._value(node.left, variables), self._value(node.comparators[0], variables)))
        if isinstance(node, ast.BinOp):  # of numbers only: a text times a number can fill the memory
            return _OPERATIONS[type(node.op)](*(self._number(part, variables) for part in (node.left, node.right)))
        raise AssertionError(f"a table has an expression that is not read: {ast.unparse(node)}")

    def _number(self, node: ast.expr, variables: Mapping[str, int]) -> int:
        value = self._value(node, variables)
        if not isinstance(value, int):
            raise TypeError(f"{ast.unparse(node)} is {shown(value)}, not a whole number")
        return value


def _label_count(config: Mapping[str, Any], architecture: str) -> int:
    """As transformers counts: the labels' names, else `num_labels`, else 2; a multiple choice scores one answer at a time."""
    if "MultipleChoice" in architecture:
        return 1
    names, count = config.get("id2label"), config.get("num_labels")
    if isinstance(names, Mapping):
        return len(names)
    return count if isinstance(count, int) else 2
