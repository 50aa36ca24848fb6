"""The models of an assembly before their weights are read: their symmetries, and what keeps them from being put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hubmerge.align_choices import runs_together
from hubmerge.assembly_stages import AssemblyStages
from hubmerge.errors import PlanError
from hubmerge.heterogeneous.checks import check_alike, check_shapes, check_sizes, matchable
from hubmerge.heterogeneous.functions import HALVING, check_functions
from hubmerge.heterogeneous.other_vocabularies import instead_of_one_vocabulary
from hubmerge.heterogeneous.stream_plan import turned_groups
from hubmerge.parents import IN_BFLOAT16, ParentModel, refuse_adapter
from hubmerge.symmetry.groups import Kind, SymmetrySpec
from hubmerge.symmetry.load import load_spec
from hubmerge.symmetry.widths import width_fields
from hubmerge.vocabulary import read_vocabulary
from zoo_index.apart import have_other_tokenizers
from zoo_index.errors import HubmergeError
from zoo_index.float8 import FLOAT8

__all__ = [
    "check_bases",
    "check_parents",
    "check_widths",
    "inputs_at_once",
    "specs_of",
    "vocabulary_findings",
    "widths_of",
]


_ROWS = frozenset({Kind.TOKENS, Kind.POSITIONS, Kind.LABELS})
"""Kinds of entries that are aligned for themselves, whatever their number."""


def specs_of(models: Sequence[ParentModel]) -> tuple[SymmetrySpec, ...]:
    """The symmetries of every model; raises `PlanError` for adapters and float8, `SymmetryError` for an architecture without a table.

    All faults are told together.
    """
    faults: list[HubmergeError] = []
    specs = []
    for model in models:
        try:
            _refuse_kinds(model)
            specs.append(_spec_of(model))
        except HubmergeError as fault:
            faults += fault.faults
    if faults:
        raise faults[0] if len(faults) == 1 else PlanError.of(faults)
    return tuple(specs)


def _spec_of(model: ParentModel) -> SymmetrySpec:
    """The symmetries; of a tensor that is tied to another and stored all the same the other counts, as transformers has it."""
    shapes = {name: meta.shape for name, meta in model.table.items()}
    spec = load_spec(model.config, shapes, where=str(model.reference))
    twice = {tied for tied, _ in spec.tied if tied in shapes}
    once = {name: shape for name, shape in shapes.items() if name not in twice}
    return load_spec(model.config, once, where=str(model.reference)) if twice else spec


def inputs_at_once(config: Mapping[str, Any]) -> str:
    """What a model takes two of at once, in words; empty for one that takes a single thing."""
    architecture = str((config.get("architectures") or [""])[0])
    if config.get("is_encoder_decoder") and not architecture.endswith("EncoderModel"):
        return "a text to read and one to go on with"
    return "texts and images" if architecture == "CLIPModel" else ""


def _refuse_kinds(model: ParentModel) -> None:
    refuse_adapter(model.reference, "a model with an adapter is not put together with others")
    odd = next((meta for meta in model.table.values() if meta.dtype in FLOAT8), None)
    if odd is not None:
        raise PlanError(
            f"tensor {odd.name!r} is stored as {odd.dtype.value}",
            where=str(model.reference),
            hint=IN_BFLOAT16,
        )


def check_parents(models: Sequence[ParentModel], specs: Sequence[SymmetrySpec], stages: AssemblyStages) -> list[str]:
    """Raise `PlanError` for models that cannot be put together, whatever their widths; returns what should be known of the others.

    models, specs: the base's first.
    """
    names = [str(model.reference) for model in models]
    check_alike(specs, names, same_depth=bool(stages.bases))
    if stages.bases:
        _check_labels(specs, names)
    side_by_side = HALVING if runs_together(stages.align, stages.fit) else ()
    return check_functions([model.config for model in models], names, side_by_side=side_by_side)


def _check_labels(specs: Sequence[SymmetrySpec], names: Sequence[str]) -> None:
    """Raise `PlanError` for models of more or fewer labels than the target's, the first: what is carried is added to its head."""
    counts = [group.size for spec in specs for group in spec.groups.values() if group.kind is Kind.LABELS]
    odd = next((place for place, count in enumerate(counts) if count != counts[0]), None)
    if odd is not None:
        raise PlanError(
            f"{names[0]} has {counts[0]} labels and {names[odd]} {counts[odd]}",
            where="models",
            hint="transport adds to the target's head: take models of its labels; `hubmerge zoo why` tells what else these models allow",
        )


