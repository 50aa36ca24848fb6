"""Benchmarks of the merge engine: each module with a `main` is one command, `python -m benchmarks.engine.NAME`."""
