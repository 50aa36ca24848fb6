"""Models to be scored: a reference -> files, sizes and names -> a loaded transformers model that means what it says.

A model whose head was not in its files is refused: transformers would fill it with random numbers, and the score
would be that of the random numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cards.errors import EvaluationError
from cards.names import reference_from, short_names
from cards.suite import TaskKind
from cards.trunk import head_modules
from hubmerge.manifest import MANIFEST_NAME, read_manifest
from zoo_index.checkpoint import read_adapter_table, read_config, read_json, read_tensor_table
from zoo_index.hub import ModelSource, open_source
from zoo_index.reference import ModelRef

__all__ = ["Candidate", "LoadedModel", "find_candidates", "load_model", "quiet_libraries"]

_AUTO_CLASS: dict[TaskKind, str] = {
    "image-classification": "AutoModelForImageClassification",
    "text-classification": "AutoModelForSequenceClassification",
    "perplexity": "AutoModelForCausalLM",
}
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt",
)  # fmt: skip
_SMALL_FILES = (".json", ".txt", ".model", ".jinja")
"""How the files beside the weights end: configs, processors, tokenizers, chat templates."""
_ADAPTER_CONFIG = "adapter_config.json"
_IMAGE_FILES = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class Candidate:
    """A model to score whose files were found and whose weight headers are sound; nothing is loaded yet.

    weights, adapter_weights: the names of their weight files.  parameters and size_bytes: floating-point elements and
    all bytes of its tensors, the adapter's too.  merge: the plan hash when the folder is a hubmerge merge.
    """

    named: str
    name: str
    source: ModelSource
    adapter: ModelSource | None
    weights: tuple[str, ...]
    adapter_weights: tuple[str, ...]
    parameters: int
    size_bytes: int
    merge: str | None

    @property
    def folder(self) -> Path:
        """The local folder that `from_pretrained` takes."""
        return self.source.path("config.json").parent


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode on its device, with the processor or tokenizer that belongs to it.

    unused: tensors of its files that this class of model does not have.
    """

    candidate: Candidate
    kind: TaskKind
    model: Any
    processor: Any
    device: Any
    unused: tuple[str, ...]


def find_candidates(models: Sequence[str | Path]) -> list[Candidate]:
    """Look every model up before any is loaded: its files, its headers, its public name.

    Raises the errors of `zoo_index` for models that are not there or cannot be read.
    """
    if isinstance(models, str | Path):
        raise EvaluationError("models must be a list", where=str(models), hint=f"write [{str(models)!r}]")
    if not models:
        raise EvaluationError("no model to evaluate", hint="name at least one: a folder or org/name")
    opened = [_open(reference_from(model)) for model in models]
    names = short_names([found for found, _, _ in opened])
    return [
        _candidate(str(model), name, source, adapter, alone=found.adapter is None)
        for model, name, (found, source, adapter) in zip(models, names, opened, strict=True)
    ]


def _open(reference: ModelRef) -> tuple[ModelRef, ModelSource, ModelSource | None]:
    """What was found, by name (a plain ``a/b`` that turned out to be a folder is a folder here), the model and its adapter.

    An adapter that is named alone comes with the base model that its config names.
    """
    source = open_source(reference.model)
    adapter = open_source(reference.adapter) if reference.adapter else None
    own = source.pinned.reference
    if adapter is None and _ADAPTER_CONFIG in source.files() and "config.json" not in source.files():
        return ModelRef(own.name, own.revision), open_source(_base_of(source)), source
    return ModelRef(own.name, own.revision, adapter.pinned.reference if adapter else None), source, adapter


def _base_of(adapter: ModelSource) -> ModelRef:
    config = read_json(adapter, _ADAPTER_CONFIG) or {}
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not base:
        raise EvaluationError(
            "the adapter does not name its base model", where=str(adapter.pinned), hint="name both: base+adapter"
        )
    found = reference_from(str(base))
    return found if found.is_local or not revision else ModelRef(found.name, str(revision))


def _candidate(named: str, name: str, source: ModelSource, adapter: ModelSource | None, *, alone: bool) -> Candidate:
    """alone: whether a model or an adapter was named by itself, which may be a merge."""
    read_config(source)
    tables = [read_tensor_table(source)]
    if adapter is not None:
        tables.append(read_adapter_table(adapter))
    own = adapter or source
    is_merge = alone and MANIFEST_NAME in own.files()
    return Candidate(
        named=named,
        name=name,
        source=source,
        adapter=adapter,
        weights=tables[0].files,
        adapter_weights=tables[1].files if adapter else (),
        parameters=sum(table.parameters for table in tables),
        size_bytes=sum(table.nbytes for table in tables),
        merge=read_manifest(own.path(MANIFEST_NAME).parent).plan_hash if is_merge else None,
    )


