"""Every merge method, one file per family; a new method is one file and one line here."""

from hubmerge.methods import isotropic, linear, passthrough, spherical, task_vectors, ties

__all__ = ["isotropic", "linear", "passthrough", "spherical", "task_vectors", "ties"]
