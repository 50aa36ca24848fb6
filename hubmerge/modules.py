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
    ``shared`` is what is in no other.  Raises `PlanError` for a module that names nothing, and for tensors in none.
    """
    stacks = counted_stacks(model.table, model.config)
    names = list(dict.fromkeys(modules))
    if len(names) == 1 and names[0] in _EVERYTHING:
        return {names[0]: ModulePart(stacks, ("",), ())}
    stacks = layer_stacks(model.table)
    found = {name: _stacks_named(name, stacks, model) for name in names}
    roots = {name: tuple(_root(stack, stacks) for stack in found[name]) or _root_named(name, model) for name in names}
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
    return tuple(s for s in stacks if any(path[0] in keys for path in count_keys(model.config, s.count)))


def _root(stack: LayerStack, stacks: Sequence[LayerStack]) -> str:
    """The shortest beginning of a stack's prefix that no other stack has."""
    words = stack.prefix.split(".")
    others = [other.prefix for other in stacks if other != stack]
    beginnings = [".".join(words[:i]) + "." for i in range(1, len(words))]
    return next((start for start in beginnings if not any(other.startswith(start) for other in others)), stack.prefix)


def _root_named(name: str, model: ParentModel) -> tuple[str, ...]:
    if name in _REST:
        return ("",)
    return (f"{name}.",) if any(tensor.startswith(f"{name}.") for tensor in model.table) else ()
