"""Models of different initialisation, width or depth become one: alignment, partial matching, least squares."""

from __future__ import annotations

from hubmerge.heterogeneous.mal_decisions import Decision
from hubmerge.heterogeneous.mal_rounds import Assembled, assemble_from_zoo
from hubmerge.heterogeneous.merging import MergedModel, merge_models
from hubmerge.heterogeneous.report import GroupReport, Report

__all__ = ["Assembled", "Decision", "GroupReport", "MergedModel", "Report", "assemble_from_zoo", "merge_models"]
