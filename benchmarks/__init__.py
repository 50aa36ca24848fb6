"""Benchmarks: commands that measure what the documentation says of speed, memory and accuracy."""
