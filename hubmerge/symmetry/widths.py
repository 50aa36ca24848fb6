"""Which fields of a config decide the sizes of groups, and which of them can make room for units that parents keep apart.

Found from the family's table by what changes when a field changes.  Units can be kept apart where a group is reordered and
nothing but BatchNorm normalises it: an rms or layer norm divides by all units together, so that one parent's own would
change the other's.  All groups of a field grow together, so they have one number of units kept apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubmerge.symmetry.expressions import Fields
from hubmerge.symmetry.groups import Group, SymmetrySpec
from hubmerge.symmetry.instances import GroupTable, family_of, structure
from hubmerge.symmetry.notation import parse_table
from hubmerge.symmetry.widened import widened_config

__all__ = ["WidthField", "kept_whole", "width_fields"]

_FAR = 1000
"""So many steps that what a division leaves over shows."""

_Values = dict[str, int]
"""Paths of config fields with values."""


@dataclass(frozen=True)
class WidthField:
    """A field of a config that sizes of groups depend on, or several that only change together.

    path: as in config.json, ``hidden_sizes[1]`` or ``text_config.hidden_size``.  value: now.  step: the smallest change that
    changes all its groups by whole entries, always alike; 0 where it is `kept`.  groups: (name, entries that a step adds).
    along: (path, value, step) of the fields that change with it, those of step 0 are only stated.  kept: why it cannot make
    room for units kept apart; empty where it can.
    """

    path: str
    value: int
    step: int
    groups: tuple[tuple[str, int], ...]
    along: tuple[tuple[str, int, int], ...] = ()
    kept: str = ""

    def at(self, steps: int) -> dict[str, int]:
        """The fields' values after so many steps."""
        fields = ((self.path, self.value, self.step), *self.along)
        return {path: value + steps * step for path, value, step in fields}


def kept_whole(group: Group) -> str:
    """Why parents cannot keep units of this group apart; empty where they can."""
    if group.note:
        return f"{group.name} stays as it is: {group.note}"
    if not group.kind.permutes:
        return f"{group.name} has no units that could be kept apart ({group.kind.value})"
    if group.normed_as_a_whole:
        return f"{group.name} is under a norm ({group.norm}), which units of one parent would change for the others"
    return ""


def width_fields(config: Mapping[str, Any], spec: SymmetrySpec) -> tuple[WidthField, ...]:
    """Every field of `config` that sizes of the groups of `spec` depend on, in the order of the table.

    spec: of the model of this config.  Fields of groups that are one in this model are one field.  A field that makes other
    groups smaller takes along the one that prevents it, if that changes nothing else (query heads with their key-value heads).
    """
    search = _Search(config, spec)
    found: dict[str, WidthField] = {}
    used: set[str] = set()
    for paths in search.alone():
        effect = search.effect(paths)
        if any(change < 0 for change in effect.values()):
            for partner in search.partners(paths, effect):
                if partner not in used and (field := search.field((*paths, partner))).step:
                    found[paths[0]] = field
                    used.update((*paths, partner))
                    break
    for paths in search.alone():
        if not used.intersection(paths):
            found[paths[0]] = search.field(paths)
    return tuple(found[path] for path in search.values if path in found)


