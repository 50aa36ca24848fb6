"""The parts of a recipe as they are written: models, slices of layers with their sources, modules, the output."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from hubmerge.recipe_calibration import TaskDataKey
from hubmerge.recipe_part import Part
from hubmerge.recipe_values import LayerRange, Reference, Size

__all__ = ["ModelEntry", "Module", "Output", "Part", "Slice", "SliceSource"]


class ModelEntry(Part):
    """One model of the merge and the parameters that are its own."""

    model: Reference = Field(description="the model")
    base: Reference | None = Field(None, description="transport: the model that it was trained from")
    calibration: TaskDataKey = Field(
        None,
        description="sens_merging, adamerging: data of the model's own task, as a mapping, or its data alone",
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="parameters of this model, by name")


class SliceSource(Part):
    """Layers of one model, and the parameters that are theirs."""

    model: Reference = Field(description="the model")
    layer_range: LayerRange = Field(description="its layers: the first, and the one after the last")
    parameters: dict[str, Any] = Field(default_factory=dict, description="parameters of these layers, by name")


class Slice(Part):
    """Some layers of the output, merged from equally many of every source."""

    sources: tuple[SliceSource, ...] = Field(min_length=1, description="whose layers are merged")
    base_model: Reference | None = Field(None, description="the base of this slice; default: that of the recipe")
    parameters: dict[str, Any] = Field(default_factory=dict, description="parameters of this slice")
    residual_weight: float | None = Field(
        None, allow_inf_nan=False, description="read as mergekit reads it: without effect"
    )


class Module(Part):
    """One part of the model, like the encoder: its slices, or whole models."""

    slices: tuple[Slice, ...] = Field((), description="its layers from first to last")
    models: tuple[ModelEntry, ...] = Field((), description="the models to merge, instead of slices")
    parameters: dict[str, Any] = Field(default_factory=dict, description="parameters of this module")


class Output(Part):
    """What is written."""

    kind: Literal["dense", "adapter"] = Field(
        "dense", description="dense: an ordinary checkpoint; adapter: of LoRA adapters, one of them as PEFT has it"
    )
    rank: int | None = Field(None, ge=1, strict=True, description="adapter: its rank, at most; default: all is kept")
    shard_size: Size = Field(5_000_000_000, description="largest weight file in bytes; also written like 500MB or 5GB")
