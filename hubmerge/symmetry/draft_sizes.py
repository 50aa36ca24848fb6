"""Sizes seen in two small models -> the expression over their configs that gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hubmerge.symmetry.draft_small import LAYERS
from hubmerge.symmetry.errors import SymmetryError
from hubmerge.symmetry.expressions import Fields
from zoo_index.families import Family

__all__ = ["Seen", "SizeFinder", "flat_fields", "nearest"]

_WORD = re.compile(r"[a-z]+")


def nearest(expressions: Iterable[str], names: Iterable[str]) -> list[str]:
    """The expressions in their order, but first those of the tower of a model that the names of modules are in."""
    words = {word for name in names for word in _WORD.findall(name)} & _TOWERS
    return sorted(expressions, key=lambda text: -len(words & set(_WORD.findall(text))))


_TOWERS = frozenset({"encoder", "decoder", "text", "vision"})


@dataclass(frozen=True)
class Seen:
    """A number in the small model `which`, in one turn of the loops."""

    which: int
    turn: Mapping[str, int]
    number: int


class SizeFinder:
    """The fields of two small configs, and what they give."""

    def __init__(self, configs: Sequence[Mapping[str, Any]]) -> None:
        empty = Family(name="", model_types=(), loops={}, groups="", tensors="")
        self.configs = configs
        self._fields = [Fields(config, empty) for config in configs]

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Whole numbers of 2 or more that both configs state, those that change first; the best known names before others."""
        both = [
            name
            for name, value in flat_fields(self.configs[0])
            if _counts(value) and _counts(_at(self.configs[1], name)) and not name.endswith("_token_id")
        ]
        changing = {name for name in both if _at(self.configs[0], name) != _at(self.configs[1], name)}
        return tuple(sorted([*both, "num_labels"], key=lambda name: (name not in changing, _rank(name))))

    @cached_property
    def lists(self) -> tuple[str, ...]:
        """Fields with a number for each stage."""
        return tuple(
            name
            for name, value in flat_fields(self.configs[0])
            if isinstance(value, list | tuple) and len(value) > 1 and all(map(_counts, value))
        )

    def gives(self, text: str, seen: Sequence[Seen]) -> bool:
        """Whether the expression is each of the numbers seen."""
        try:
            return all(self._fields[each.which].value(text, each.turn) == each.number for each in seen)
        except SymmetryError:
            return False

    def expression(self, seen: Sequence[Seen], names: Iterable[str] = ()) -> str | None:
        """The first expression that gives what was seen; a number where it is always that; None where nothing is found.

        names: of the modules that it is a size of, for fields that are alike.
        """
        numbers = {each.number for each in seen}
        if len(numbers) == 1:
            return str(numbers.pop())
        return next((text for text in self._candidates(seen, tuple(names)) if self.gives(text, seen)), None)

    def _candidates(self, seen: Sequence[Seen], names: Sequence[str]) -> Iterator[str]:
        staged = [f"{name}[{variable}]" for name in self.lists for variable in seen[0].turn]
        staged += [f"{name}[0]" for name in self.lists]
        staged += [f"{name}[len({name}) - 1]" for name in self.lists]
        fields = nearest((name for name in self.fields if not LAYERS.search(name)), names)
        heads = [name for name in fields if "head" in name]
        plain = [*fields, *staged]
        yield from plain
        yield from (f"{one} {sign} {other}" for sign in ("//", "*") for one in plain for other in heads)
        yield from (f"{n} * ({one} // {other})" for n in (2, 3) for one in plain for other in heads)
        for number in (2, 3, 4, 8):
            yield from (f"{number} * {one}" for one in plain)
            yield from (f"{one} // {number}" for one in plain)
            yield from (f"{one} + {number}" for one in plain)
        patches = [name for name in fields if name.endswith("patch_size")]
        for image in (name for name in fields if name.endswith("image_size")):
            squares = [f"({image} // {patch}) * ({image} // {patch})" for patch in patches]
            yield from (f"{each}{more}" for each in squares for more in ("", " + 1", " + 2"))
        yield from (f"{one} {sign} {other}" for sign in ("-", "+") for one in plain for other in fields)


_KNOWN = (
    "hidden_size", "d_model", "n_embd", "dim", "num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads",
    "head_dim", "intermediate_size", "vocab_size", "max_position_embeddings", "num_labels",
)  # fmt: skip


def _rank(name: str) -> int:
    return _KNOWN.index(name) if name in _KNOWN else len(_KNOWN)


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 1


def flat_fields(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every field with its value, those of nested configs with dots."""
    for name, value in config.items():
        if isinstance(value, Mapping) and name.endswith("_config"):
            yield from flat_fields(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _at(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config
