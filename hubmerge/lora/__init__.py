"""LoRA adapters merged as adapters: in bases that they share (KnOTS, core space), or as PEFT combines them."""

from __future__ import annotations

from hubmerge.lora.merging import MergedAdapter, merge_adapters
from hubmerge.lora.plain import plain_adapter

__all__ = ["MergedAdapter", "merge_adapters", "plain_adapter"]
