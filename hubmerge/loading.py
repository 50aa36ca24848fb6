"""`AutoMergedModel`: merged models by `from_pretrained`, from a folder or straight from a recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hubmerge.compute import compute
from hubmerge.errors import MergeError, PlanError
from hubmerge.io.reader import NUMPY, InputFiles, Workspace
from hubmerge.plan import build_plan
from hubmerge.plan_types import Plan, Step
from hubmerge.recipe import Recipe
from zoo_index.hub import open_source
from zoo_index.reference import ModelRef
from zoo_index.tensors import DType

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = ["AutoMergedModel", "model_class", "read_folder_config"]


class AutoMergedModel:
    """Loads a merge as the ordinary transformers model that its config names."""

    def __init__(self) -> None:
        raise TypeError("AutoMergedModel is used through AutoMergedModel.from_pretrained(...)")

    @classmethod
    def from_pretrained(cls, source: str | Path | Recipe | Mapping[str, Any], **kwargs: Any) -> PreTrainedModel:
        """Load a merged model.

        source: a folder (the OUT of a merge, a published one, or any model folder), the name of a model in the local Hub
        cache, or a recipe (YAML file, mapping, `Recipe`), which is merged straight into the model: no checkpoint is
        written, and memory peaks at the model and the tensors in flight.  kwargs are transformers' (``dtype``,
        ``device_map``, ...; dtype defaults to the stored one, "auto").  Returns the model in evaluation mode, an instance of
        the class that config.json names (``LlamaForCausalLM``).

        Raises the errors of `build_plan`, and `MergeError` when the class and the tensors do not match.
        """
        kwargs.setdefault("dtype", "auto")
        if isinstance(source, Recipe | Mapping):
            return _assemble(build_plan(source), kwargs)
        if Path(source).is_file():
            return _assemble(build_plan(source), kwargs)
        folder = Path(source).is_dir()
        opened = open_source(
            ModelRef.of(str(source) if not folder else str(Path(source).absolute()), kwargs.pop("revision", None))
        )
        path = opened.path("config.json").parent
        concrete = model_class(read_folder_config(path), str(source))
        return _loaded(concrete, path, kwargs, "the folder does not have", str(source))


def read_folder_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder; `PlanError` when there is none."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise PlanError(
            "no readable config.json, so this is not a model folder",
            where=str(folder),
            hint="name the OUT of a merge, or a recipe file",
        ) from error
    return dict(config)


def model_class(config: Mapping[str, Any], where: str) -> type[PreTrainedModel]:
    """The transformers class that `config` names first under `architectures`.

    Raises `PlanError` when it names none, or one that transformers does not have (custom code is never run).
    """
    import transformers

    names = config.get("architectures") or ()
    found = getattr(transformers, names[0], None) if names else None
    if found is None:
        what = (
            f"the config names class {names[0]!r}, which this transformers does not have"
            if names
            else "the config names no architecture"
        )
        raise PlanError(what, where=where, hint="upgrade transformers; models that bring their own code are not run")
    return found  # type: ignore[no-any-return]


class _TensorSlice:
    """One merged tensor that is computed when transformers reads it (the interface of safetensors' slices)."""

    def __init__(self, plan: Plan, step: Step, files: InputFiles) -> None:
        self._plan, self._step, self._files = plan, step, files

    def get_shape(self) -> list[int]:
        return list(self._step.output.shape)

    def get_dtype(self) -> str:
        return self._step.output.dtype.value

    @property
    def shape(self) -> tuple[int, ...]:
        return self._step.output.shape

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return getattr(torch, self._step.output.dtype.torch_name)  # type: ignore[no-any-return]

    def is_floating_point(self) -> bool:
        return self._step.output.dtype.is_float

    def __getitem__(self, index: Any) -> torch.Tensor:
        import torch

        output = self._step.output
        merged = np.empty(output.numel, NUMPY[output.dtype])

        def emit(first: int, entries: Any) -> None:
            merged[first : first + entries.size] = entries

        compute(self._step, self._plan.method, self._files, Workspace(), emit)
        if output.dtype is DType.BOOL:
            merged = merged.view(np.bool_)
        tensor = torch.from_numpy(merged)
        if output.dtype is DType.BF16:
            tensor = tensor.view(torch.bfloat16)
        return tensor.reshape(output.shape)[index]


def _assemble(plan: Plan, kwargs: dict[str, Any]) -> PreTrainedModel:
    from transformers import AutoConfig, GenerationConfig

    donor = plan.parents[plan.config_donor]
    name = str(donor.reference.model)
    concrete = model_class(plan.config, name)
    config = AutoConfig.for_model(
        **{**plan.config, "model_type": plan.config.get("model_type", concrete.config_class.model_type)}
    )
    with InputFiles(plan.parents) as files:
        slices = {step.output.name: _TensorSlice(plan, step, files) for step in plan.steps}
        loaded = _loaded(
            concrete, None, {**kwargs, "config": config, "state_dict": slices}, "the parents do not have", name
        )
    model: PreTrainedModel = loaded[0] if isinstance(loaded, tuple) else loaded
    model.config.name_or_path = model.name_or_path = plan.recipe.name or f"hubmerge-{plan.hash[:12]}"
    if any(file.name == "generation_config.json" for file in plan.carried):
        with InputFiles(plan.parents) as files:
            folder = files.path(plan.config_donor, "generation_config.json").parent
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return loaded


def _loaded(
    concrete: type[PreTrainedModel], folder: Path | None, kwargs: dict[str, Any], lacking: str, where: str
) -> PreTrainedModel:
    """What transformers loads (with its loading info when `kwargs` ask for it); refused when tensors of the class are missing."""
    wants_info = bool(kwargs.get("output_loading_info"))
    model, info = concrete.from_pretrained(folder, **{**kwargs, "output_loading_info": True})
    missing = sorted(info["missing_keys"])
    if missing:
        raise MergeError(
            f"{concrete.__name__} needs {len(missing)} tensors that {lacking} (first {missing[0]!r})",
            where=where,
            hint="a head that was never trained would be random; merge models of the class that is loaded",
        )
    return (model, info) if wants_info else model
