"""What fine-tunes learned on top of their base: how alike it is, as adapters, and which directions of theirs the base lacks."""

from __future__ import annotations

from hubmerge.deltas.comparing import kinship
from hubmerge.deltas.extraction import extract_adapter
from hubmerge.deltas.extraction_record import Extraction
from hubmerge.deltas.intruders import intruder_dimensions
from hubmerge.deltas.intruders_record import Intruders
from hubmerge.deltas.kinship_record import Kinship

__all__ = ["Extraction", "Intruders", "Kinship", "extract_adapter", "intruder_dimensions", "kinship"]
