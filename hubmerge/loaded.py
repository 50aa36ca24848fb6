"""A model that transformers loads, whole: what goes wrong there as one error of ours, and no tensor left random."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubmerge.errors import MergeError
from zoo_index.errors import HubmergeError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["faults_of_transformers", "load_whole"]

_LONGEST_REASON = 200
"""Characters of an error of transformers that are shown: some list every model there is."""
_MEND = "mend config.json or the weights, or the arguments given to from_pretrained"


@contextmanager
def faults_of_transformers(where: str, mend: str = _MEND) -> Iterator[None]:
    """One `MergeError` for whatever transformers raises; what this machine lacks (memory, a package) is no fault of a model.

    mend: the hint where it is not known what is wrong.
    """
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except (HubmergeError, ImportError, MemoryError, torch.OutOfMemoryError):
        raise
    except SafetensorError as error:
        raise MergeError(
            f"the weights are damaged ({_one_line(error)})", where=where, hint="fetch or merge them again"
        ) from error
    except Exception as error:  # a strange config lets transformers fail in every way there is
        raise MergeError(
            f"transformers cannot load it ({type(error).__name__}: {_one_line(error)})", where=where, hint=mend
        ) from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 3]}..."


def load_whole(
    concrete: type[PreTrainedModel],
    folder: Path | None,
    kwargs: Mapping[str, Any],
    where: str,
    *,
    lacking: str,
    named: str = "merge models of the class that is loaded",
    mend: str = _MEND,
) -> PreTrainedModel:
    """What transformers loads (with its loading info when `kwargs` ask for it); refused when tensors of the class are missing.

    lacking: who does not have them; named: what to do then; mend: as for `faults_of_transformers`.
    """
    wants_info = bool(kwargs.get("output_loading_info"))
    own_code = bool(kwargs.get("trust_remote_code"))  # what that raises is its own, and not for us to explain
    with nullcontext() if own_code else faults_of_transformers(where, mend):
        model, info = concrete.from_pretrained(folder, **{**kwargs, "output_loading_info": True})
    missing = sorted(info["missing_keys"])
    if missing:
        raise MergeError(
            f"{concrete.__name__} needs {len(missing)} tensors that {lacking} (first {missing[0]!r})",
            where=where,
            hint=f"a head that was never trained would be random; {named}",
        )
    return (model, info) if wants_info else model
