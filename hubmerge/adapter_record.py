"""`AdapterRecord`: what a manifest says of LoRA adapters that were merged as adapters."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["AdapterRecord", "ModuleRecord"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModuleRecord(_Record):
    """One module.  ranks: of each adapter, None where it leaves the module alone; rank: of the merge.  energy: the share of the merged change's
    sum of squares that its factors have, 1 where the rank was not cut.
    """

    ranks: tuple[int | None, ...]
    rank: int
    energy: float


class AdapterRecord(_Record):
    """A merge of adapters, as it was carried out.

    kind: what was written.  basis: in which the method merged, none for PEFT's combinations.  base_model, base_revision: what the merge belongs
    to.  asked: the rank asked for, None for all.  differs: in what the adapters differed, and what became of it, in sentences.
    """

    kind: Literal["adapter", "dense"]
    basis: Literal["knots", "core", "none"]
    missing: Literal["zero", "intersect", "error"]
    base_model: str | None = None
    base_revision: str | None = None
    asked: int | None = None
    differs: tuple[str, ...] = ()
    modules: dict[str, ModuleRecord]

    @property
    def energy(self) -> float:
        """The mean of the modules' energies."""
        return sum(module.energy for module in self.modules.values()) / len(self.modules)

    @property
    def least(self) -> tuple[str, float]:
        """The module of which the least was kept, and how much."""
        name = min(self.modules, key=lambda module: self.modules[module].energy)
        return name, self.modules[name].energy
