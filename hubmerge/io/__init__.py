"""Bytes in and out: reading parents in chunks, laying out and writing the merged checkpoint."""
