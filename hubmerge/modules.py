"""Which tensors belong to which module of a recipe: the encoder, the vision tower, what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hubmerge.errors import PlanError
from hubmerge.layers import LayerStack, count_keys, counted_stacks, layer_stacks
from hubmerge.parents import ParentModel
from zoo_index.errors import HubmergeError

__all__ = ["ModulePart", "module_parts"]

_EVERYTHING = ("", "default")
_REST = ("default", "shared")
_TOWERS = {"text_": ("text_config",), "vision_": ("vision_config",), "audio_": ("audio_config",)}
"""mergekit's names of towers (``text_decoder``, ``vision_tower``) begin like the part of the config that counts their layers."""
_SENSES = {"vision_": ("vis",), "audio_": ("audio",)}
"""What a word begins with in the prefix of a tower's layers, for towers that the config counts alike."""
_BETWEEN = {"multi_modal_projector": ("multi_modal_projector", "projector", "merger", "connector")}
"""mergekit's name of what leads from one tower to another, and the words that models have for it."""


@dataclass(frozen=True)
class ModulePart:
    """The tensors of one module.  stacks: its layers; roots: what the names of its tensors begin with, of several roots the
    longest counts; others: the roots of the other modules.
    """

    stacks: tuple[LayerStack, ...]
    roots: tuple[str, ...]
    others: tuple[str, ...]

    def owns(self, name: str) -> bool:
        """Whether a tensor belongs to this module."""
        own = max((len(root) for root in self.roots if name.startswith(root)), default=-1)
        return own > max((len(root) for root in self.others if name.startswith(root)), default=-1)


def module_parts(model: ParentModel, modules: Sequence[str]) -> Mapping[str, ModulePart]:
    """The part of `model` that each module of a recipe names.

    ``default`` alone, and a recipe without modules, mean all of it.  Otherwise a module is named by a word of the prefix
    of its layers (``encoder``), by the beginning of its tensors' names, or as mergekit names towers (``text_decoder``);
    ``shared`` is what is in no other; without it, what is in none belongs to the text model.

    Raises `PlanError` for a module that names nothing, and for tensors in none.
    """
    stacks = counted_stacks(model.table, model.config)
    names = list(dict.fromkeys(modules))
    if len(names) == 1 and names[0] in _EVERYTHING:
        return {names[0]: ModulePart(stacks, ("",), ())}
    stacks = layer_stacks(model.table)
    found = {name: _stacks_named(name, stacks, model) for name in names}
    claimed = {stack for own in found.values() for stack in own}
    counted = [stack for stack in stacks if stack in claimed or count_keys(model.config, stack.count)]
    rest = [name for name in names if name in _REST] or [n for n in names if n.startswith("text_") and found[n]]
    roots = {name: _roots(name, found[name], counted, model, rest) for name in names}
    faults: list[HubmergeError] = [
        PlanError(
            f"{model.reference} has no part of that name",
            where=f"modules.{name}",
            hint=f"its layers are {', '.join(s.prefix for s in stacks) or 'not counted'}; write a word of these, or shared",
        )
        for name in names
        if not roots[name]
    ]
    parts = {
        name: ModulePart(
            found[name], roots[name], tuple(r for other in names if other != name for r in roots[other] or ())
        )
        for name in names
    }
    left = [name for name in model.table if not any(part.owns(name) for part in parts.values())]
    if left and not faults:
        what = f"{len(left)} tensors of {model.reference} are in no module (first {left[0]!r})"
        hint = "add a module for them; shared: takes all that is in no other"
        faults.append(PlanError(what, where="modules", hint=hint))
    if faults:
        raise PlanError.of(faults)
    return parts


def _stacks_named(name: str, stacks: Sequence[LayerStack], model: ParentModel) -> tuple[LayerStack, ...]:
    named = tuple(stack for stack in stacks if name == stack.prefix.rstrip(".") or name in stack.prefix.split("."))
    if named:
        return named
    keys = next((keys for begin, keys in _TOWERS.items() if name.startswith(begin)), ())
    paths = {stack: count_keys(model.config, stack.count) for stack in stacks}
    found = tuple(stack for stack in stacks if any(path[0] in keys for path in paths[stack]))
    if len(found) > 1:  # as many layers in one tower as in another
        senses = next((words for begin, words in _SENSES.items() if name.startswith(begin)), ())
        others = tuple(word for words in _SENSES.values() if words != senses for word in words)
        found = tuple(s for s in found if _begins(s, senses)) or tuple(s for s in found if not _begins(s, others))
    if found or not name.startswith("text_"):
        return found
    towers = {key for other in _TOWERS.values() for key in other}  # a text model may be counted in the config's frame
    return tuple(s for s in stacks if paths[s] and not any(path[0] in towers for path in paths[s]))


def _begins(stack: LayerStack, words: tuple[str, ...]) -> bool:
    return any(part.startswith(words) for part in stack.prefix.split("."))


def _roots(
    name: str, own: Sequence[LayerStack], stacks: Sequence[LayerStack], model: ParentModel, rest: Sequence[str]
) -> tuple[str, ...]:
    """What the names of a module's tensors begin with, "" for one of `rest`; empty when it names nothing."""
    found = [_root(stack, stacks) for stack in own]
    if not found:
        words = _BETWEEN.get(name, (name,))
        parts = [tensor.split(".")[:-1] for tensor in model.table]
        ends = [(row, i) for row in parts for i, part in enumerate(row, 1) if any(word in part for word in words)]
        exact = [(row, i) for row, i in ends if name in _BETWEEN or row[i - 1] == name]
        found = list(dict.fromkeys(".".join(row[:i]) + "." for row, i in exact))
    return (*found, *(("",) if name in rest else ()))


def _root(stack: LayerStack, stacks: Sequence[LayerStack]) -> str:
    """The shortest beginning of a stack's prefix that no other stack has."""
    words = stack.prefix.split(".")
    others = [other.prefix for other in stacks if other != stack]
    beginnings = [".".join(words[:i]) + "." for i in range(1, len(words))]
    return next((start for start in beginnings if not any(other.startswith(start) for other in others)), stack.prefix)
