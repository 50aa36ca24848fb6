"""A merged folder loaded with transformers, an adapter by PEFT, and run once, on an input that is made up for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo_index.errors import HubmergeError

__all__ = ["reloaded"]


def reloaded(folder: Path) -> tuple[bool | None, str]:
    """Whether transformers loads the model in `folder` and its outputs on a made-up input are finite, with a sentence; None where it was
    not to be run.
    """
    import torch

    from hubmerge.model_config import model_class, read_folder_config

    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        return _adapter_reloaded(folder)

    try:
        concrete = model_class(read_folder_config(folder), str(folder))
        model, info = concrete.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    except HubmergeError as fault:
        return False, f"transformers cannot load it: {fault}"
    except Exception as error:  # a strange config lets transformers fail in every way there is
        return False, f"transformers cannot load it ({type(error).__name__}: {_one_line(error)})"
    odd = [
        f"{kind} {min(info[key])!r}"
        for kind, key in (("missing", "missing_keys"), ("unexpected", "unexpected_keys"))
        if info[key]
    ]
    if odd:
        return False, f"{concrete.__name__} and the tensors do not match: {', '.join(odd)}"
    return _run(model, model, concrete.__name__)


def _adapter_reloaded(folder: Path) -> tuple[bool | None, str]:
    """The same for an adapter on its base, as far as that is on this disk."""
    import warnings

    import torch

    from hubmerge.loading import AutoMergedModel
    from zoo_index.cache import cached_snapshot
    from zoo_index.reference import ModelRef, PinnedRef
    from zoo_index.source import LocalFolder

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not base:
        return None, "not tried: the adapter does not name its base model"
    try:
        here = (
            LocalFolder(Path(base), PinnedRef(ModelRef(base)))
            if Path(base).is_dir()
            else cached_snapshot(ModelRef.of(base, revision))
        )
        if here is None or not any(name.endswith(".safetensors") for name in here.files()):
            return None, f"not tried: its base model {base} is not on this disk"
        model = AutoMergedModel.from_pretrained(here.folder, dtype=torch.float32)
    except HubmergeError as fault:
        return None, f"not tried: its base model cannot be loaded ({fault.faults[0]})"
    kind = type(model).__name__
    try:
        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for what is going away
            # PEFT only warns of modules that the file has no factors of; they would be as they start
            warnings.filterwarnings("error", message="Found missing adapter keys")
            adapted = PeftModel.from_pretrained(model, folder)
    except Exception as error:  # a strange config lets PEFT fail in every way there is
        return False, f"PEFT cannot load it on {kind} ({type(error).__name__}: {_one_line(error)})"
    return _run(adapted, model, f"a PeftModel of {kind}")


def _run(model: Any, made_for: Any, name: str) -> tuple[bool | None, str]:
    """Whether the outputs are finite.  made_for: the model whose config says what goes in."""
    import torch

    from hubmerge.made_up_inputs import made_up_inputs

    try:
        with torch.no_grad():
            outputs = model(**made_up_inputs(made_for))
    except Exception as error:  # any model's forward, on inputs it was not written for
        return (
            None,
            f"{name} loads; it could not be run on a made-up input ({type(error).__name__}: {_one_line(error)})",
        )
    tensors = [value for value in outputs.values() if isinstance(value, torch.Tensor)]
    if not tensors or not all(bool(torch.isfinite(value).all()) for value in tensors):
        return False, f"{name} loads, but its outputs are not finite"
    return True, f"{name} loads, its outputs are finite"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
