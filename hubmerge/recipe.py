"""`Recipe`: what a person asks for, parsed and checked as far as it can be without the models.

mergekit's YAML is read unchanged: models, slices or modules, `base_model`, `parameters` at every level, `dtype`,
`out_dtype` and `tokenizer_source`.  All faults are reported together, each with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from hubmerge.adapter_checks import adapter_method
from hubmerge.adapter_words import Missing
from hubmerge.assemblies import Assembly, assembly_of
from hubmerge.dialect import read_yaml_file
from hubmerge.errors import RecipeError, shown
from hubmerge.method import MergeMethod
from hubmerge.method_parameters import Parametrised
from hubmerge.recipe_calibration import CalibrationKey
from hubmerge.recipe_checks import form_faults, method_faults, model_faults, value_faults
from hubmerge.recipe_faults import read_model
from hubmerge.recipe_parts import ModelEntry, Module, Output, Part, Slice
from hubmerge.recipe_stages import AlignKey, FitKey, Labels
from hubmerge.recipe_tokenizer import TokenizerPart
from hubmerge.recipe_values import FloatType, Reference, TokenizerSource
from hubmerge.recipe_zoo import Probe, ZooKey
from hubmerge.sections import ReadSections, Section, read_sections
from hubmerge.stages import method_of, with_stages_spread
from zoo_index.errors import HubmergeError
from zoo_index.reference import ModelRef

__all__ = ["ModelEntry", "Output", "Recipe", "load_recipe"]


_METHOD = ("merge_method", "sparsify", "combine", "basis", "parameters.inner")
"""Where faults are after which there is no method to check anything else against."""


class Recipe(Part):
    """A merge, as asked for."""

    merge_method: str | None = Field(
        None, description="the method, a preset of stages; `hubmerge methods` lists them; must be given, or combine"
    )
    sparsify: str | None = Field(
        None,
        description="which entries of each delta survive: magnitude, random, della or breadcrumbs; also as {method: random, density: 0.5}",
    )
    combine: str | None = Field(
        None,
        description="instead of merge_method, how deltas become one: weighted_sum, sign_consensus, or any method on deltas without a stage",
    )
    align: AlignKey = Field(
        None,
        description="how the models come into one order before they are merged, as a mapping, or its method alone: `align: weights`; "
        "under any method, of itself under pleas and transport; mal: min_similarity and without",
    )
    fit: FitKey = Field(
        None, description="pleas: whether layers are fitted afterwards, as a mapping, or its method alone: `fit: none`"
    )
    calibration: CalibrationKey = Field(
        None,
        description="beside align, and under pleas, transport and mal: unlabelled data to match and fit with, as a mapping, or its data "
        "alone; mal without it: noise",
    )
    labels: Labels | None = Field(
        None,
        description="pleas: shared: the models' labels are the same, and heads are merged; disjoint: the merge has the labels "
        "of all, one model's after the other's; none: without a head; default: by the names of the labels",
    )
    zoo: ZooKey = Field(
        None,
        description="mal: donors from a catalog, beside those under models, as a mapping, or the catalog's file alone",
    )
    probe: Probe | None = Field(None, description="mal: data with labels, on which the loss of the merge is measured")
    basis: Literal["knots", "core", "none"] | None = Field(
        None,
        description="of LoRA adapters: knots or core, what they have in common, in which the method merges them; none: PEFT's combinations",
    )
    missing: Missing | None = Field(
        None,
        description="of LoRA adapters: a module that some leave alone: zero: they change nothing there (default); intersect: it is left out; error",
    )
    other_bases: bool | None = Field(
        None,
        description="of LoRA adapters: true: they may say that they are of other models or revisions; the merge is said to be of the first's",
    )
    models: tuple[ModelEntry, ...] = Field((), description="the models to merge, in order")
    slices: tuple[Slice, ...] = Field((), description="instead of models: the output's layers, some from each model")
    modules: dict[str, Module] = Field(
        default_factory=dict,
        description="instead of models: parts of the model by name, each with its slices or models",
    )
    base_model: Reference | None = Field(
        None,
        description="the common ancestor: deltas are differences from it, and its config and tokenizer are taken; "
        "pleas: one of the models, in whose order of units the others come; default: the first; transport: the target; "
        "mal: the model that stays what it is; of LoRA adapters: what they were trained on, default: what they say",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="parameters for all models: a value, a gradient over depth, or filters by tensor name",
    )
    dtype: FloatType | None = Field(
        None,
        description="type of the merged weights; default: the parents' own, float32 for a tensor that they store in different ones",
    )
    out_dtype: FloatType | None = Field(None, description="type of the merged weights; wins over dtype")
    tokenizer_source: TokenizerSource | None = Field(
        None,
        description="whose vocabulary the merge has: base, one of the models by name, or the union of all; "
        "default: nothing moves, and the tokenizer is that of base_model, else the first",
    )
    tokenizer: TokenizerPart | None = Field(
        None, description="the same with more to say: rows of single tokens, new tokens, padding"
    )
    chat_template: str | None = Field(
        None,
        description="auto (the one most models have), alpaca, chatml, exaone, llama3, mistral, or a Jinja template",
    )
    output: Output = Field(default=Output(), description="what is written")
    seed: int = Field(0, ge=0, lt=2**64, strict=True, description="seed of random methods")
    name: str | None = Field(None, description="a name for the merge; not used in the computation")

    @property
    def assembly(self) -> Assembly | None:
        """What puts the models together when they are unlike one another; None for a method on tensors."""
        return assembly_of(self.merge_method)

    @property
    def merges_adapters(self) -> bool:
        """Whether the models are LoRA adapters, which are merged as adapters."""
        return self.basis is not None or self.output.kind == "adapter"

    @property
    def method(self) -> MergeMethod:
        """The method on tensors; `RecipeError` when the recipe is for an `assembly`, or for one of PEFT's combinations."""
        return method_of(self.merge_method, self.sparsify, self.combine, self.parameters)

    @property
    def _parametrised(self) -> Parametrised:
        return adapter_method(self) if self.merges_adapters else self.assembly or self.method

    @property
    def sections(self) -> tuple[Section, ...]:
        """Models, slices or modules in one form: see `hubmerge.sections`."""
        return self._read.sections

    @cached_property
    def _read(self) -> ReadSections:
        return read_sections(self._parametrised, self)

    @property
    def references(self) -> tuple[ModelRef, ...]:
        """Every model named, in order, the base last when it is not among the models."""
        listed = [model for section in self.sections for model in section.models]
        bases = [section.base for section in self.sections if section.base] + (
            [self.base_model] if self.base_model else []
        )
        own = [entry.base for entry in self.models if entry.base]
        return tuple(dict.fromkeys([*listed, *own, *bases]))

    @property
    def parents(self) -> tuple[ModelRef, ...]:
        """The models the method combines, in its order, whatever layers of them; see `Section.parents`."""
        if self.merges_adapters:
            return tuple(entry.model for entry in self.models)
        if self.assembly is not None:
            return self.references
        found = (model for section in self.sections for model in section.parents(self.method))
        return tuple(dict.fromkeys(found))

    @property
    def _every_slice(self) -> tuple[Slice, ...]:
        return (*self.slices, *(part for module in self.modules.values() for part in module.slices))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Everything the recipe says that is not used, though it might have been meant to be."""
        found = [
            f"{place.where}.residual_weight is ignored: it has no meaning, in mergekit neither; remove it"
            for place, part in zip((s for s in self.sections if not s.whole), self._every_slice, strict=True)
            if part.residual_weight is not None
        ]
        return (*self._read.warnings, *found)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the recipe says that changes no number."""
        return self._read.notes

    def to_dict(self) -> dict[str, Any]:
        """The recipe in the words of its YAML, without defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @classmethod
    def parse(cls, raw: Any, where: str = "recipe") -> Recipe:
        """Read a recipe from a mapping.  Raises `RecipeError` for all its faults together."""
        if not isinstance(raw, Mapping):
            what = (
                "the recipe is empty" if raw is None else f"a recipe is a mapping of keys to values, got {shown(raw)}"
            )
            raise RecipeError(what, where=where, hint="see docs/recipe.md")
        spread, spread_faults = with_stages_spread(raw)
        recipe, mended, faults = read_model(spread, cls)
        faults += spread_faults
        wrong, formless = method_faults(mended), form_faults(mended)
        faults += formless + wrong
        if recipe is not None and not formless and not any(fault.where in _METHOD for fault in wrong):
            faults += model_faults(recipe)
            faults += value_faults(recipe) if not faults else []
        if recipe is None or faults:
            raise RecipeError.of([_at(fault, where) for fault in faults])
        return recipe


def load_recipe(recipe: Recipe | Mapping[str, Any] | str | Path) -> Recipe:
    """A recipe from a YAML file, a mapping, or itself.  Raises `RecipeError`."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return Recipe.parse(recipe)
    return Recipe.parse(read_yaml_file(Path(recipe), Recipe.model_fields), where=str(recipe))


def _at(fault: HubmergeError, where: str) -> HubmergeError:
    place = f"{where}: {fault.where}" if fault.where else where
    return RecipeError(fault.message, where=place, hint=fault.hint)
