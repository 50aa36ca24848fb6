"""A recipe's three forms as one: `models`, `slices` and `modules` are all sections, each merging layers of some sources.

A section is one slice, or all layers of the models listed.  Its parameters come, in this order, from the source (a
model of a `models` list, or an entry of `sources`), the slice, the module and the top level.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hubmerge.errors import RecipeError
from hubmerge.method import MergeMethod
from hubmerge.method_parameters import Parametrised
from hubmerge.parameters import ParameterScopes, ScopeReader
from zoo_index.reference import ModelRef

__all__ = ["ReadSections", "Section", "Source", "forms_of", "read_sections"]


@dataclass(frozen=True)
class Source:
    """One input of a section.  layers: the first and the one after the last, None for all; where: its place in the recipe;
    parameters: what stands beside it, as written.
    """

    model: ModelRef
    layers: tuple[int, int] | None
    where: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """Layers that follow one another in the output and are merged from the same sources.

    module: the part of the model they belong to, "" for a recipe without modules.  where: its place in the recipe.
    base: the base model here, which may be in no source.  scopes: the parameters.  parameters: those of the slice and of
    the module, as written.
    """

    module: str
    where: str
    sources: tuple[Source, ...]
    base: ModelRef | None
    scopes: ParameterScopes
    parameters: Mapping[str, Any]

    @property
    def whole(self) -> bool:
        """Whether it merges whole models."""
        return all(source.layers is None for source in self.sources)

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """The models listed, in order."""
        return tuple(source.model for source in self.sources)

    def parents(self, method: MergeMethod) -> tuple[ModelRef, ...]:
        """The models the method combines here, in its order.

        Methods of deltas: all but the base.  slerp: the base, then the other.  Others: all; a base that is not listed is
        one of them where `base_is_averaged_in`.
        """
        listed = self.models
        if self.base is None:
            return listed
        others = tuple(model for model in listed if model != self.base)
        if method.base == "start":
            return (self.base, *others)
        if method.base != "none":
            return others
        return (*listed, self.base) if self.base_is_averaged_in(method) else listed

    def origin(self, method: MergeMethod) -> ModelRef | None:
        """The base that the parents' deltas are taken from; None for a method that merges weights."""
        return self.base if method.base in {"required", "optional"} else None

    def base_is_averaged_in(self, method: MergeMethod) -> bool:
        """Whether a base that is not listed becomes a parent of a method that knows no base, as in mergekit.

        It does among whole models, where nothing keeps it out: the method takes several models, and asks for no
        `weight` or finds one that is meant for all.
        """
        weighs = "weight" in method.parameters.model_fields
        return (
            method.base == "none"
            and method.parents[1] != 1
            and self.base is not None
            and self.base not in self.models
            and self.whole
            and (not weighs or self.scopes.speaks_for_all("weight"))
        )


def forms_of(recipe: Any) -> list[str]:
    """Which of `models`, `slices` and `modules` a recipe has; an empty one counts as left out."""
    return [form for form in ("models", "slices", "modules") if _get(recipe, form)]


class ReadSections(NamedTuple):
    """What a recipe's sections are, every fault of their parameters, and what is ignored: a warning where it might matter,
    a note where it never does.
    """

    sections: tuple[Section, ...]
    faults: tuple[RecipeError, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def read_sections(method: Parametrised, recipe: Any) -> ReadSections:
    """Read models, slices or modules and the parameters of every level.

    recipe: a `Recipe`, or the mapping it is read from, of which anything may be wrong: then the faults alone are of use.
    """
    reader, last = ScopeReader(method), ScopeReader(method)
    top = last.read(_parameters(recipe), "parameters")  # its faults and warnings are told after those of the parts
    base = _get(recipe, "base_model")
    sections: list[Section] = []
    for module, place, raw_sources, own_base, raw_scopes in _written(recipe):
        shared = (*(reader.read(raw, where) for raw, where in raw_scopes), top)
        sources, scopes = [], []
        for i, raw in enumerate(raw_sources):
            model, where = _get(raw, "model"), f"{place}[{i}]"
            sources.append(Source(model, _get(raw, "layer_range"), where, _parameters(raw)))
            scopes.append((model, reader.read(_parameters(raw), f"{where}.parameters", of_one=True)))
        raw_shared = [*(raw for raw, _ in raw_scopes), _parameters(recipe)]
        last.require([_parameters(raw) for raw in raw_sources], raw_shared)
        read = ParameterScopes(tuple(scopes), shared)
        own = {name: value for raw, _ in reversed(raw_scopes) for name, value in raw.items()}
        where = place.removesuffix(".sources")
        sections.append(Section(module, where, tuple(sources), own_base or base, read, own))
    return ReadSections(
        tuple(sections),
        (*reader.faults, *last.faults),
        tuple(dict.fromkeys([*reader.warnings, *last.warnings])),
        tuple(dict.fromkeys([*reader.notes, *last.notes])),
    )


_Written = tuple[str, str, Sequence[Any], Any, list[tuple[Any, str]]]
"""Module, place of the list of sources, the sources, the slice's own base, the scopes between sources and top level."""


def _written(recipe: Any) -> Iterator[_Written]:
    yield from _in_module(recipe, "", "", [])
    modules = _get(recipe, "modules", {})
    for name, module in modules.items() if isinstance(modules, Mapping) else ():
        place = f"modules.{name}."
        yield from _in_module(module, str(name), place, [(_parameters(module), f"{place}parameters")])


def _in_module(holder: Any, module: str, place: str, scopes: list[tuple[Any, str]]) -> Iterator[_Written]:
    models = _listed(_get(holder, "models"))
    if models:
        yield module, f"{place}models", models, None, scopes
    for i, part in enumerate(_listed(_get(holder, "slices"))):
        where = f"{place}slices[{i}]"
        own = (_parameters(part), f"{where}.parameters")
        yield module, f"{where}.sources", _listed(_get(part, "sources")), _get(part, "base_model"), [own, *scopes]


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _parameters(part: Any) -> Mapping[Any, Any]:
    value = _get(part, "parameters")
    return value if isinstance(value, Mapping) else {}


def _get(part: Any, name: str, otherwise: Any = None) -> Any:
    """A key of a mapping, or a field of a parsed part; `otherwise` when it has no value."""
    value = part.get(name) if isinstance(part, Mapping) else getattr(part, name, None)
    return otherwise if value is None else value
