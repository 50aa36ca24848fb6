"""Which tensor of which parent goes where: the sections of a recipe and the parents' tables -> one row per output tensor.

Whole models are merged name by name.  Slices stack layers: those of the output are numbered anew, what comes before the
layers is merged from the sources of the first slice, what comes after them from those of the last, as in mergekit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hubmerge.depth import LayerDepths
from hubmerge.errors import PlanError
from hubmerge.layers import LayerStack, comes_before, counted_stacks
from hubmerge.modules import ModulePart, module_parts
from hubmerge.parents import ParentModel
from hubmerge.recipe import Recipe
from hubmerge.sections import Section
from zoo_index.errors import HubmergeError
from zoo_index.reference import ModelRef
from zoo_index.tensors import TensorMeta

__all__ = ["Placement", "Row", "StackedLayer", "place_tensors"]


@dataclass(frozen=True)
class Row:
    """One tensor of the output.  section: what it is merged by.  lead: the input that says which tensors there are (an
    index); names: what every input of the section calls it, by index; depth: where a gradient is evaluated.
    """

    name: str
    section: Section
    lead: int
    names: Mapping[int, str]
    depth: float


@dataclass(frozen=True)
class StackedLayer:
    """One layer of the output of a sliced recipe: number `layer` of `stack` in input `lead`, and those merged with it."""

    stack: LayerStack
    lead: int
    layer: int
    others: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Placement:
    """rows: every tensor of the output, in its order.  extras: (lead, other, tensors) of inputs whose section has no row
    for them.  layers: by module, the layers of the output where slices stack them.  donor: the input of the config.
    """

    donor: int
    rows: tuple[Row, ...]
    extras: tuple[tuple[int, int, tuple[str, ...]], ...]
    layers: Mapping[str, tuple[StackedLayer, ...]]


def place_tensors(recipe: Recipe, models: Sequence[ParentModel], donor: int) -> Placement:
    """Give every tensor of the output its inputs.

    donor: the input that the config comes from.  Raises `PlanError` for layers that a model does not have, for a model
    whose layers cannot be told, and for tensors that belong to no module of the recipe.
    """
    index = {model.reference: i for i, model in enumerate(models)}
    placing = _Placing(recipe, models, index, donor)
    parts = module_parts(models[donor], [section.module for section in recipe.sections])
    rows: list[Row] = []
    for module in dict.fromkeys(section.module for section in recipe.sections):
        sections = [section for section in recipe.sections if section.module == module]
        if sections[0].whole:
            rows += placing.whole(sections[0], parts[module])
        else:
            rows += placing.stacked(sections, parts[module])
    if placing.faults:
        raise PlanError.of(placing.faults)
    return Placement(donor, tuple(rows), tuple(placing.extras), placing.layers)


class _Placing:
    def __init__(
        self, recipe: Recipe, models: Sequence[ParentModel], index: Mapping[ModelRef, int], donor: int
    ) -> None:
        self.recipe, self.models, self.index, self.donor = recipe, models, index, donor
        self.faults: list[HubmergeError] = []
        self.extras: list[tuple[int, int, tuple[str, ...]]] = []
        self.layers: dict[str, tuple[StackedLayer, ...]] = {}

    def involved(self, section: Section, lead: int) -> tuple[int, ...]:
        """The inputs that a section needs, the leading one first."""
        method = self.recipe.method
        origin = section.origin(method)
        needed = (*section.parents(method), *((origin,) if origin else ()))
        return tuple(dict.fromkeys([lead, *(self.index[model] for model in needed)]))

    def whole(self, section: Section, part: ModulePart) -> Iterator[Row]:
        """Rows of a section that merges whole models, in the order of the donor's files."""
        depths = LayerDepths(self.models[self.donor].table)
        involved = self.involved(section, self.donor)
        for meta in _in_file_order(self.models[self.donor]):
            if part.owns(meta.name):
                yield Row(meta.name, section, self.donor, dict.fromkeys(involved, meta.name), depths(meta.name))
        lead = self.models[self.donor]
        for other in involved[1:]:
            alone = [name for name in self.models[other].table if name not in lead.table and part.owns(name)]
            self.extras.append((self.donor, other, tuple(alone)))

    def stacked(self, sections: Sequence[Section], part: ModulePart) -> Iterator[Row]:
        """Rows of slices: what comes before the layers, the layers, what comes after them."""
        stack = self.stack_of(part, sections[0])
        if stack is None:
            return
        for section in sections:
            self.check_layers(section, stack)
        if self.faults:
            return
        yield from self.outside(sections[0], part, stack, before=True)
        made: list[StackedLayer] = []
        for section in sections:
            yield from self.slice(section, stack, made)
        self.layers[sections[0].module] = tuple(made)
        yield from self.outside(sections[-1], part, stack, before=False)

    def stack_of(self, part: ModulePart, section: Section) -> LayerStack | None:
        donor = self.models[self.donor]
        if len(part.stacks) == 1:
            return part.stacks[0]
        if part.stacks:
            told = ", ".join(f"{stack.prefix} ({stack.count} layers)" for stack in part.stacks)
            hint = "write modules: with the slices of each, named by a word of these"
            message = f"{donor.reference} has several stacks of layers, and slices name none: {told}"
        else:
            hint = "list whole models under models:"
            message = f"{donor.reference} has no layers that could be counted by the names of its tensors"
        self.faults.append(PlanError(message, where=section.where, hint=hint))
        return None

    def check_layers(self, section: Section, stack: LayerStack) -> None:
        """Note a fault for every source without the layers that the recipe takes."""
        for source in section.sources:
            model = self.models[self.index[source.model]]
            own = next((s for s in counted_stacks(model.table, model.config) if s.prefix == stack.prefix), None)
            count = own.count if own else 0
            if own is None:
                message = f"{model.reference} has no layers {stack.prefix}0, as {self.models[self.donor].reference} has"
                hint = "all models of a recipe are of one architecture"
                self.faults.append(PlanError(message, where=source.where, hint=hint))
            elif source.layers is not None and source.layers[1] > count:
                first, after = source.layers
                message = f"layer_range [{first}, {after}] ends behind the {count} layers of {model.reference}"
                hint = f"at most [{min(first, count - 1)}, {count}]: the end is not included"
                self.faults.append(PlanError(message, where=f"{source.where}.layer_range", hint=hint))

    def lead_of(self, section: Section) -> int:
        """The input whose tensors a slice has: that of the config when it is a source, else the first source."""
        involved = [self.index[source.model] for source in section.sources]
        return self.donor if self.donor in involved else involved[0]

    def outside(self, section: Section, part: ModulePart, stack: LayerStack, *, before: bool) -> Iterator[Row]:
        """Rows of what comes before or after the layers."""
        lead = self.donor  # the class that its config names needs these tensors, whosever they are
        involved = self.involved(section, lead)

        def belongs(name: str) -> bool:
            return part.owns(name) and stack.split(name) is None and comes_before(name) is before

        for meta in _in_file_order(self.models[lead]):
            if belongs(meta.name):
                depth = 0.0 if before else 1.0
                yield Row(meta.name, section, lead, dict.fromkeys(involved, meta.name), depth)
        for other in involved[1:]:
            alone = [n for n in self.models[other].table if belongs(n) and n not in self.models[lead].table]
            self.extras.append((lead, other, tuple(alone)))

    def slice(self, section: Section, stack: LayerStack, made: list[StackedLayer]) -> Iterator[Row]:
        """Rows of one slice's layers, which follow those already `made`."""
        lead = self.lead_of(section)
        involved = self.involved(section, lead)
        ranges = {self.index[source.model]: source.layers or (0, stack.count) for source in section.sources}
        rests = {i: self.rests(i, stack) for i in involved}
        first, after = ranges[lead]
        for k in range(after - first):
            depth = k / (after - first - 1) if after - first > 1 else 1.0
            layers = {i: ranges[i][0] + k for i in involved}
            for rest in rests[lead][layers[lead]]:
                names = {i: stack.name(layers[i], rest) for i in involved}
                yield Row(stack.name(len(made), rest), section, lead, names, depth)
            for other in involved[1:]:
                alone = [rest for rest in rests[other][layers[other]] if rest not in rests[lead][layers[lead]]]
                self.extras.append((lead, other, tuple(stack.name(layers[other], rest) for rest in alone)))
            made.append(StackedLayer(stack, lead, layers[lead], tuple((i, layers[i]) for i in involved[1:])))

    def rests(self, model: int, stack: LayerStack) -> dict[int, dict[str, None]]:
        """The names of every layer's tensors of one input, without prefix and number, in the order of its files."""
        found: dict[int, dict[str, None]] = {}
        for meta in _in_file_order(self.models[model]):
            if (place := stack.split(meta.name)) is not None:
                found.setdefault(place[0], {})[place[1]] = None
        return found


def _in_file_order(model: ParentModel) -> list[TensorMeta]:
    return sorted(model.table.values(), key=lambda meta: (meta.file, meta.start))
