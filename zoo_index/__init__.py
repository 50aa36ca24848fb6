"""zoo_index: which models and adapters exist, what they are, and what can be merged with what.  Never imports torch."""

from zoo_index.answers import Match
from zoo_index.architecture import Architecture, FieldDifference, read_architecture
from zoo_index.catalog import Catalog
from zoo_index.compat import Compatibility, Level, Reason, compare, differing_fields
from zoo_index.errors import (
    CatalogError,
    CheckpointError,
    HubError,
    HubmergeError,
    HubUnavailableError,
    ModelNotFoundError,
    ReferenceFormatError,
)
from zoo_index.hub import LocalFolder, ModelSource, cached_models, open_source
from zoo_index.hub_listing import HubFacts
from zoo_index.lineage import Edge
from zoo_index.lineage_answers import CommonAncestor, Lineage, Link, Relative
from zoo_index.lineage_graph import LineageGraph
from zoo_index.metadata import AdapterFacts, ModelRecord, read_adapter_record, read_record
from zoo_index.reference import ModelRef, PinnedRef
from zoo_index.sync_report import SyncReport
from zoo_index.table import Table
from zoo_index.tensors import DType, TensorMeta, TensorTable

__all__ = [
    "AdapterFacts",
    "Architecture",
    "Catalog",
    "CatalogError",
    "CheckpointError",
    "CommonAncestor",
    "Compatibility",
    "DType",
    "Edge",
    "FieldDifference",
    "HubError",
    "HubFacts",
    "HubUnavailableError",
    "HubmergeError",
    "Level",
    "Lineage",
    "LineageGraph",
    "Link",
    "LocalFolder",
    "Match",
    "ModelNotFoundError",
    "ModelRecord",
    "ModelRef",
    "ModelSource",
    "PinnedRef",
    "Reason",
    "ReferenceFormatError",
    "Relative",
    "SyncReport",
    "Table",
    "TensorMeta",
    "TensorTable",
    "cached_models",
    "compare",
    "differing_fields",
    "open_source",
    "read_adapter_record",
    "read_architecture",
    "read_record",
]
