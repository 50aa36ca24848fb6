"""`Recipe`: what a person asks for, parsed and checked as far as it can be without the models.

mergekit's YAML is read unchanged for `merge_method`, `models`, `base_model`, `parameters`, `dtype`, `out_dtype` and
`tokenizer_source`.  All faults are reported together, each with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, WithJsonSchema

from hubmerge.dialect import read_yaml_file
from hubmerge.errors import RecipeError
from hubmerge.method import MergeMethod, get_method
from hubmerge.parameters import ParameterScopes, parse_parameters
from hubmerge.recipe_faults import faults_of
from zoo_index.errors import HubmergeError
from zoo_index.reference import ModelRef
from zoo_index.tensors import DType

__all__ = ["ModelEntry", "Output", "Recipe", "load_recipe"]


def _reference(value: Any) -> ModelRef:
    if isinstance(value, ModelRef):
        return value
    if isinstance(value, str):
        return ModelRef.parse(value)
    if isinstance(value, Mapping):
        return _reference_mapping(value)
    raise ValueError(f"expected a model's name, got {value!r}")


def _reference_mapping(value: Mapping[str, Any]) -> ModelRef:
    """Mergekit's long form: ``{model: {path: ..., revision: ...}, lora: {path: ..., revision: ...}}``."""
    parts = {"model": value} if "path" in value else value
    unknown = set(parts) - {"model", "lora"}
    if unknown or "model" not in parts:
        raise ValueError(f"expected path and revision, or model and lora, got {', '.join(map(str, value))}")
    read: dict[str, ModelRef] = {}
    for name, part in parts.items():
        if part is None:
            continue
        row = {"path": part} if isinstance(part, str) else part
        if not isinstance(row, Mapping) or not isinstance(row.get("path"), str) or set(row) - {"path", "revision"}:
            raise ValueError(f"{name}: expected path and revision, got {part!r}")
        read[name] = ModelRef.of(row["path"], row.get("revision"))
    return ModelRef(read["model"].name, read["model"].revision, read.get("lora"))


def _dtype(value: Any) -> str:
    dtype = DType.from_torch_name(value) if isinstance(value, str) else None
    if dtype not in {DType.F32, DType.F16, DType.BF16}:
        raise ValueError(f"expected float32, float16 or bfloat16, got {value!r}")
    return dtype.torch_name


Reference = Annotated[
    ModelRef,
    BeforeValidator(_reference),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "description": "org/name, org/name@revision, ./folder, or base+adapter"}),
]
FloatType = Annotated[
    str, BeforeValidator(_dtype), WithJsonSchema({"enum": ["float32", "float16", "bfloat16"], "type": "string"})
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class ModelEntry(_Part):
    """One model of the merge and the parameters that are its own."""

    model: Reference = Field(description="the model")
    parameters: dict[str, Any] = Field(default_factory=dict, description="parameters of this model, by name")


class Output(_Part):
    """What is written."""

    kind: Literal["dense"] = Field("dense", description="dense: an ordinary checkpoint")
    shard_size: int = Field(5_000_000_000, description="largest weight file in bytes; also written like 500MB or 5GB")


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
        None, description="type of the merged weights; default: the widest among the parents"
    )
    out_dtype: FloatType | None = Field(None, description="type of the merged weights; wins over dtype")
    tokenizer_source: str | None = Field(
        None,
        description="whose tokenizer is taken: base, or one of the models by name; default: base_model, else the first",
    )
    output: Output = Field(default=Output(), description="what is written")
    seed: int = Field(0, ge=0, description="seed of random methods")
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
            raise RecipeError(
                f"a recipe is a mapping, got {type(raw).__name__}", where=where, hint="see docs/recipe.md"
            )
        faults: list[HubmergeError] = []
        recipe = None
        try:
            recipe = cls.model_validate(_with_bytes(raw))
        except ValidationError as error:
            faults += faults_of(error, cls)
        faults += _method_faults(raw)
        if recipe is not None and not faults:
            faults += _model_faults(recipe)
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


_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _with_bytes(raw: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with output.shard_size in bytes when it is written with a unit."""
    output = raw.get("output")
    size = output.get("shard_size") if isinstance(output, Mapping) else None
    if not isinstance(size, str):
        return dict(raw)
    for unit in sorted(_UNITS, key=len, reverse=True):
        number = size.strip().upper().removesuffix(unit).strip()
        if number != size.strip().upper() and number.replace(".", "", 1).isdigit():
            return {**raw, "output": {**dict(output or {}), "shard_size": int(float(number) * _UNITS[unit])}}
    return dict(raw)


def _method_faults(raw: Mapping[str, Any]) -> list[HubmergeError]:
    """Faults of the method's name and of all parameters; tolerant of whatever else is wrong."""
    name = raw.get("merge_method")
    if not isinstance(name, str):
        return []
    try:
        method = get_method(name)
    except RecipeError as fault:
        return [fault]
    listed = raw.get("models")
    entries = [
        entry if isinstance(entry, Mapping) else {} for entry in (listed if isinstance(listed, list | tuple) else [])
    ]
    models = [(str(entry.get("model")), entry.get("parameters") or {}) for entry in entries]
    _, faults, _ = parse_parameters(method, models, raw.get("parameters") or {})
    return list(faults)


def _model_faults(recipe: Recipe) -> list[HubmergeError]:
    """Faults in the number and choice of models."""
    method, listed = recipe.method, [entry.model for entry in recipe.models]
    twice = sorted({str(model) for model in listed if listed.count(model) > 1})
    if twice:
        return [
            RecipeError(f"{twice[0]} is listed twice", where="models", hint="list each model once, with its weight")
        ]
    if method.base in {"required", "start"} and recipe.base_model is None:
        what = (
            "starts from a base model"
            if method.base == "start"
            else "merges what parents learned on top of a base model"
        )
        return [
            RecipeError(
                f"{method.name} {what}, and none is named",
                where="base_model",
                hint="add base_model: the common ancestor",
            )
        ]
    if (
        method.base == "none"
        and recipe.base_model
        and recipe.base_model not in listed
        and not recipe.base_is_averaged_in
        and "weight" in method.parameters.model_fields
    ):
        return [
            RecipeError(
                f"base_model {recipe.base_model} is not among the models, and {method.name} averages all it is given",
                where="base_model",
                hint="list it under models with a weight, or remove base_model",
            )
        ]
    fewest, most = method.parents
    count = len(recipe.parents)
    if count < fewest or (most is not None and count > most):
        wanted = str(fewest) if fewest == most else f"at least {fewest}" if most is None else f"{fewest} to {most}"
        beside = " beside the base" if method.base == "required" else ""
        names = ", ".join(map(str, recipe.parents)) or "none"
        return [
            RecipeError(
                f"{method.name} takes {wanted} model{'s' * (wanted != '1')}{beside}, got {count}",
                where="models",
                hint=f"given: {names}",
            )
        ]
    return []
