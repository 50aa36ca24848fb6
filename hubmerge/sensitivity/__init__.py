"""How sensitive a model's layers are to their weights on data, how far models' answers lie apart, and the coefficients of Sens-Merging."""

from __future__ import annotations
