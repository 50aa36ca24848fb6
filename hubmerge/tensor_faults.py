"""Do the inputs fit one another: every tensor of a section in all of its inputs, and of one shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hubmerge.errors import PlanError
from hubmerge.layer_config import kinds_are_stated
from hubmerge.layers import LayerStack
from hubmerge.parents import ParentModel
from hubmerge.placement import Placement
from hubmerge.step_inputs import StepInputs, ties
from zoo_index.fingerprint import is_vocabulary_tensor
from zoo_index.tensors import TensorMeta

__all__ = ["counted", "tensor_faults"]

_SHAPING = {"vocab_size", "num_labels", "tie_word_embeddings"}


def tensor_faults(inputs: StepInputs, placement: Placement) -> list[PlanError]:
    """Every fault that keeps the inputs from being merged, one for each pair of models and kind."""
    fitting = [*_shape_faults(inputs, placement), *_stack_faults(inputs, placement)]
    return [*(fitting or _kind_faults(inputs, placement)), *_head_faults(inputs, placement)]


def counted(names: Sequence[str]) -> str:
    """``tensor 'x'``, or how many there are and the first."""
    return f"tensor {names[0]!r}" if len(names) == 1 else f"{len(names)} tensors (first {names[0]!r})"


def _shape_faults(inputs: StepInputs, placement: Placement) -> Iterator[PlanError]:
    """Tensors that only some inputs of a section have, and tensors of other shapes."""
    different: dict[tuple[int, int], list[tuple[TensorMeta, TensorMeta]]] = {}
    missing: dict[tuple[int, int], list[str]] = {}
    extra: dict[tuple[int, int], list[str]] = {}
    for row in placement.rows:
        first = inputs.models[row.lead]
        meta = first.table[row.names[row.lead]]
        for i, name in row.names.items():
            other = inputs.models[i]
            if name in other.table and inputs.shape(i, other.table[name]) != inputs.shape(row.lead, meta):
                different.setdefault((row.lead, i), []).append((meta, other.table[name]))
            elif name not in other.table and meta.dtype.is_float and inputs.tied(i, row) is None:
                missing.setdefault((row.lead, i), []).append(name)
    for lead, i, names in placement.extras:
        floats = [name for name in names if inputs.models[i].table[name].dtype.is_float]
        if floats:
            extra.setdefault((lead, i), []).extend(floats)
    for lead, i in dict.fromkeys([*different, *missing, *extra]):
        first, other = inputs.models[lead], inputs.models[i]
        if (lead, i) in different:
            yield _different_shapes(first, other, different[lead, i])
        else:
            yield _different_names(first, other, extra.get((lead, i), []), missing.get((lead, i), []))


def _stack_faults(inputs: StepInputs, placement: Placement) -> Iterator[PlanError]:
    """Layers of another model than the config's must be such as the config describes."""
    donor = inputs.models[placement.donor]
    for layers in placement.layers.values():
        stack = layers[0].stack
        shapes: dict[str, set[tuple[int, ...]]] = {}
        for meta in donor.table.values():
            if (place := stack.split(meta.name)) is not None:
                shapes.setdefault(place[1], set()).add(meta.shape)
        for lead in dict.fromkeys(row.lead for row in layers if row.lead != placement.donor):
            other = inputs.models[lead]
            used = {row.layer for row in layers if row.lead == lead}
            taken = [
                (meta, place[1])
                for meta in other.table.values()
                if (place := stack.split(meta.name)) is not None and place[0] in used
            ]
            odd = [(meta, rest) for meta, rest in taken if rest in shapes and meta.shape not in shapes[rest]]
            extra = [meta.name for meta, rest in taken if rest not in shapes and meta.dtype.is_float]
            if odd:
                pairs = [(replace(meta, shape=min(shapes[rest])), meta) for meta, rest in odd]
                yield _different_shapes(donor, other, pairs)
            elif extra:
                yield _different_names(donor, other, extra, [])


