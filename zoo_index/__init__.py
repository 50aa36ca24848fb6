"""zoo_index: which models and adapters exist, what they are, and what can be merged with what.  Never imports torch."""

from zoo_index.errors import CatalogError, CheckpointError, HubmergeError, ModelNotFoundError, ReferenceFormatError
from zoo_index.hub import LocalFolder, ModelSource, cached_models, open_source
from zoo_index.reference import ModelRef, PinnedRef
from zoo_index.tensors import DType, TensorMeta, TensorTable

__all__ = [
    "CatalogError",
    "CheckpointError",
    "DType",
    "HubmergeError",
    "LocalFolder",
    "ModelNotFoundError",
    "ModelRef",
    "ModelSource",
    "PinnedRef",
    "ReferenceFormatError",
    "TensorMeta",
    "TensorTable",
    "cached_models",
    "open_source",
]
