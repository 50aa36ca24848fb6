"""zoo_index: which models and adapters exist, what they are, and what can be merged with what.  Never imports torch.

Names are loaded when they are first used, so that a module with few needs, such as `zoo_index.errors`, comes alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "AdapterFacts": "zoo_index.metadata",
    "Architecture": "zoo_index.architecture",
    "Catalog": "zoo_index.catalog",
    "CatalogError": "zoo_index.errors",
    "CheckpointError": "zoo_index.errors",
    "CommonAncestor": "zoo_index.lineage_answers",
    "Compatibility": "zoo_index.compat",
    "DType": "zoo_index.tensors",
    "Edge": "zoo_index.lineage",
    "FieldDifference": "zoo_index.architecture",
    "HubError": "zoo_index.errors",
    "HubFacts": "zoo_index.hub_listing",
    "HubUnavailableError": "zoo_index.errors",
    "HubmergeError": "zoo_index.errors",
    "Level": "zoo_index.compat",
    "Lineage": "zoo_index.lineage_answers",
    "LineageGraph": "zoo_index.lineage_graph",
    "Link": "zoo_index.lineage_answers",
    "LocalFolder": "zoo_index.hub",
    "Match": "zoo_index.answers",
    "ModelNotFoundError": "zoo_index.errors",
    "ModelRecord": "zoo_index.metadata",
    "ModelRef": "zoo_index.reference",
    "ModelSource": "zoo_index.hub",
    "PinnedRef": "zoo_index.reference",
    "Reason": "zoo_index.compat",
    "ReferenceFormatError": "zoo_index.errors",
    "Relative": "zoo_index.lineage_answers",
    "SyncReport": "zoo_index.sync_report",
    "Table": "zoo_index.table",
    "TensorMeta": "zoo_index.tensors",
    "TensorTable": "zoo_index.tensors",
    "cached_models": "zoo_index.hub",
    "compare": "zoo_index.compat",
    "differing_fields": "zoo_index.compat",
    "open_source": "zoo_index.hub",
    "read_adapter_record": "zoo_index.metadata",
    "read_architecture": "zoo_index.architecture",
    "read_record": "zoo_index.metadata",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