def _kind_faults(inputs: StepInputs, placement: Placement) -> Iterator[PlanError]:
    """Layers with other tensors than the model's code looks for at their new place, like T5's bias of the first block.

    Where the config does not say which layer is of which kind, the code goes by the number; beyond the last layer that the
    config's model has, it is taken to go on as there.
    """
    donor = inputs.models[placement.donor]
    for layers in placement.layers.values():
        stack = layers[0].stack
        if kinds_are_stated(donor.config, stack):
            continue
        expected = _layer_tensors(donor, stack)
        if all(names == expected[0] for names in expected.values()):
            continue
        own = {lead: _layer_tensors(inputs.models[lead], stack) for lead in {row.lead for row in layers}}
        for j, row in enumerate(layers):
            wanted, model = expected[min(j, stack.count - 1)], inputs.models[row.lead]
            found = own[row.lead][row.layer]
            if found != wanted:
                odd = min(wanted ^ found)
                has = "lacks" if odd in wanted else "has"
                message = f"layer {j} of the output is layer {row.layer} of {model.reference}, which {has} {odd!r}"
                hint = f"take a layer with the tensors that layer {min(j, stack.count - 1)} of {donor.reference} has"
                yield PlanError(message, where="slices", hint=hint)
                break


def _layer_tensors(model: ParentModel, stack: LayerStack) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for meta in model.table.values():
        if (place := stack.split(meta.name)) is not None and meta.dtype.is_float:
            found.setdefault(place[0], set()).add(place[1])
    return found


def _head_faults(inputs: StepInputs, placement: Placement) -> Iterator[PlanError]:
    """A head that is merged and then never read, because the config ties it to the embeddings."""
    donor = inputs.models[placement.donor]
    if ties(donor) is not True:
        return
    for row in placement.rows:
        untied = [
            i for i, name in row.names.items() if name in inputs.models[i].table and ties(inputs.models[i]) is False
        ]
        if row.name.endswith("head.weight") and untied:
            message = (
                f"{donor.reference} ties its head to its embeddings, {inputs.models[untied[0]].reference} does not"
            )
            hint = "the merged head would never be used: name the other as base_model"
            yield PlanError(message, where=row.name, hint=hint)


def _different_fields(first: ParentModel, other: ParentModel) -> list[str]:
    """The fields of the configs that explain why two models have other tensors."""
    from zoo_index.apart import GIVEN_SIZES
    from zoo_index.compat import differing_fields

    rows = differing_fields(first.record, other.record)
    return [str(row) for row in rows if row.hard or row.field in _SHAPING or row.field in GIVEN_SIZES]


def _different_shapes(
    first: ParentModel, other: ParentModel, pairs: Sequence[tuple[TensorMeta, TensorMeta]]
) -> PlanError:
    left, right = pairs[0]
    name = left.name if left.name == right.name else f"{left.name} and {right.name}"
    tensor = f"{name} is {list(left.shape)} vs {list(right.shape)}"
    return PlanError(
        f"{first.reference} and {other.reference} have different shapes: "
        + ", ".join([*_different_fields(first, other), tensor]),
        where=f"{len(pairs)} tensor{'s' * (len(pairs) > 1)}",
        hint="write tokenizer_source: union, base or one of the models, and rows are merged token by token"
        if all(is_vocabulary_tensor(meta.name) for meta, _ in pairs) and not _differ_in_labels(first, other)
        else _other_shapes(first, other),
    )


def _other_shapes(first: ParentModel, other: ParentModel) -> str:
    """What to do with models of other shapes: where an alignment brings one to the other's widths, that."""
    from zoo_index.ways import ways_of

    ways = ways_of(first.record, other.record)
    if ways.found and not ways.any_method:
        return "`hubmerge zoo why` tells how such models are put together"
    if ways.any_method:
        return "align: weights in the recipe brings them to one width first; `hubmerge zoo why` says what is left out"
    return "same-shape methods need parents of one architecture; `hubmerge zoo compatible` finds some"


def _differ_in_labels(first: ParentModel, other: ParentModel) -> bool:
    from zoo_index.compat import differing_fields

    return any(row.field == "num_labels" for row in differing_fields(first.record, other.record))


def _different_names(first: ParentModel, other: ParentModel, extra: list[str], missing: list[str]) -> PlanError:
    def told(names: list[str], has: ParentModel, lacks: ParentModel) -> str:
        return f"{counted(names)} of {has.reference} {'is' if len(names) == 1 else 'are'} not in {lacks.reference}"

    parts = [told(extra, other, first)] if extra else []
    parts += [told(missing, first, other)] if missing else []
    fields = _different_fields(first, other)
    head = len(extra) == 1 and first.config.get("tie_word_embeddings", False)
    hint = (
        "the first ties its head to its embeddings, the other does not: name the other as base_model"
        if head
        else "every parent must have the same tensors; `hubmerge zoo compatible` finds such models"
    )
    return PlanError("; ".join(parts) + (f": {', '.join(fields)}" if fields else ""), where="models", hint=hint)
