"""A merged adapter added to its base, tensor by tensor: the engine's plan for a base with an adapter that does not exist yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hubmerge.adapters import read_adapter_effect
from hubmerge.io.input_files import InputFiles
from hubmerge.io.shards import Layout, lay_out
from hubmerge.lora.adapter import Factors
from hubmerge.lora.headers import AdapterHeader
from hubmerge.lora.plan_types import PlannedModule
from hubmerge.lora.planned_wholes import PlannedWholes
from hubmerge.lora.wholes import Wholes
from hubmerge.lora.writing import bias_name, factor_names, whole_name
from hubmerge.parents import open_parent
from hubmerge.plan import plan_models
from hubmerge.plan_types import Plan, PlannedParent
from hubmerge.recipe import Recipe
from zoo_index.reference import ModelRef
from zoo_index.tensors import DType, TensorTable

__all__ = ["MergedInputs", "layout_of", "plan_dense", "write_factors"]


def layout_of(modules: Sequence[PlannedModule], embeddings: frozenset[str], wholes: PlannedWholes) -> Layout:
    """The one file in which the merge waits for its base: float32, factors of every module at its planned rank, and what is beside them."""
    return lay_out(list(_rows(modules, embeddings, wholes)), 1 << 62)


def _rows(
    modules: Sequence[PlannedModule], embeddings: frozenset[str], wholes: PlannedWholes
) -> Iterator[tuple[str, DType, tuple[int, ...]]]:
    for module in modules:
        rows, columns = module.shape
        first, second = factor_names(module.name, is_embedding=module.name in embeddings)
        yield first, DType.F32, (module.rank, columns)
        yield second, DType.F32, (rows, module.rank)
    for module_name, shape in wholes.biases.items():
        yield bias_name(module_name), DType.F32, shape
    names = {module.name for module in modules}
    for name, shape in (*wholes.copies.items(), *wholes.carried.items()):
        yield whole_name(name, names), DType.F32, shape


def plan_dense(
    recipe: Recipe,
    base: ModelRef,
    pins: Mapping[str, str],
    modules: Sequence[PlannedModule],
    wholes: PlannedWholes,
    adapters: Sequence[AdapterHeader],
    *,
    jobs: int | None,
    memory: int,
) -> Plan:
    """The plan of `base` handed through with the merged change on it.  Raises as `build_plan`, and for modules that the base has not."""
    model = open_parent(base, pins)
    embeddings = frozenset().union(*(adapter.embeddings for adapter in adapters))
    layout = layout_of(modules, embeddings, wholes)
    turned = bool(adapters[0].config.get("fan_in_fan_out"))
    config = {"peft_type": "LORA", "fan_in_fan_out": turned, "lora_bias": True}
    effect = read_adapter_effect(config, TensorTable.of(layout.tensors), model.table, str(base))
    own = {key: getattr(recipe, key) for key in ("dtype", "out_dtype", "chat_template", "name")}
    through = Recipe.parse(
        {
            "merge_method": "passthrough",
            "models": [{"model": base}],
            "output": {"shard_size": recipe.output.shard_size},
            **{key: value for key, value in own.items() if value is not None},
        }
    )
    return plan_models(through, [replace(model, effect=effect)], jobs=jobs, memory=memory)


def write_factors(
    folder: Path, layout: Layout, merged: Mapping[str, Factors], embeddings: frozenset[str], wholes: Wholes
) -> Path:
    """Write a merge as `layout` has it, and return the file; what a module's rank is short of its planned one is zeros."""
    (name, header), places = next(iter(layout.headers.items())), {meta.name: meta for meta in layout.tensors}
    with (folder / name).open("wb") as file:
        file.write(header)
        file.truncate(layout.sizes[name])
        for module, factors in merged.items():
            names = factor_names(module, is_embedding=module in embeddings)
            for each, values in zip(names, (factors.a, factors.b * factors.scale), strict=True):
                padded = np.zeros(places[each].shape, np.float32)
                padded[: values.shape[0], : values.shape[1]] = values
                file.seek(places[each].start)
                file.write(padded.data)
        beside = {bias_name(module): values for module, values in wholes.biases.items()}
        beside |= {
            whole_name(each, merged): values for each, values in (*wholes.copies.items(), *wholes.carried.items())
        }
        for each, values in beside.items():
            file.seek(places[each].start)
            file.write(np.ascontiguousarray(values, np.float32).data)
    return folder / name


class MergedInputs(InputFiles):
    """The base's files, and the merged factors in `folder` as its adapter's."""

    def __init__(self, parents: Sequence[PlannedParent], folder: Path) -> None:
        super().__init__(parents)
        self._folder = folder

    def path(self, parent: int, file: str, in_adapter: bool = False) -> Path:
        return self._folder / file if in_adapter else super().path(parent, file)