class _Search:
    """A config whose sizes are asked for at other values of its fields.

    values: every path that sizes depend on, with its value; one that the config leaves to an expression counts as stated.
    """

    def __init__(self, config: Mapping[str, Any], spec: SymmetrySpec) -> None:
        self._family = family_of(config)
        self._spec, self._one = spec, dict(spec.same)
        self._names = (*spec.groups, *self._one)
        self._config = config
        fields = Fields(config, self._family)
        rows = {group.row for group in spec.groups.values()}
        rows |= {row.name for row in parse_table(self._family).groups if row.name in self._one}
        texts = [row.size for row in parse_table(self._family).groups if row.name in rows]
        self.values: _Values = {}
        self._unstated: _Values = {}
        for name in dict.fromkeys(name for text in texts for name in fields.sources(text)):
            self._add(name, fields)
        self._stated = widened_config(config, self._unstated)
        self._sizes = self._sizes_at({})
        self._structure = structure(self._family, Fields(self._stated, self._family))

    def _add(self, name: str, fields: Fields) -> None:
        prefix = f"{self._family.config_key}." if self._family.config_key else ""
        if not name.startswith(prefix):
            return  # the config cannot state it
        path, value = name.removeprefix(prefix), fields.value(name)
        if isinstance(value, list | tuple):
            self.values.update({f"{path}[{i}]": entry for i, entry in enumerate(value)})
        else:
            self.values[path] = value
            if not fields.states(name):
                self._unstated[path] = value

    def _sizes_at(self, values: Mapping[str, int]) -> dict[str, int]:
        """The size of every group, of those too that are one with another."""
        groups = GroupTable(self._family, Fields(widened_config(self._stated, values), self._family))
        return {name: groups.group(name).size for name in self._names}

    def _change(self, steps: Mapping[str, int], times: int) -> dict[str, int]:
        sizes = self._sizes_at({path: self.values[path] + times * step for path, step in steps.items()})
        return {name: sizes[name] - size for name, size in self._sizes.items() if sizes[name] != size}

    def effect(self, paths: Iterable[str]) -> dict[str, int]:
        """By how much each group grows when these fields are doubled; groups that do not change are not in it."""
        return self._change({path: self.values[path] or 1 for path in paths}, 1)

    def alone(self) -> list[tuple[str, ...]]:
        """The paths, each for itself but those whose groups are one."""
        decided = {path: set(self.effect([path])) for path in self.values}
        sets: list[tuple[str, ...]] = []
        for path, groups in decided.items():
            tied = {name for pair in self._one.items() if groups.intersection(pair) for name in pair}
            near = next((paths for paths in sets if any(tied & decided[other] for other in paths)), None)
            if near is None:
                sets.append((path,))
            else:
                sets[sets.index(near)] = (*near, path)
        return [paths for paths in sets if any(decided[path] for path in paths)]

    def partners(self, paths: Sequence[str], effect: Mapping[str, int]) -> list[str]:
        """The other paths that decide a group which `paths` make smaller."""
        smaller = {name for name, change in effect.items() if change < 0}
        return [path for path in self.values if path not in paths and smaller.intersection(self.effect([path]))]

    def field(self, paths: Sequence[str]) -> WidthField:
        """The field that these paths are together, with its step or why it has none."""
        effect = self.effect(paths)
        groups = dict.fromkeys(self._one.get(name, name) for name in self._names if name in effect)
        first, *others = paths
        kept = self._fault(first, effect, groups)
        unit = math.gcd(*(self.values[path] for path in paths))
        steps, gains = (
            self._step({path: self.values[path] // unit for path in paths}, unit, effect) if not kept else ({}, {})
        )
        if not (kept or steps):
            kept = f"no change of {first} changes {' and '.join(groups)} by whole entries"
        return WidthField(
            first,
            self.values[first],
            steps.get(first, 0),
            tuple((group, gains.get(group, 0)) for group in groups),
            (*((path, self.values[path], steps.get(path, 0)) for path in others), *self._to_state(paths, steps)),
            kept,
        )

    def _fault(self, path: str, effect: Mapping[str, int], groups: Iterable[str]) -> str:
        smaller = next((name for name, change in effect.items() if change < 0), None)
        if smaller:
            return f"a larger {path} makes {smaller} smaller"
        return next(filter(None, (kept_whole(self._spec.groups[group]) for group in groups)), "")

    def _step(self, least: _Values, most: int, effect: Mapping[str, int]) -> tuple[_Values, dict[str, int]]:
        """The smallest multiple of `least` under which every group grows evenly, and by how much; nothing where there is none."""
        for times in range(1, most + 1):
            steps = {path: times * step for path, step in least.items()}
            once = self._change(steps, 1)
            if once.keys() == effect.keys() and all(
                self._change(steps, count) == {name: count * change for name, change in once.items()}
                for count in (2, _FAR)
            ):
                far = {path: self.values[path] + _FAR * step for path, step in steps.items()}
                fields = Fields(widened_config(self._stated, far), self._family)
                if structure(self._family, fields) == self._structure:
                    return steps, once
        return {}, {}

    def _to_state(self, paths: Iterable[str], steps: _Values) -> tuple[tuple[str, int, int], ...]:
        """The fields that the config leaves to expressions which these steps would change."""
        if not steps:
            return ()
        far = widened_config(self._config, {path: self.values[path] + step for path, step in steps.items()})
        fields = Fields(far, self._family)
        prefix = f"{self._family.config_key}." if self._family.config_key else ""
        return tuple(
            (path, value, 0)
            for path, value in self._unstated.items()
            if path not in paths and fields.value(prefix + path) != value
        )
