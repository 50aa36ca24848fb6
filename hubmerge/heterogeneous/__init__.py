"""Models of different initialisation, width or depth become one: alignment, partial matching, least squares."""

from __future__ import annotations

from hubmerge.heterogeneous.merging import GroupReport, MergedModel, Report, merge_models

__all__ = ["GroupReport", "MergedModel", "Report", "merge_models"]
