"""`SymmetryError`: an architecture without a symmetry table, or a model that its table does not describe."""

from __future__ import annotations

from zoo_index.errors import HubmergeError

__all__ = ["SymmetryError"]


class SymmetryError(HubmergeError):
    """No symmetry table for the architecture, or the table, the config and the tensors disagree."""
