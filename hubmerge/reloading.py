"""A merged folder loaded with transformers and run once, on an input that is made up for it."""

from __future__ import annotations

from pathlib import Path

from zoo_index.errors import HubmergeError

__all__ = ["reloaded"]


def reloaded(folder: Path) -> tuple[bool | None, str]:
    """Whether transformers loads the model in `folder` and its outputs on a made-up input are finite, with a sentence; None where it was
    not to be run.
    """
    import torch

    from hubmerge.made_up_inputs import made_up_inputs
    from hubmerge.model_config import model_class, read_folder_config

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
    try:
        with torch.no_grad():
            outputs = model(**made_up_inputs(model))
    except Exception as error:  # any model's forward, on inputs it was not written for
        return (
            None,
            f"{concrete.__name__} loads; it could not be run on a made-up input ({type(error).__name__}: {_one_line(error)})",
        )
    tensors = [value for value in outputs.values() if isinstance(value, torch.Tensor)]
    if not tensors or not all(bool(torch.isfinite(value).all()) for value in tensors):
        return False, f"{concrete.__name__} loads, but its outputs are not finite"
    return True, f"{concrete.__name__} loads, its outputs are finite"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