def load_model(candidate: Candidate, kind: TaskKind, device: str, *, own_head: bool = True) -> LoadedModel:
    """Load `candidate` for tasks of `kind` in the dtype it is stored in, on `device` (``auto``: accelerate's choice).

    own_head: False when every task brings a head, so that the model's own may be missing.

    Raises `EvaluationError` that names the model when its processor or tokenizer is missing, when transformers has no
    such head for its architecture, and when weights would be newly initialised.
    """
    import accelerate
    import torch
    import transformers

    try:
        placed = accelerate.PartialState().device if device == "auto" else torch.device(device)
    except RuntimeError as error:
        raise EvaluationError(f"no device {device!r}", hint="auto, cpu, cuda, cuda:1 or mps") from error
    _bring_here(candidate)
    processor = _load_processor(candidate, kind)
    auto = getattr(transformers, _AUTO_CLASS[kind])
    try:
        model, info = auto.from_pretrained(
            candidate.folder,
            dtype="auto",
            device_map={"": placed},
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # files that do not fit together let transformers fail in every way there is
        raise _load_fault(candidate, kind, error) from error
    missing = set(info["missing_keys"])
    if missing and not own_head:
        own = head_modules(model)
        missing = {name for name in missing if name.split(".")[0] not in own}
    if candidate.adapter is not None:
        model, supplied = _with_adapter(candidate, kind, model)
        missing -= supplied
    if missing:
        shown = ", ".join(sorted(missing)[:4]) + (" and others" if len(missing) > 4 else "")
        raise EvaluationError(
            f"{candidate.name} has no trained weights for {kind}: {shown} would be random",
            where=candidate.named,
            hint=f"name a model that was saved as {auto.__name__} loads it, or leave such tasks out of the suite",
        )
    model.eval()
    return LoadedModel(candidate, kind, model, processor, placed, tuple(sorted(info["unexpected_keys"])))


def _bring_here(candidate: Candidate) -> None:
    """Have every file that loading needs on this disk, in the folder that `from_pretrained` will be given."""
    for source, weights in ((candidate.source, candidate.weights), (candidate.adapter, candidate.adapter_weights)):
        if source is not None:
            for name in source.files():
                if name in weights or ("/" not in name and name.endswith(_SMALL_FILES)):
                    source.path(name)


def _load_processor(candidate: Candidate, kind: TaskKind) -> Any:
    import transformers

    wanted = _IMAGE_FILES if kind == "image-classification" else _TOKENIZER_FILES
    what = "image processor" if kind == "image-classification" else "tokenizer"
    sources = [source for source in (candidate.adapter, candidate.source) if source is not None]
    holder = next((source for source in sources if any(name in source.files() for name in wanted)), None)
    if holder is None:
        raise EvaluationError(
            f"{candidate.name} has no {what}, so nothing can be put into it for {kind}",
            where=candidate.named,
            hint=f"save the {what} into the model's folder (expected {wanted[0]})",
        )
    auto = transformers.AutoImageProcessor if kind == "image-classification" else transformers.AutoTokenizer
    try:
        return auto.from_pretrained(holder.path(wanted[0]).parent, local_files_only=True)
    except Exception as error:
        raise EvaluationError(
            f"the {what} of {candidate.name} cannot be loaded ({_first_line(error)})",
            where=candidate.named,
            hint=f"save the {what} again with save_pretrained",
        ) from error


def _with_adapter(candidate: Candidate, kind: TaskKind, model: Any) -> tuple[Any, set[str]]:
    """The model with its adapter on top, and which of the base's tensors the adapter brings itself."""
    assert candidate.adapter is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for what is going away
        # PEFT only warns when the adapter's tensors do not cover its own modules; the score would be the base's
        warnings.filterwarnings("error", message="Found missing adapter keys")
        try:
            from peft import PeftModel

            folder = candidate.adapter.path("adapter_config.json").parent
            adapted = PeftModel.from_pretrained(model, folder)
        except Exception as error:  # UserWarning among them
            raise _load_fault(candidate, kind, error) from error
    names = read_adapter_table(candidate.adapter)
    return adapted, {name.removeprefix("base_model.model.") for name in names}


def _load_fault(candidate: Candidate, kind: TaskKind, error: Exception) -> EvaluationError:
    return EvaluationError(
        f"{candidate.name} cannot be loaded for {kind} ({_first_line(error)})",
        where=candidate.named,
        hint=f"see whether transformers' {_AUTO_CLASS[kind]}.from_pretrained loads it",
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(": ") if lines else type(error).__name__


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the bars and warnings of transformers and datasets; what matters of them becomes an error or a note."""
    import datasets
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    data_bars = datasets.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if not data_bars:
            datasets.enable_progress_bars()
