"""Whether a model can be a donor of a base, from headers and configs: its layers paired by structure, or what stands in the way."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hubmerge.calibration.check import CalibrationFacts
from hubmerge.calibration.model_side import longest_text
from hubmerge.errors import PlanError
from hubmerge.heterogeneous.blocks import blocks_of
from hubmerge.heterogeneous.functions import HALVING_INSIDE, check_functions
from hubmerge.heterogeneous.mal_pairs import check_donor
from hubmerge.heterogeneous.mal_structure import StagePairs, stage_pairs
from hubmerge.heterogeneous.parents import specs_of, vocabulary_findings
from hubmerge.heterogeneous.plan import refuse_several_inputs
from hubmerge.mal_stages import MalStages
from hubmerge.parents import ParentModel
from hubmerge.symmetry.groups import Kind, SymmetrySpec

__all__ = ["WITHOUT_DATA", "Donor", "checked_donor", "spec_of_base"]

WITHOUT_DATA = "leave calibration out: layers are then compared on noise"
"""What to do where a model takes two things at once."""


@dataclass(frozen=True)
class Donor:
    """A model that can be a donor.  stages: of the base, each with what could be paired.  warnings: what should be known of it."""

    model: ParentModel
    spec: SymmetrySpec
    stages: tuple[StagePairs, ...]
    warnings: tuple[str, ...]

    @property
    def layers(self) -> int:
        """How many layers it has."""
        return len(blocks_of(self.spec))


def spec_of_base(base: ParentModel, without: Collection[str]) -> SymmetrySpec:
    """The symmetries of the base; `PlanError` for one without layers, and for a name in `without` that is no group of it."""
    (spec,) = specs_of([base])
    unknown = spec.unknown(without)
    if unknown:
        raise PlanError(
            f"{base.reference} has no group {min(unknown)!r}",
            where="align.without",
            hint=f"`hubmerge symmetry show {base.reference}` lists them",
        )
    if not blocks_of(spec):
        raise PlanError(
            f"{base.reference} has no layers that can be taken one by one",
            where="base_model",
            hint="merge whole models of its family with merge_method: pleas",
        )
    return spec


def checked_donor(
    base: ParentModel,
    spec: SymmetrySpec,
    model: ParentModel,
    stages: MalStages,
    calibration: CalibrationFacts | None,
) -> Donor:
    """`model` beside the base, whose symmetries are `spec`.

    Raises `PlanError` or `SymmetryError`, with the model's name, for one that no layer can be taken of or that cannot be run on what the
    base is run on.
    """
    name = str(model.reference)
    if stages.calibration is not None:
        refuse_several_inputs(model, WITHOUT_DATA)
    (own,) = specs_of([model])
    check_donor((spec, own), name, base.reference)
    warnings = check_functions([base.config, model.config], (str(base.reference), name), side_by_side=HALVING_INSIDE)
    _check_places((spec, own), name)
    _check_length(base, model, stages, calibration)
    warnings += vocabulary_findings(base, model, spec, own)
    found = stage_pairs((spec, own), stages.without)
    if not any(stage.paired for stage in found):
        raise PlanError(
            f"none of its layers can go with one of {base.reference}'s: {next(why for stage in found for why in stage.why)}",
            where=name,
            hint=_nearest(spec, own, stages.without),
        )
    return Donor(model, own, found, tuple(warnings))


def _check_places(specs: Sequence[SymmetrySpec], where: str) -> None:
    """`PlanError` for a model with a place for every patch of pictures of another size."""
    ours, theirs = specs
    reads_texts = any(group.kind is Kind.TOKENS for group in ours.groups.values())
    for name, group in ours.groups.items():
        other = theirs.groups.get(name)
        if group.kind is not Kind.POSITIONS or (reads_texts and name != "patches"):
            continue
        if other is not None and other.size != group.size:
            raise PlanError(
                f"the base reads {group.size} places of a picture, this model {other.size}",
                where=where,
                hint="both models are run on the same data; choose a donor of the base's image_size and patch_size",
            )


def _check_length(
    base: ParentModel, model: ParentModel, stages: MalStages, calibration: CalibrationFacts | None
) -> None:
    """`PlanError` for a model that cannot take texts as long as the base is given."""
    limit = longest_text(model.config)
    if stages.calibration is None or calibration is None or calibration.kind != "text" or limit is None:
        return
    longest = min(stages.calibration.max_length, longest_text(base.config) or stages.calibration.max_length)
    if limit < longest:
        raise PlanError(
            f"it takes at most {limit} tokens, and texts are cut at {longest}",
            where=str(model.reference),
            hint=f"write calibration: {{max_length: {limit}}}",
        )


def _nearest(ours: SymmetrySpec, theirs: SymmetrySpec, without: Collection[str]) -> str:
    """What would do instead."""
    if any(stage.paired for stage in stage_pairs((ours, theirs))):
        return f"leave {', '.join(without)} out of align.without"
    normed = [
        group
        for name, group in ours.groups.items()
        if group.normed_as_a_whole and name in theirs.groups and theirs.groups[name].size != group.size
    ]
    if normed:
        sizes = ", ".join(dict.fromkeys(str(group.size) for group in normed))
        return f"choose a donor with {sizes} units there; its hidden units, heads and depth may be others"
    return "choose a donor whose layers are built like the base's; `hubmerge symmetry show` tells"