def check_widths(models: Sequence[ParentModel], specs: Sequence[SymmetrySpec], stages: AssemblyStages) -> None:
    """Raise `PlanError` for other widths where models are matched by their weights, but where it is carried between turned streams.

    models, specs: the base's first.
    """
    if stages.align != "weights" or (stages.bases and turned_groups(specs[0], stages)):
        return
    names = [str(model.reference) for model in models]
    groups, could = specs[0].groups, matchable(specs[0], ())
    rows = {name for name, group in groups.items() if group.kind in _ROWS}
    instead = [_instead_of_data(models, specs, place) for place in range(1, len(models))]
    hints = [hint or "models of different widths are matched by activations" for hint in instead]
    free = {name for name in could if not groups[name].normed_as_a_whole}
    check_sizes(specs, rows | free, on_data=not any(instead))
    shapes = [_shapes_without_rows(model, spec) for model, spec in zip(models, specs, strict=True)]
    for name, theirs, hint in zip(names[1:], shapes[1:], hints, strict=True):
        check_shapes(shapes[0], theirs, names[0], name, hint=hint)
    for spec, hint in zip(specs[1:], hints, strict=True):
        if not stages.bases:  # carrying takes heads of other sizes inside the same shapes
            check_sizes((specs[0], spec), rows, hint)


def _instead_of_data(models: Sequence[ParentModel], specs: Sequence[SymmetrySpec], place: int) -> str:
    """What to do about other widths where the base and the model at `place` cannot be matched on data; empty where they can."""
    if inputs_at_once(models[0].config):
        return "another method after align: weights takes models of other widths"
    reads_words = any(group.kind is Kind.TOKENS for group in specs[0].groups.values())
    if reads_words and have_other_tokenizers(models[0].record, models[place].record):
        return instead_of_one_vocabulary(models[0].reference, specs[0], specs[place])
    return ""


def _shapes_without_rows(model: ParentModel, spec: SymmetrySpec) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors but those with a row for every token or position, whose rows are aligned for themselves."""
    rows = {name for name, group in spec.groups.items() if group.kind in _ROWS - {Kind.LABELS}}
    has_rows = {name for name, tensor in spec.tensors.items() if any(f.group in rows for f in tensor.factors)}
    has_rows |= {tied for tied, _ in spec.tied}
    return {name: meta.shape for name, meta in model.table.items() if name not in has_rows}


def check_bases(models: Sequence[ParentModel], stages: AssemblyStages) -> None:
    """Raise `PlanError` where a model that learned something and its own base differ in a shape.  models: in the recipe's order."""
    by_name = {model.reference: model for model in models}
    for model, base in zip(models, stages.bases, strict=False):
        ours, theirs = ({name: meta.shape for name, meta in each.table.items()} for each in (by_name[base], model))
        hint = "name the model that it was trained from"
        check_shapes(ours, theirs, str(base), str(model.reference), where="models", hint=hint)


def vocabulary_findings(base: ParentModel, other: ParentModel, spec: SymmetrySpec, theirs: SymmetrySpec) -> list[str]:
    """Raise `PlanError` where one id stands for two tokens; a warning where that cannot be told.  spec, theirs: of either."""
    if not any(group.kind is Kind.TOKENS for group in spec.groups.values()):
        return []
    if not have_other_tokenizers(base.record, other.record):
        return []
    pair = f"{base.reference} and {other.reference}"
    try:
        left, right = (read_vocabulary(model.source, str(model.reference)) for model in (base, other))
    except HubmergeError:
        left = right = None
    if left is None or right is None:
        return [f"{pair} have different tokenizers: one row of the embeddings can stand for two tokens"]
    if dict(left.ids) == dict(right.ids):
        return []
    raise PlanError(
        f"{pair} have different vocabularies, and one row of the embeddings would stand for two tokens",
        where="models",
        hint=instead_of_one_vocabulary(base.reference, spec, theirs),
    )


def widths_of(model: ParentModel, spec: SymmetrySpec) -> Mapping[str, str]:
    """What a model's config says of the sizes of groups with units: field -> its value, or its values where it is a list."""
    found: dict[str, dict[str, Any]] = {}
    for field in width_fields(model.config, spec):
        if not any(spec.groups[name].kind.is_symmetry for name, _ in field.groups):
            continue
        for path, value, _ in ((field.path, field.value, field.step), *field.along):
            found.setdefault(path.partition("[")[0], {})[path] = value
    return {name: " ".join(map(str, values.values())) for name, values in found.items()}
