"""Benchmarks of merges of adapters."""
