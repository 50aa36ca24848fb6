"""Calibration data: unlabelled rows that models are run on, found and checked without torch, drawn by seed, prepared in batches."""

from __future__ import annotations

from hubmerge.calibration.batches import Batches
from hubmerge.calibration.check import CalibrationFacts, check_calibration
from hubmerge.calibration.opening import open_calibration
from hubmerge.recipe_calibration import Calibration

__all__ = ["Batches", "Calibration", "CalibrationFacts", "check_calibration", "open_calibration"]
