"""`Recipe`: what a person asks for, parsed and checked as far as it can be without the models.

mergekit's YAML is read unchanged for `merge_method`, `models`, `base_model`, `parameters`, `dtype`, `out_dtype` and
`tokenizer_source`.  All faults are reported together, each with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hubmerge.dialect import read_yaml_file
from hubmerge.errors import RecipeError, shown
from hubmerge.method import MergeMethod, get_method
from hubmerge.parameters import ParameterScopes, parse_parameters
from hubmerge.recipe_checks import method_faults, model_faults, value_faults
from hubmerge.recipe_faults import read_model
from hubmerge.recipe_values import FloatType, Reference, Size, TokenizerSource
from zoo_index.errors import HubmergeError
from zoo_index.reference import ModelRef

__all__ = ["ModelEntry", "Output", "Recipe", "load_recipe"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class ModelEntry(_Part):
    """One model of the merge and the parameters that are its own."""

    model: Reference = Field(description="the model")
    parameters: dict[str, Any] = Field(default_factory=dict, description="parameters of this model, by name")


class Output(_Part):
    """What is written."""

    kind: Literal["dense"] = Field("dense", description="dense: an ordinary checkpoint")
    shard_size: Size = Field(5_000_000_000, description="largest weight file in bytes; also written like 500MB or 5GB")


class Recipe(_Part):
    """A merge, as asked for."""

    merge_method: str = Field(description="the method; `hubmerge methods` lists them")
    models: tuple[ModelEntry, ...] = Field(min_length=1, description="the models to merge, in order")
    base_model: Reference | None = Field(
        None, description="the common ancestor: deltas are differences from it, and its config and tokenizer are taken"
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
        description="whose tokenizer is taken: base, or one of the models by name; default: base_model, else the first",
    )
    output: Output = Field(default=Output(), description="what is written")
    seed: int = Field(0, ge=0, lt=2**64, strict=True, description="seed of random methods")
    name: str | None = Field(None, description="a name for the merge; not used in the computation")

    @property
    def method(self) -> MergeMethod:
        return get_method(self.merge_method)

    @property
    def references(self) -> tuple[ModelRef, ...]:
        """Every model named, in order, the base last when it is not among the models."""
        listed = [entry.model for entry in self.models]
        return tuple(dict.fromkeys([*listed, self.base_model] if self.base_model else listed))

    @property
    def parents(self) -> tuple[ModelRef, ...]:
        """The models the method combines, in its order.

        Delta methods: all but the base.  slerp: the base, then the other.  Others: all; a base that is not listed is one
        of them when a top-level `weight` speaks for it, as in mergekit.
        """
        listed = tuple(entry.model for entry in self.models)
        if self.base_model is None:
            return listed
        others = tuple(model for model in listed if model != self.base_model)
        if self.method.base == "required":
            return others
        if self.method.base == "start":
            return (self.base_model, *others)
        return (*listed, self.base_model) if self.base_is_averaged_in else listed

    @property
    def base_is_averaged_in(self) -> bool:
        """Whether an unlisted base becomes a parent of a method that knows no base (mergekit's rule)."""
        listed = {entry.model for entry in self.models}
        return (
            self.method.base == "none"
            and self.base_model is not None
            and self.base_model not in listed
            and "weight" in self.parameters
        )

    @property
    def scopes(self) -> ParameterScopes:
        """The parameters, parsed: see `hubmerge.parameters`."""
        scopes, _, _ = parse_parameters(self.method, [(e.model, e.parameters) for e in self.models], self.parameters)
        return scopes

    @property
    def warnings(self) -> tuple[str, ...]:
        """Everything the recipe says that the method does not use."""
        _, _, warnings = parse_parameters(self.method, [(e.model, e.parameters) for e in self.models], self.parameters)
        return warnings

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
        recipe, mended, faults = read_model(raw, cls)
        wrong = method_faults(mended)
        faults += wrong
        if recipe is not None and not any(fault.where == "merge_method" for fault in wrong):
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
    return Recipe.parse(read_yaml_file(Path(recipe)), where=str(recipe))


def _at(fault: HubmergeError, where: str) -> HubmergeError:
    place = f"{where}: {fault.where}" if fault.where else where
    return RecipeError(fault.message, where=place, hint=fault.hint)
