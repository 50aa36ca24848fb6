"""AdaMerging: coefficients that make a merge sure of its answers on data without labels, by descent on the coefficients alone."""

from __future__ import annotations
