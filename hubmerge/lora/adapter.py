"""`Adapter`: the low-rank changes of one LoRA adapter, module by module, from memory or as `hubmerge.lora.reading` finds them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hubmerge.errors import PlanError

__all__ = ["Adapter", "Factors", "Kind", "adapter_of", "checked", "given_back", "of_kind"]

Kind = Literal["numpy", "torch"]
Matrix = NDArray[Any]


class Factors(NamedTuple):
    """One module's change ``scale * b @ a``: a (rank, in), b (out, rank), float32 or float64."""

    a: Matrix
    b: Matrix
    scale: float = 1.0

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the change."""
        return int(self.b.shape[0]), int(self.a.shape[1])


@dataclass(frozen=True)
class Adapter:
    """modules: name -> its factors, of convolutions with their kernel's sizes in one.  embeddings: those that are embeddings.

    kernels: of convolutions, the sizes of A's axes behind the rank and of B's behind the two.  config: adapter_config.json; empty for
    factors from memory.  copies: tensors of the base, by name, that were trained themselves (modules_to_save, biases).  biases: module ->
    what its B has as bias, with the scale.  carried: tables of the base, by name, that factors are added to and PEFT saves along.
    """

    name: str
    modules: Mapping[str, Factors]
    embeddings: frozenset[str] = frozenset()
    kernels: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    copies: Mapping[str, Matrix] = field(default_factory=dict)
    biases: Mapping[str, Matrix] = field(default_factory=dict)
    carried: Mapping[str, Matrix] = field(default_factory=dict)


def adapter_of(given: Any, name: str) -> tuple[Adapter, Kind]:
    """An adapter from ``{module: (A, B)}``, A (rank, in) and B (out, rank) of torch or numpy, and which of both it is.

    name: what errors call it.  Raises `PlanError` for what is no such mapping, and for factors that do not fit each other or are not finite.
    """
    if not isinstance(given, Mapping) or not given:
        hint = "name a folder, or give {module: (A, B)}"
        raise PlanError("an adapter is a folder or a mapping of modules to (A, B)", where=name, hint=hint)
    kinds: set[Kind] = set()
    modules = {}
    for module, pair in given.items():
        try:
            a, b = pair
        except (TypeError, ValueError):
            raise PlanError(f"{module!r} has no pair (A, B)", where=name, hint="give (A, B) for every module") from None
        both = [_matrix(each, f"{label} of {module!r}", name) for label, each in (("A", a), ("B", b))]
        kinds |= {kind for _, kind in both}
        modules[str(module)] = checked(Factors(both[0][0], both[1][0]), str(module), name)
    return Adapter(name, modules), "torch" if "torch" in kinds else "numpy"


def checked(factors: Factors, module: str, name: str) -> Factors:
    """The factors, if they fit each other and are finite."""
    a, b, _ = factors
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or not a.size or not b.size:
        raise PlanError(
            f"A {list(a.shape)} and B {list(b.shape)} of {module!r} are no factors of one change",
            where=name,
            hint="A is (rank, in) and B is (out, rank)",
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise PlanError(
            f"the factors of {module!r} have numbers that are not finite", where=name, hint="fetch it again"
        )
    return factors


def _matrix(value: Any, what: str, name: str) -> tuple[Matrix, Kind]:
    torch = sys.modules.get("torch")  # whoever has a torch tensor has imported it
    if torch is not None and isinstance(value, torch.Tensor):
        wide = torch.float64 if value.dtype == torch.float64 else torch.float32
        return value.detach().to("cpu", wide).numpy(), "torch"
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return value.astype(np.float64 if value.dtype == np.float64 else np.float32, copy=False), "numpy"
    kind = type(value).__name__
    hint = "convert it to float32"
    raise PlanError(f"{what} is a {kind}, no floating-point matrix of torch or numpy", where=name, hint=hint)


def given_back(factors: Factors, kind: Kind) -> tuple[Any, Any]:
    """(A, B) as the caller has them: float32 of torch or numpy, the scale in B."""
    return of_kind(factors.a, kind), of_kind(factors.b * factors.scale, kind)


def of_kind(values: Matrix, kind: Kind) -> Any:
    """Numbers as the caller has them: float32 of torch or numpy."""
    found = np.ascontiguousarray(values, np.float32)
    if kind == "numpy":
        return found
    import torch

    return torch.from_numpy(found)
