"""Symmetries of models: which tensor axes share an index, what may be done to it, and the proof that nothing changes.

`load_spec` reads a model's config and shapes against its family's table (`zoo_index.families`); `random_element` and
`transform` change a model without changing its function; `prove` shows that the table is right.
"""

from __future__ import annotations

from hubmerge.symmetry.elements import Element, Linear, Monomial, random_element
from hubmerge.symmetry.errors import SymmetryError
from hubmerge.symmetry.groups import Axis, Factor, Group, Kind, Role, Segment, SymmetrySpec, TensorSymmetry
from hubmerge.symmetry.load import load_spec
from hubmerge.symmetry.match import GroupMatch, Matching, match_weights
from hubmerge.symmetry.transform import transform
from hubmerge.symmetry.verify import Proof, prove, spec_of

__all__ = [
    "Axis",
    "Element",
    "Factor",
    "Group",
    "GroupMatch",
    "Kind",
    "Linear",
    "Matching",
    "Monomial",
    "Proof",
    "Role",
    "Segment",
    "SymmetryError",
    "SymmetrySpec",
    "TensorSymmetry",
    "load_spec",
    "match_weights",
    "prove",
    "random_element",
    "spec_of",
    "transform",
]
