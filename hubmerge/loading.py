"""`AutoMergedModel`: merged models by `from_pretrained`, from a folder, the Hub, or straight from a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hubmerge.compute import compute
from hubmerge.errors import PlanError
from hubmerge.fetching import fetch_parents
from hubmerge.io.input_files import InputFiles
from hubmerge.io.stored import NUMPY
from hubmerge.io.workspace import Workspace
from hubmerge.loaded import faults_of_transformers, load_whole
from hubmerge.model_config import check_labels, model_class, read_folder_config, read_json_object
from hubmerge.plan import build_plan
from hubmerge.plan_types import Plan, Step
from hubmerge.prologue import known_of, pooled_states
from hubmerge.published import check_weights, fetch_files, open_published, published_kind, published_plan
from hubmerge.recipe import Recipe
from hubmerge.staged import Known
from hubmerge.token import as_token
from zoo_index.hub import ModelSource
from zoo_index.tensors import DType

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from hubmerge.heterogeneous.mal_plan_types import MalPlan
    from hubmerge.heterogeneous.plan_types import AssemblyPlan
    from hubmerge.lora.plan_types import AdapterPlan

__all__ = ["AutoMergedModel", "assemble_model"]


class AutoMergedModel:
    """Loads a merge as the ordinary transformers model that its config names."""

    def __init__(self) -> None:
        raise TypeError("AutoMergedModel is used through AutoMergedModel.from_pretrained(...)")

    @classmethod
    def from_pretrained(cls, source: str | Path | Recipe | Mapping[str, Any], **kwargs: Any) -> PreTrainedModel:
        """Load a merged model.

        source: a folder (the OUT of a merge, a published one, or any model folder), a model on the Hub (``user/name``), or a
        recipe (YAML file, mapping, `Recipe`).  A recipe, and a repository that holds only one, is merged straight into the
        model: no checkpoint is written, and memory peaks at the model and the tensors in flight.  (Unlike models, pleas, aligned ones,
        adapters, and those whose coefficients are found first are put together in a temporary folder instead, as `hubmerge merge` does
        it.)  For a published recipe the parents are taken at their commits, and the weights are first compared with the digests that were
        published, which
        computes them twice.  An adapter is put on its base model by transformers' `load_adapter`: the result is the base's
        class with the adapter active, not merged and not a `PeftModel`.

        kwargs are transformers' (``dtype``, ``device_map``, ...; dtype defaults to the stored one, "auto"); ``revision`` and
        ``token`` (True or None: the one that is logged in; False: none) are for the Hub.  Code that comes with a model runs
        only with ``trust_remote_code=True``, and never from a recipe.  Returns the model in evaluation mode, an instance of
        the class that config.json names (``LlamaForCausalLM``).

        Raises the errors of `build_plan`, `HubError`, `PlanError` for a config that cannot be used, `MergeError` when the
        class and the tensors do not match or transformers cannot load them (its own error is the cause), and `VerifyError`
        when a published recipe does not give what was published.  What is missing here, memory or a package, is left as it
        is raised, and so is what a model's own code raises.
        """
        kwargs.setdefault("dtype", "auto")
        revision, token = kwargs.pop("revision", None), kwargs.pop("token", None)
        token = None if token is True else token
        trust = bool(kwargs.pop("trust_remote_code", False))
        if isinstance(source, Recipe | Mapping) or _is_recipe_file(Path(source)):
            with as_token(token):
                plan = build_plan(source)
                if not isinstance(plan, Plan) or plan.alignment is not None or plan.method.wrapper is not None:
                    return _put_together(plan, kwargs, token)
                fetch_parents(plan)
                return _from_recipe(plan, kwargs, plan.recipe)
        opened = open_published(source, revision, token)
        kind = published_kind(opened)
        if kind == "recipe":
            with as_token(token):
                plan, manifest = published_plan(opened)
                check_weights(plan, manifest, str(opened.pinned))
                return _from_recipe(plan, kwargs, opened)
        folder = fetch_files(opened, code=trust)
        if kind == "adapter":
            return _remember(_with_adapter(folder, kwargs, token, trust=trust), opened)
        config = read_folder_config(folder)
        check_labels(config, str(source))
        concrete = _trusted_class(config) if trust else None
        if concrete is not None:
            kwargs["trust_remote_code"] = True
        loaded = load_whole(
            concrete or model_class(config, str(source)),
            folder,
            kwargs,
            str(source),
            lacking="the folder does not have",
        )
        return _remember(loaded, opened)


def _is_recipe_file(source: Path) -> bool:
    """Whether `source` is a recipe's file, or is called like one and is nothing else: then reading it says that it is missing."""
    return source.is_file() or (source.suffix in {".yaml", ".yml"} and not source.exists())


