"""Models of different initialisation, width or depth become one: alignment, partial matching, least squares."""

from __future__ import annotations

from hubmerge.heterogeneous.carrying import Donor
from hubmerge.heterogeneous.mal_decisions import Decision
from hubmerge.heterogeneous.mal_rounds import Assembled, assemble_from_zoo
from hubmerge.heterogeneous.merging import MergedModel, merge_models
from hubmerge.heterogeneous.report import GroupReport, Report
from hubmerge.heterogeneous.transport import Carried, Transported, TransportReport, transport_deltas

__all__ = [
    "Assembled",
    "Carried",
    "Decision",
    "Donor",
    "GroupReport",
    "MergedModel",
    "Report",
    "TransportReport",
    "Transported",
    "assemble_from_zoo",
    "merge_models",
    "transport_deltas",
]
