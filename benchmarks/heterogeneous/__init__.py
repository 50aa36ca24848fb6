"""Benchmarks of merging models trained apart: what is merged, how it is measured, and what it is held against."""