def _remember(loaded: Any, source: Recipe | ModelSource) -> Any:
    """Note on a model what it was loaded from, so that it can be published as the merge it is."""
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    model.hubmerge_source = source
    return loaded


def _from_recipe(plan: Plan, kwargs: dict[str, Any], source: Recipe | ModelSource) -> PreTrainedModel:
    return _remember(assemble_model(plan, kwargs), source)


def _put_together(
    plan: Plan | AssemblyPlan | MalPlan | AdapterPlan, kwargs: dict[str, Any], token: str | None
) -> PreTrainedModel:
    """Unlike models are put together as a whole, and aligned ones read copies: into a temporary folder, gone once the merge is loaded."""
    from tempfile import TemporaryDirectory

    from hubmerge.assemble import merge_plan

    name = plan.recipe.name or f"hubmerge-{plan.hash[:12]}"
    with TemporaryDirectory(prefix="hubmerge-") as place:
        folder = Path(place) / "merged"
        merge_plan(plan, folder, digest=False)
        if plan.recipe.output.kind == "adapter":
            return _remember(_with_adapter(folder, kwargs, token, trust=False), plan.recipe)
        loaded = load_whole(
            model_class(read_folder_config(folder), name), folder, kwargs, name, lacking="the merge does not have"
        )
        model: PreTrainedModel = loaded[0] if isinstance(loaded, tuple) else loaded
    model.config.name_or_path = model.name_or_path = name
    return _remember(loaded, plan.recipe)


def _trusted_class(config: Mapping[str, Any]) -> Any:
    """The Auto class of transformers that loads the model's own code; None when its config names none."""
    import transformers

    own = config.get("auto_map")
    named = [name for name in (own if isinstance(own, Mapping) else ()) if name.startswith("AutoModel")]
    chosen = next((name for name in named if name != "AutoModel"), "AutoModel" if named else None)
    return getattr(transformers, chosen, None) if chosen else None


def _with_adapter(folder: Path, kwargs: dict[str, Any], token: str | None, *, trust: bool) -> PreTrainedModel:
    """The base model of a PEFT adapter with the adapter on it."""
    config = read_json_object(folder / "adapter_config.json")
    if config is None:
        raise PlanError("no readable adapter_config.json", where=str(folder), hint="merge again, or fetch it again")
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base:
        raise PlanError("the adapter does not name its base model", where=str(folder), hint="merge again")
    loaded = AutoMergedModel.from_pretrained(base, revision=revision, token=token, trust_remote_code=trust, **kwargs)
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    with faults_of_transformers(str(folder)):
        model.load_adapter(str(folder))
    model.eval()
    return loaded


class _TensorSlice:
    """One merged tensor that is computed when transformers reads it (the interface of safetensors' slices)."""

    def __init__(self, plan: Plan, step: Step, files: InputFiles, known: Known) -> None:
        self._plan, self._step, self._files, self._known = plan, step, files, known

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

        compute(self._step, self._plan.method, self._files, Workspace(), emit, known=self._known)
        if output.dtype is DType.BOOL:
            merged = merged.view(np.bool_)
        tensor = torch.from_numpy(merged)
        if output.dtype is DType.BF16:
            tensor = tensor.view(torch.bfloat16)
        return tensor.reshape(output.shape)[index]


def assemble_model(plan: Plan, kwargs: dict[str, Any]) -> PreTrainedModel:
    """The merge of a plan whose files are here, straight into the model; kwargs are transformers'."""
    from transformers import AutoConfig, GenerationConfig

    donor = plan.parents[plan.config_donor]
    name = str(donor.reference.model)
    concrete = model_class(plan.config, name)
    check_labels(plan.config, name)
    with faults_of_transformers(name):
        config = AutoConfig.for_model(
            **{**plan.config, "model_type": plan.config.get("model_type", concrete.config_class.model_type)}
        )
    with InputFiles(plan.parents) as files:
        known = known_of(plan, pooled_states(plan, files, plan.jobs))
        slices = {step.output.name: _TensorSlice(plan, step, files, known) for step in plan.steps}
        loaded = load_whole(
            concrete,
            None,
            {**kwargs, "config": config, "state_dict": slices},
            name,
            lacking="the parents do not have",
        )
    model: PreTrainedModel = loaded[0] if isinstance(loaded, tuple) else loaded
    model.config.name_or_path = model.name_or_path = plan.recipe.name or f"hubmerge-{plan.hash[:12]}"
    if any(file.name == "generation_config.json" for file in plan.carried):
        with InputFiles(plan.parents) as files:
            folder = files.path(plan.config_donor, "generation_config.json").parent
        with faults_of_transformers(name):
            model.generation_config = GenerationConfig.from_pretrained(folder)
    return loaded
